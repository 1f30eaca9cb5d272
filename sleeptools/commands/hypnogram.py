"""`hypnogram`: a scoring from one format of the field to another, placed in its recording."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

from sleeptools import formats
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.recording.hypnogram import DAY, Hypnogram, later
from sleeptools.recording.recording import Recording, read_recording

At = float | time | datetime
"""Where a hypnogram begins: seconds from the recording's start, or by the clock."""


def exchange(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    at: At | None = None,
    recording: Path | None = None,
    force: bool = False,
) -> tuple[Hypnogram, list[str]]:
    """Read a hypnogram of any known format and write it in another.

    Parameters
    ----------
    source
        A hypnogram, or a recording of ours that has one.
    target
        File to write.
    to
        Format to write; by the target's ending if left out.
    scheme, epoch_seconds
        As `formats.read_hypnogram` takes them.
    at
        Where the first epoch begins; by the file, or by its times and the recording's, if left out.
    recording
        File that tells when the recording began, and how long it is.
    force
        Replace what is there.

    Returns
    -------
    hypnogram, notes
        What was written, and what the format could not carry.

    Raises
    ------
    DataError
        If the source is damaged, or lies wholly outside the recording.
    OutputError
        If the target exists.
    UsageError
        For a format that is not written, or a clock time without a recording's start.
    """
    module = formats.writer(target, to)
    written = [target, *([module.sidecar(target)] if hasattr(module, "sidecar") else [])]
    for path in written:
        if path.exists() and (not force or path.samefile(source)):
            raise OutputError(f"{path}: exists", hint="give `force` to replace it, or another name")
    found = _place(_read(source, scheme, epoch_seconds), at, recording)
    return found, formats.write_hypnogram(found, target, to=to)


def _read(path: Path, scheme: str | None, epoch_seconds: float | None) -> Hypnogram:
    if path.suffix != ".safetensors":
        return formats.read_hypnogram(path, scheme=scheme, epoch_seconds=epoch_seconds)
    recording = read_recording(path)
    if recording.hypnogram is None:
        raise DataError(f"{path}: has no hypnogram")
    begin = later(recording.start, recording.hypnogram.onset)
    return replace(recording.hypnogram, begin=begin)


def _place(hypnogram: Hypnogram, at: At | None, path: Path | None) -> Hypnogram:
    recording = _recording(path) if path else None
    start = recording.start if recording else hypnogram.recording_start()
    if isinstance(at, int | float):
        placed = replace(hypnogram, onset=float(at), begin=None)
    elif at is not None:
        if start is None:
            raise UsageError(
                "a clock time needs the recording's start",
                hint="`recording` names the file that has it, or give `at` in seconds",
            )
        placed = replace(hypnogram, begin=at).placed(start)
        if recording is None and abs(placed.onset) > DAY:
            raise UsageError(
                f"`at={at}` lies {abs(placed.onset) / DAY:.0f} days from {start}, when the "
                "recording began as the hypnogram has it",
                hint="`recording` names a file whose start counts, or give `at` in seconds",
            )
    else:
        placed = hypnogram.placed(start) if recording and start else hypnogram
    if recording:
        _check_overlap(placed, recording, has_clock=start is not None)
    return replace(placed, begin=later(start, placed.onset) or placed.begin)


def _recording(path: Path) -> Recording:
    return read_recording(path) if path.suffix == ".safetensors" else formats.read(path)


def _check_overlap(hypnogram: Hypnogram, recording: Recording, *, has_clock: bool) -> None:
    if hypnogram.begin is not None and not has_clock:
        raise DataError(
            f"{recording.id}: does not say when it began, and the hypnogram has clock times",
            hint="give `at` in seconds",
        )
    end = hypnogram.onset + len(hypnogram) * hypnogram.epoch_seconds
    if end <= 0 or hypnogram.onset >= recording.seconds:
        begin = f" ({recording.start:%F %T})" if recording.start else ""
        raise DataError(
            f"the hypnogram begins {hypnogram.onset:.0f} s and ends {end:.0f} s after the start of "
            f"{recording.id}{begin}, which lasts {recording.seconds:.0f} s: they do not overlap",
            hint="is it the recording of that night? `at` gives another place",
        )
