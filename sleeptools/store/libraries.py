"""The line that installs a library which is not there, for the Python that runs."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

TORCH: Final = "torch>=2.6"
"""As in pyproject.toml; a machine that only scores leaves it out (requirements-score.txt)."""


def install_line(*libraries: str) -> str:
    """Write the line to type: pip's, or this Python's own where `pip` is another's or nobody's."""
    names = shlex.join(libraries)
    pip = shutil.which("pip")
    if pip and Path(pip).parent.resolve() == Path(sys.executable).parent.resolve():
        return f"pip install {names}"
    return f"{shlex.quote(sys.executable)} -m pip install {names}"
