"""Loads an emulated core as `sleeptools._core`, for a process of its own."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

MODULE = "sleeptools._core"


def load_core(path: Path) -> ctypes.CDLL:
    """Put the core in the place of the built one; before sleeptools uses that."""
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec, path
    assert spec.loader, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return ctypes.CDLL(str(path))
