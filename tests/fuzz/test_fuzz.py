"""Mutated files of every reader: the data, or a clean error (`tests/helpers/fuzzed.py`).

SLEEPTOOLS_FUZZ_SECONDS is the time for all readers together (20), SLEEPTOOLS_FUZZ_SEED the seed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.mark.slow
def test_no_mutated_file_does_harm() -> None:
    seconds = float(os.environ.get("SLEEPTOOLS_FUZZ_SECONDS", "20"))
    seed = os.environ.get("SLEEPTOOLS_FUZZ_SEED", str(time.time_ns() % 1_000_000))
    print(f"SLEEPTOOLS_FUZZ_SEED={seed}")
    command = [sys.executable, "-m", "fuzzed", "all", seed, "1000000", str(seconds)]
    done = subprocess.run(command, cwd=HELPERS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, f"seed {seed}:\n{done.stdout}"
