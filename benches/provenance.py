"""Where and with what a benchmark was measured; goes into every result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

HELD_OUT_SEED = 7
"""Of simulated nights; the simulator was tuned on seeds 0 and 100."""


def machine(*libraries: str) -> str:
    """Processor architecture, cores, Python, and the versions of some libraries."""
    versions = [f"{name} {metadata.version(name)}" for name in libraries]
    cores = f"{os.cpu_count()} cores"
    return ", ".join([platform.machine(), cores, f"Python {platform.python_version()}", *versions])


def commit() -> str:
    """Commit that was measured, with "-dirty" if files were changed since."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
