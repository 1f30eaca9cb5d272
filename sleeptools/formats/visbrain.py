"""visbrain's stage-duration hypnograms: lines of `stage<TAB>end`, also written by Somnotate.

Each stage begins where the one before ends. Lines that begin with an asterisk are facts;
`*Duration_sec` is the length of the recording. Somnotate writes states such as "awake" and
"non-REM".
"""

from __future__ import annotations

from pathlib import Path

from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording.hypnogram import GRID_TOLERANCE, LONGEST_RECORDING, Event, Hypnogram


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by the line `*Duration_sec`."""
    del path
    return any(t.startswith("*Duration_sec") for t in text_files.head_lines(head))


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the stages; epochs after the last one, to the recording's end, are unannotated.

    Raises
    ------
    DataError
        For a malformed line, an end before the previous one or after the recording's, or an
        unknown label.
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
                raise DataError(f"{location}: a recording of {length:g} s", code="HYP-ROW")
        if line.startswith("*"):
            continue
        if not name:
            raise DataError(
                f"{location} is {line[:60]!r}; expected a stage, a tab and its end", code="HYP-ROW"
            )
        end = text_files.parse_number(value, location)
        if not begin < end <= length + GRID_TOLERANCE:
            raise DataError(
                f"{location}: the stage ends at {end:g} s, expected {begin:g} to {length:g}",
                code="HYP-ROW",
            )
        events.append((begin, end - begin, name))
        begin = end
    if not events:
        raise NoStagesError(f"{path.name}: holds no stages")
    hypnogram = stage_labels.from_events(
        events, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )
    return hypnogram.padded(length)
