"""Files of the field, one module per format, told apart by their content and never by their name.

A format module has `accepts(path, head)` and one or both of `read(path)` and
`read_hypnogram(path)`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from sleeptools import registry, store
from sleeptools.errors import DataError
from sleeptools.hypnogram import Hypnogram
from sleeptools.recording import Recording

HEAD = 4096  # bytes shown to `accepts`


def find(path: Path) -> ModuleType:
    """Find the format of a file.

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If no format knows it; the message shows how the file starts.
    """
    with store.need(path).open("rb") as file:
        head = file.read(HEAD)
    for name in registry.names("formats"):
        module = registry.load("formats", name)
        if module.accepts(path, head):
            return module
    raise DataError(
        f"{path}: not a file of a known format (starts with {head[:16]!r})",
        hint=f"known formats: {', '.join(registry.names('formats'))}",
    )


def read(path: Path) -> Recording:
    """Read a recording of any known format; samples stay on the disk until asked for."""
    recording: Recording = _able(path, "read")(path)
    return recording


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read a hypnogram of any known format.

    Parameters
    ----------
    scheme
        One of `stages.SCHEMES`; needed where a file has bare numbers.
    epoch_seconds
        Length of an epoch where the file does not tell it, s.
    """
    read = _able(path, "read_hypnogram")
    hypnogram: Hypnogram = read(path, scheme=scheme, epoch_seconds=epoch_seconds)
    return hypnogram


def _able(path: Path, what: str):  # type: ignore[no-untyped-def]  # a module's function
    module = find(path)
    if not hasattr(module, what):
        raise DataError(f"{path}: a {module.__name__.rsplit('.', 1)[-1]} file holds no such thing")
    return getattr(module, what)
