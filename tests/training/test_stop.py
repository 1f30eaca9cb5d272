"""Which signals stop a training at the next step, and which at once."""

import signal
import subprocess
import sys

import pytest

from sleeptools.errors import Stopped
from sleeptools.training.stop import catch_signals


@pytest.mark.parametrize("later", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_stop_signal_that_comes_twice_leaves_time_for_the_checkpoint(first, later):
    with catch_signals() as stop:
        signal.raise_signal(first)
        signal.raise_signal(later)
        with pytest.raises(Stopped, match=f"stopped by {first.name}"):
            stop.check()


def test_a_second_ctrl_c_ends_at_once():
    written = """
import signal
from sleeptools.training.stop import catch_signals
with catch_signals():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
"""
    ended = subprocess.run([sys.executable, "-c", written], check=False, timeout=300)
    assert ended.returncode == -signal.SIGINT
