"""What the Makefile gives to every command that it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_python_keeps_what_it_compiles() -> None:
    """Without, each command of a container that forbids it compiles torch anew."""
    command = ["make", "--eval", "settings:; @echo =$$PYTHONDONTWRITEBYTECODE=", "settings"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "==" in ran.stdout.splitlines()
