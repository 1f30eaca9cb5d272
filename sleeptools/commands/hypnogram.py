"""`hypnogram`: convert a scoring to another file format, aligned to its recording."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Unpack

from sleeptools import formats, store
from sleeptools.commands.score.folder import is_scores_folder, read_scores
from sleeptools.errors import (
    AnnotationsOnlyError,
    DataError,
    OutputError,
    SleeptoolsError,
    UndecidedError,
    UsageError,
    quoted,
)
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import DAY_SECONDS, Hypnogram, add_seconds
from sleeptools.recording.recording import read_recording

TEXT_SUFFIXES = (".tsv", ".csv", ".txt", ".eannot", ".annot", ".json", ".xml")
ENDINGS_OF_FORMATS = {"edf": "-hypnogram.edf", "yasa": ".csv", "accusleepy": ".csv"}
"""Endings of files of formats whose own endings do not do."""
Start = float | time | datetime
"""Start of a hypnogram: seconds from the recording's start, or a clock time."""


def convert_hypnogram(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    start: Start | None = None,
    recording: Path | None = None,
    force: bool = False,
    **settings: Unpack[formats.ReadSettings],
) -> tuple[Hypnogram, list[str]]:
    """Read a hypnogram of any known format and write it in another.

    Parameters
    ----------
    source
        A hypnogram, or a recording of this package that has one.
    target
        File to write.
    to
        Format to write; by the target's ending if left out.
    start
        Start of the first epoch; if left out, as in the file, or computed from its clock times and
        the recording's start.
    recording
        The recording of that night, which has its start and length.
    force
        Replace an existing target.
    settings
        As `formats.read_hypnogram` takes them.

    Returns
    -------
    hypnogram
        The hypnogram that was written.
    notes
        What was not read from the source, and what the format cannot represent.

    Raises
    ------
    DataError
        If the source is damaged, or does not overlap with the recording.
    OutputError
        If the target exists.
    UsageError
        For a format that cannot be written, or a clock time if the recording's start is unknown.
    """
    stages = () if to else _read(source, settings).names
    module = formats.writer(target, to, stages)
    written = [target, *([module.sidecar(target)] if hasattr(module, "sidecar") else [])]
    if target.exists() and target.samefile(store.need(source)):
        raise OutputError(
            f"{target}: exists, and is what is read", hint="give another name", code="OUT-INPUT"
        )
    with store.lock_file(*written):
        hypnogram = _place(_read(source, settings), start, recording, source.name)
        for path in _different(hypnogram, [p for p in written if p.exists()], target, to):
            replaceable = not path.samefile(source) and _is_scoring(path, target)
            if not (force and replaceable):
                raise OutputError(
                    f"{path}: exists",
                    hint="give `force` to replace it, or another name"
                    if replaceable
                    else "give another name: it is not a scoring",
                    code="OUT-EXISTS",
                )
        notes = formats.write_hypnogram(hypnogram, target, to=to)
        return hypnogram, [*hypnogram.notes, *notes]


def convert_scores(
    folder: Path, target: Path, *, to: str, force: bool = False
) -> list[tuple[Path, Hypnogram, list[str]]]:
    """Write the hypnogram of every night of a folder of scores in another format.

    Parameters
    ----------
    folder
        Folder that `score` wrote.
    target
        Folder to write, NAME with the format's ending.
    to
        Format to write.
    force
        Replace existing files.

    Returns
    -------
    written
        File, hypnogram and notes of every night, as of `convert_hypnogram`.

    Raises
    ------
    DataError
        If it is no folder of scores, or as `convert_hypnogram`.
    """
    ending = ENDINGS_OF_FORMATS.get(to) or str(formats.writer(target, to).SUFFIXES[0])
    store.refuse_own(folder, ("scores",), "scores")
    if not is_scores_folder(folder):
        raise _no_scores(folder, target, to, ending)
    _, hypnograms = read_scores(folder)
    written = []
    for name, path in hypnograms.items():
        file = target / f"{name}{ending}"
        written.append((file, *convert_hypnogram(path, file, to=to, force=force)))
    return written


