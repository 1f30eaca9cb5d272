"""What paths of a command mean: recordings by file, folder or pattern, and the model `default`."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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
    DataError
        If it is a folder of ours of another kind.
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
    store.refuse_own(path, ("model", "run"), "a trained model")
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
    DataError
        If it is a folder of ours that holds no recordings.
    """
    files: dict[Path, bool] = {}
    for path in paths:
        store.refuse_own(path, ("recordings", "simulated"), "recordings")
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


def night_names(
    recordings: Sequence[Path], scored: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Path]:
    """Name each recording: by its file, and by the folders around it where names are equal.

    `p01/night1.edf` and `p02/night1.edf` are `p01-night1` and `p02-night1`. A recording that was
    scored before keeps the name that it has there.

    Parameters
    ----------
    recordings
        Their files.
    scored
        Rows of the recordings that the folder of scores holds, by name.

    Raises
    ------
    UsageError
        If two files differ in nothing but the ending.
    DataError
        If a name cannot be that of a file.
    """
    scored = scored or {}
    longer = {path: possible_names(path) for path in recordings}
    counts = Counter(name for names in longer.values() for name in names)
    named: dict[str, Path] = {}
    for path, names in longer.items():
        kept = [n for n in names if n in scored and n not in named and _is_of(scored[n], path)]
        free = [n for n in names if counts[n] == 1 and not _is_others(scored.get(n, {}), path)]
        if not (kept or free):
            twins = [str(p) for p, candidates in longer.items() if candidates == names]
            raise UsageError(
                f"two recordings are named {path.stem}: their scores would have one name",
                hint=f"score them into folders of their own: {', '.join(twins[:3])}",
            )
        named[store.check_id((kept or free)[0], path)] = path
    return named


def possible_names(path: Path) -> list[str]:
    """List the names that the scores of a recording may have, the shortest first."""
    parts = [*path.absolute().parts[1:-1], path.stem]
    return ["-".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]


def _is_of(row: Mapping[str, Any], path: Path) -> bool:
    """Tell whether a row is of this very file, by its size and time."""
    stat = path.stat()
    return list(row.get("input", ()))[:2] == [stat.st_size, stat.st_mtime_ns]


def _is_others(row: Mapping[str, Any], path: Path) -> bool:
    """Tell whether a row is of a file in another folder, and of other contents."""
    return row.get("folder", path.absolute().parent.name) != path.absolute().parent.name and (
        row.get("sha256") != store.sha256(path)
    )
