"""What paths of a command mean: recordings by file, folder or pattern, and the model `default`."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sleeptools import formats, inference, store
from sleeptools.errors import (
    AnnotationsOnlyError,
    MissingInputError,
    SleeptoolsError,
    UsageError,
    did_you_mean,
)

PATTERN: Final = frozenset("*?[")
RECORDING_SUFFIXES: Final = (".edf", ".bdf", ".rec", ".safetensors")
"""Files of a folder that are recordings even if they are too damaged to be recognised."""

DEFAULT: Final = "default"
SHIPPED: Final = {
    DEFAULT: Path(inference.__file__).with_name("default_model"),
    "yasa": Path(inference.__file__).with_name("yasa_model"),
}
"""Folder by name of the models that need no folder of the user's."""


def model_at(model: Path | str) -> Path:
    """Return a model's folder or file; the texts "default" and "yasa" are those that ship.

    Raises
    ------
    MissingInputError
        If there is none.
    UsageError
        If it is a file of another kind, such as a recording.
    """
    if isinstance(model, str) and model in SHIPPED:
        return SHIPPED[model]
    try:
        path = store.need(Path(model), "model")
    except MissingInputError as e:
        shipped = f"{e.hint}; models that need no folder: {', '.join(SHIPPED)}"
        hint = did_you_mean(str(model), [*SHIPPED]) or shipped
        raise MissingInputError(str(e), hint=hint, code=e.code) from None
    if path.is_file() and path.suffix != ".onnx":
        raise UsageError(f"{path}: is no model; the model comes before the recordings")
    return path


def recordings_among(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Find the recordings that paths name.

    Files that hold a hypnogram and no signals are left out, unless one is all that is named: then
    reading it says what it is. So are a folder's files of other kinds.

    Parameters
    ----------
    paths
        Files, folders with all below them, and patterns.

    Returns
    -------
    recordings
        Without repetitions, in the order of `paths` and by name within a folder or pattern.
    scorings
        The hypnogram files that were left out.

    Raises
    ------
    MissingInputError
        If a path does not exist, or a folder or pattern holds no recording.
    UsageError
        If two recordings have the same name.
    """
    files: dict[Path, bool] = {}
    for path in paths:
        for file, is_named in _files(path):
            files[file] = files.get(file, False) or is_named
    kinds = {file: file_kind(file, is_named=is_named) for file, is_named in files.items()}
    scorings = [file for file, kind in kinds.items() if kind == "scoring"]
    recordings = [file for file, kind in kinds.items() if kind == "recording"]
    if len(files) == 1 and scorings:
        return scorings, []
    if not recordings:
        raise MissingInputError(
            f"{', '.join(map(str, paths))}: no recording there",
            hint=f"of {len(files)} files {len(scorings)} are hypnograms",
            code="REC-NONE",
        )
    _check_names(recordings)
    return recordings, scorings


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """List the files that a path means, and whether they are named themselves."""
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name[0] != ".")
            yield from ((Path(folder) / name, False) for name in sorted(names) if name[0] != ".")
    elif not path.exists() and PATTERN & set(str(path)):
        for match in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - absolute, too
            yield from _files(Path(match)) if Path(match).is_dir() else [(Path(match), False)]
    else:
        yield store.need(path, "recording"), True


def file_kind(path: Path, *, is_named: bool) -> str:
    """Tell a "recording" from a "scoring" and an "other" file.

    Parameters
    ----------
    is_named
        Whether the file itself was named, and not a folder or pattern: then it is no "other" one.
    """
    unknown = "recording" if is_named or path.suffix.lower() in RECORDING_SUFFIXES else "other"
    if path.suffix == ".safetensors":
        return unknown
    try:
        module = formats.find(path)
        if not hasattr(module, "read"):
            return "scoring"
        if hasattr(module, "read_hypnogram"):  # files of this format may hold either
            module.read(path)
    except AnnotationsOnlyError:
        return "scoring"
    except (SleeptoolsError, OSError):
        return unknown
    return "recording"


def _check_names(recordings: Sequence[Path]) -> None:
    for path in recordings:
        store.check_id(path.stem, path)
    names = Counter(path.stem for path in recordings)
    name, count = names.most_common(1)[0]
    if count > 1:
        same = [str(path) for path in recordings if path.stem == name]
        raise UsageError(
            f"two recordings are named {name}: their scores would have one name",
            hint=f"score them into folders of their own: {', '.join(same[:3])}",
        )
