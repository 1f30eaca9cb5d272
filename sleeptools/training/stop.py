"""Stopping on a signal: the present step is finished, a checkpoint written, exit code 75."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from sleeptools.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether a stop signal has come."""

    def __init__(self) -> None:
        self.signal = ""

    def check(self) -> None:
        """Raise where stopping is safe.

        Raises
        ------
        Stopped
            If a signal has come.
        """
        if self.signal:
            raise Stopped(
                f"stopped by {self.signal}; a checkpoint is written",
                hint="run the same command again to continue from it",
            )

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; a second Ctrl-C takes its usual course at once.

        Of the others a second one is no other wish: scancel sends TERM to a job's script, which
        passes it on, and to this process as well.
        """
        if self.signal and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = self.signal or signal.Signals(number).name


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Note stop signals instead of ending at once; without effect outside the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
