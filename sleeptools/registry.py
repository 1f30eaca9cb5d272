"""Find models, data sets, formats and native ops by name: each folder of modules is a registry.

The module `sleeptools/models/mmasleepnet.py` is the model `mmasleepnet` of the command line, where
an underscore of the file name is a hyphen. A folder of such modules is called a drawer.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from sleeptools.errors import UsageError, did_you_mean

ROOT = Path(__file__).parent
FOLDERS = {
    "ops": "models/ops",
    "networks": "inference/networks",
    "exporters": "commands/export/formats",
}
SINGULAR = {"models": "model", "datasets": "data set", "formats": "format", "ops": "op"}


def names(drawer: str) -> list[str]:
    """List the names in a drawer, sorted, as they are written on the command line."""
    files = (ROOT / FOLDERS.get(drawer, drawer)).glob("*.py")
    return sorted(f.stem.replace("_", "-") for f in files if not f.stem.startswith("_"))


def load(drawer: str, name: str) -> ModuleType:
    """Import one module of a drawer.

    Parameters
    ----------
    drawer
        "models", "datasets", "formats", "ops", "networks" or "exporters".
    name
        As written on the command line, for example "sleep-edf".

    Raises
    ------
    UsageError
        For an unknown name; the message lists the known ones.
    """
    choices = names(drawer)
    if name not in choices:
        raise UsageError(
            f"unknown {SINGULAR.get(drawer, drawer)} {name!r}; there are: {', '.join(choices)}",
            hint=did_you_mean(name, choices) or f"try 'sleeptools list {drawer}'",
            code="USE-NAME",
        )
    folder = FOLDERS.get(drawer, drawer).replace("/", ".")
    return importlib.import_module(f"sleeptools.{folder}.{name.replace('-', '_')}")
