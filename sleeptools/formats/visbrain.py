"""visbrain's stage-duration hypnograms: `stage<TAB>end`, each stage from the last one's end.

Lines that begin with an asterisk are facts; `*Duration_sec` has the recording's length. Somnotate
uses the form with states of its own, "awake" and "non-REM" among them.
"""

from __future__ import annotations

from pathlib import Path

from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording.hypnogram import GRID_TOLERANCE, LONGEST_RECORDING, Event, Hypnogram


def accepts(path: Path, head: bytes) -> bool:
    """Tell it by the line `*Duration_sec`."""
    del path
    return any(t.startswith("*Duration_sec") for t in text_files.head_lines(head))


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read stages with their ends; what is left to the recording's end is unannotated.

    Raises
    ------
    DataError
        For a malformed line, an end before the last one or past the recording's, or an unknown
        label.
    NoStagesError
        If there are no stages.
    """
    events: list[Event] = []
    begin = length = 0.0
    for i, line in enumerate(text_files.read_lines(path), 1):
        name, _, value = (p.strip() for p in line.rpartition("\t"))
        location = f"{path.name}: line {i}"
        if line.startswith("*Duration_sec"):
            length = text_files.parse_number(value, location)
            if length > LONGEST_RECORDING:
                raise DataError(f"{location}: a recording of {length:g} s")
        if line.startswith("*"):
            continue
        if not name:
            raise DataError(f"{location} is {line[:60]!r}; expected a stage, a tab and its end")
        end = text_files.parse_number(value, location)
        if not begin < end <= length + GRID_TOLERANCE:
            raise DataError(
                f"{location}: the stage ends at {end:g} s, expected {begin:g} to {length:g}"
            )
        events.append((begin, end - begin, name))
        begin = end
    if not events:
        raise NoStagesError(f"{path.name}: holds no stages")
    hypnogram = stage_labels.from_events(
        events, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )
    return hypnogram.padded(length)
