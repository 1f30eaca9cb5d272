"""`hypnogram`: convert a scoring to another file format, aligned to its recording."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

from sleeptools import formats, store
from sleeptools.errors import (
    AnnotationsOnlyError,
    DataError,
    OutputError,
    SleeptoolsError,
    UsageError,
)
from sleeptools.recording.hypnogram import DAY_SECONDS, Hypnogram, add_seconds
from sleeptools.recording.recording import Recording, read_recording

TEXT_SUFFIXES = (".tsv", ".csv", ".txt", ".eannot", ".annot", ".json", ".xml")
Start = float | time | datetime
"""Start of a hypnogram: seconds from the recording's start, or a clock time."""


def convert_hypnogram(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    start: Start | None = None,
    recording: Path | None = None,
    force: bool = False,
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
    scheme, epoch_seconds
        As in `formats.read_hypnogram`.
    start
        Start of the first epoch; if left out, as in the file, or computed from its clock times and
        the recording's start.
    recording
        The recording of that night, which has its start and length.
    force
        Replace an existing target.

    Returns
    -------
    hypnogram
        The hypnogram that was written.
    notes
        What the format cannot represent, and is merged or left out.

    Raises
    ------
    DataError
        If the source is damaged, or does not overlap with the recording.
    OutputError
        If the target exists.
    UsageError
        For a format that cannot be written, or a clock time if the recording's start is unknown.
    """
    module = formats.writer(target, to)
    written = [target, *([module.sidecar(target)] if hasattr(module, "sidecar") else [])]
    if target.exists() and target.samefile(store.need(source)):
        raise OutputError(f"{target}: exists, and is what is read", hint="give another name")
    with store.lock_file(*written):
        hypnogram = _place(_read(source, scheme, epoch_seconds), start, recording)
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
        return hypnogram, formats.write_hypnogram(hypnogram, target, to=to)


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


def _read(path: Path, scheme: str | None, epoch_seconds: float | None) -> Hypnogram:
    if path.suffix != ".safetensors":
        return formats.read_hypnogram(path, scheme=scheme, epoch_seconds=epoch_seconds)
    recording = read_recording(path)
    if recording.hypnogram is None:
        raise DataError(f"{path}: has no hypnogram")
    begin = add_seconds(recording.start, recording.hypnogram.onset)
    return replace(recording.hypnogram, begin=begin)


def _place(hypnogram: Hypnogram, start: Start | None, path: Path | None) -> Hypnogram:
    recording = formats.read_any(path) if path else None
    began = recording.start if recording else hypnogram.recording_start()
    if isinstance(start, int | float):
        placed = replace(hypnogram, onset=float(start), begin=None)
    elif start is not None:
        if began is None:
            raise UsageError(
                "a clock time needs the recording's start",
                hint="`recording` names the file that has it, or give `start` in seconds",
            )
        placed = replace(hypnogram, begin=start).placed(began)
        if recording is None and abs(placed.onset) > DAY_SECONDS:
            days = abs(placed.onset) / DAY_SECONDS
            raise UsageError(
                f"`start={start}` lies {days:.0f} days from {began}, when the recording began "
                "according to the hypnogram",
                hint="`recording` names a file whose start counts, or give `start` in seconds",
            )
    else:
        placed = hypnogram.placed(began) if recording and began else hypnogram
    if recording:
        _check_overlap(placed, recording, has_clock=began is not None)
    return replace(placed, begin=add_seconds(began, placed.onset) or placed.begin)


def _check_overlap(hypnogram: Hypnogram, recording: Recording, *, has_clock: bool) -> None:
    if hypnogram.begin is not None and not has_clock:
        raise DataError(
            f"{recording.id}: does not say when it began, and the hypnogram has clock times",
            hint="give `start` in seconds",
        )
    end = hypnogram.onset + len(hypnogram) * hypnogram.epoch_seconds
    if end <= 0 or hypnogram.onset >= recording.seconds:
        begin = f" ({recording.start:%F %T})" if recording.start else ""
        raise DataError(
            f"the hypnogram begins {hypnogram.onset:.0f} s and ends {end:.0f} s after the start of "
            f"{recording.id}{begin}, which lasts {recording.seconds:.0f} s: they do not overlap",
            hint="is it the recording of that night? `start` gives another place",
        )
