"""Read and write the file formats of the field, one module each, recognised by their content.

A format module has `accepts(path, head)`, or in addition `resembles(path, head)`, which is asked
where nothing accepts a file, and one or both of `read(path)`, which may also take `ignore_channels`
if the module has `present_channels`, and `read_hypnogram(path, scheme, epoch_seconds)`, which may
also take `epoch_from_onsets`, where a stage has a duration, and `scorer`, where a row has one
(`ASKED`). A format that can be written has `write_hypnogram(hypnogram, path)`, `SUFFIXES`, the file
endings that mean this format only, and `sidecar(path)` if it writes a second file. One that may
hold how sure a stage is has `read_density(path)` or `read_confidence(path, hypnogram)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, TypedDict, Unpack

from sleeptools import registry, store
from sleeptools.errors import (
    AnnotationsOnlyError,
    DataError,
    MissingInputError,
    NoStagesError,
    UsageError,
    did_you_mean,
)
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.label_schemes import Scheme
from sleeptools.recording.recording import Recording, read_recording

HEAD_BYTES = 4096  # bytes of a file's start that `accepts` gets


def find(path: Path) -> ModuleType:
    """Find the module for a file's format.

    Raises
    ------
    MissingInputError
        If the file does not exist, or is a pipe or a device, which cannot be read twice.
    DataError
        If its format is unknown; the message shows how the file starts.
    """
    if not (store.need(path).is_file() or path.is_dir()):
        raise MissingInputError(
            f"{path}: is a pipe or a device", hint="write it to a file first", code="FILE-READ"
        )
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for question in ("accepts", "resembles"):
        for name in registry.names("formats"):  # loaded one by one: most files are of an early one
            module = registry.load("formats", name)
            if hasattr(module, question) and getattr(module, question)(path, head):
                return module
    raise DataError(
        f"{path}: not a file of a known format (starts with {head[:16]!r})",
        hint=f"known formats: {', '.join(registry.names('formats'))}",
        code="FILE-FORMAT",
    )


def read(path: Path, *, ignore_channels: Sequence[str] = ()) -> Recording:
    """Read a recording of any known format; samples stay on the disk until they are used.

    Parameters
    ----------
    ignore_channels
        Labels of signals to leave out, as far as the file has them.

    Raises
    ------
    AnnotationsOnlyError
        If files of this format hold no signals.
    DataError
        If the format is unknown, or the file is damaged.
    """
    module = _with_function(path, "read")
    recording: Recording
    if hasattr(module, "present_channels"):
        labels = module.present_channels(path, ignore_channels)
        recording = module.read(path, ignore_channels=labels)
        return recording
    recording = module.read(path)
    return recording.without(ignore_channels)


def read_any(path: Path | str, *, ignore_channels: Sequence[str] = ()) -> Recording:
    """Read a recording of this package (.safetensors), or one of any known format as `read`."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_recording(path).without(ignore_channels)
    return read(path, ignore_channels=ignore_channels)


class ReadSettings(TypedDict, total=False):
    """How a hypnogram is read: the settings of `read_hypnogram`."""

    scheme: str | Scheme | None
    epoch_seconds: float | None
    epoch_from_onsets: bool
    scorer: str | None
    ignore_bad_annotations: bool


ASKED: Final = {
    "epoch_from_onsets": "stages with durations",
    "scorer": "a column of scorers",
    "ignore_bad_annotations": "EDF annotations",
}
"""Settings that are for some formats only, and what these formats have."""


def read_hypnogram(path: Path | str, **settings: Unpack[ReadSettings]) -> Hypnogram:
    """Read a hypnogram of any known format.

    Parameters
    ----------
    settings
        `scheme`: what the labels mean, a scheme, or a name in `label_schemes.SCHEMES`; needed for
        bare numbers. `epoch_seconds`: length of an epoch, 1 to 60 s, if the file does not say it.
        `epoch_from_onsets`: let stages without a duration last to the next one, and the last for
        one epoch. `scorer`: whose rows to read from a table with a column `scorer`.
        `ignore_bad_annotations`: pass over malformed annotations of an EDF file.

    Raises
    ------
    UsageError
        For an unknown scheme, a length of an epoch outside 1 to 60 s, or a setting that does not
        fit the format.
    DataError
        If the format is unknown, or the file is damaged, ambiguous, or without stages.
    """
    path = Path(path)
    seconds = settings.get("epoch_seconds")
    if seconds is not None and not 1 <= seconds <= 60:  # noqa: PLR2004 - s
        raise UsageError(f"an epoch of {seconds:g} s; expected 1 to 60 s")
    read = _with_function(path, "read_hypnogram").read_hypnogram
    taken = inspect.signature(read).parameters
    for name in ASKED:
        if settings.get(name) and name not in taken:
            raise UsageError(
                f"{path}: its format has no {ASKED[name]}; leave out `{name}`", code="USE-TOGETHER"
            )
    hypnogram: Hypnogram = read(path, **{k: v for k, v in settings.items() if k in taken})
    return hypnogram


def writers(stages: Sequence[str] = ()) -> list[str]:
    """List the formats in which hypnograms can be written, of those that have words for stages."""
    every = ((n, registry.load("formats", n)) for n in registry.names("formats"))
    return [
        name
        for name, module in every
        if hasattr(module, "write_hypnogram") and {*stages} <= {*getattr(module, "WORDS", stages)}
    ]


def writer(path: Path, to: str | None = None, stages: Sequence[str] = ()) -> ModuleType:
    """Find the module of the format to write, by the format's name or by the path's ending.

    Parameters
    ----------
    to
        Name of the format; by the path's ending if left out.
    stages
        Stages of the hypnogram, for a hint that lists no format without words for them.

    Raises
    ------
    UsageError
        For a format that cannot be written, or an ending that does not determine the format.
    """
    if to in registry.names("formats") and hasattr(registry.load("formats", to), "write_hypnogram"):
        return registry.load("formats", to)  # and none of the others, which take a while
    names = writers()
    if to is not None:
        similar, listed = did_you_mean(to, names), f"they are as: {', '.join(names)}"
        raise UsageError(
            f"hypnograms are not written as {to!r}",
            hint=f"{similar} {listed}" if similar else listed,
            code="USE-NAME",
        )
    for name in names:
        module = registry.load("formats", name)
        if path.name.lower().endswith(tuple(getattr(module, "SUFFIXES", ()))):
            return module
    raise UsageError(
        f"{path.name}: the ending does not tell the format",
        hint=f"name it with `to`: {', '.join(writers(stages))}",
    )


def write_hypnogram(hypnogram: Hypnogram, path: Path | str, *, to: str | None = None) -> list[str]:
    """Write a hypnogram; an existing file is replaced.

    Parameters
    ----------
    to
        Name of the format; by the path's ending if left out.

    Returns
    -------
    notes
        What the format cannot represent and is therefore merged or left out; usually empty.

    Raises
    ------
    UsageError
        As `writer`.
    DataError
        If the format has no word for a stage, or cannot represent when the epochs begin.
    """
    path = Path(path)
    notes: list[str] = writer(path, to).write_hypnogram(hypnogram, path)
    return notes


def _with_function(path: Path, function: str) -> ModuleType:
    """Find the module of a file's format, which must have `read` or `read_hypnogram`."""
    module = find(path)
    if not hasattr(module, function):
        name = module.__name__.rsplit(".", 1)[-1]
        if function == "read":
            raise AnnotationsOnlyError(f"{path}: a {name} file holds no signals")
        raise NoStagesError(f"{path}: a {name} file holds no stages")
    return module