def _no_scores(folder: Path, target: Path, to: str, ending: str) -> DataError:
    """Make the error of a folder that `score` has not written; a hint takes one file of it."""
    hint = "give a single file, or a folder of scores"
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            formats.read_hypnogram(path)
        except UndecidedError:
            pass
        except SleeptoolsError:
            continue
        file = target / f"{path.stem}{ending}"
        command = f"sleeptools hypnogram {quoted(path)} {quoted(file)} `to={to}`"
        hint = f"one at a time: '{command}'"
        break
    return DataError(
        f"{folder}: is not a folder that 'sleeptools score' wrote", hint=hint, code="FACT-FORMAT"
    )


def _different(
    hypnogram: Hypnogram, existing: list[Path], target: Path, to: str | None
) -> list[Path]:
    """List the existing files that differ from what will be written.

    What an interrupted command left, or finished, is not in the way of the same command.
    """
    if not existing:
        return []
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / target.name
        formats.write_hypnogram(hypnogram, draft, to=to)
        return [p for p in existing if not _same_content(p, draft.with_name(p.name))]


def _same_content(path: Path, other: Path) -> bool:
    return path.is_file() and path.read_bytes() == other.read_bytes()


def _is_scoring(path: Path, target: Path) -> bool:
    """Tell whether a file is a scoring, or the description beside one, and no recording."""
    if path != target:  # its description
        return path.suffix == ".json" and path.is_file()
    try:
        formats.read_any(path)
    except AnnotationsOnlyError:
        return True
    except (SleeptoolsError, OSError):
        return path.is_file() and path.suffix.lower() in TEXT_SUFFIXES
    return False


def _read(path: Path, settings: formats.ReadSettings) -> Hypnogram:
    if path.suffix != ".safetensors":
        return formats.read_hypnogram(path, **settings)
    recording = read_recording(path)
    if recording.hypnogram is None:
        raise DataError(f"{path}: has no hypnogram", code="HYP-NONE")
    begin = add_seconds(recording.start, recording.hypnogram.onset)
    return replace(recording.hypnogram, begin=begin)


def _place(hypnogram: Hypnogram, start: Start | None, path: Path | None, source: str) -> Hypnogram:
    if path is not None:
        recording = formats.read_any(path)
        if isinstance(start, int | float):
            hypnogram = replace(hypnogram, onset=float(start), begin=None, lost_start="")
        elif start is not None:
            _need_start(placing.start_of(recording))
            hypnogram = replace(hypnogram, begin=start)
        placed = placing.place(recording, hypnogram, source=source)
        return replace(placed, begin=add_seconds(recording.start, placed.onset) or placed.begin)
    if start is None:
        return hypnogram
    began = hypnogram.recording_start()
    onset = float(start) if isinstance(start, int | float) else _clock_onset(began, start)
    return replace(hypnogram, onset=onset, begin=add_seconds(began, onset))


def _need_start(began: datetime | time | None) -> None:
    if began is None:
        raise UsageError(
            "a clock time needs the recording's start",
            hint="`recording` names the file that has it, or give `start` in seconds",
            code="USE-TOGETHER",
        )


def _clock_onset(began: datetime | None, start: time | datetime) -> float:
    """Compute the onset, s, where only the hypnogram says when its recording began."""
    _need_start(began)
    assert began is not None
    onset = placing.clock_onset(began, start)
    if abs(onset) > DAY_SECONDS:
        raise UsageError(
            f"`start={start}` lies {abs(onset) / DAY_SECONDS:.0f} days from {began}, when the "
            "recording began according to the hypnogram",
            hint="`recording` names a file whose start counts, or give `start` in seconds",
        )
    return onset
