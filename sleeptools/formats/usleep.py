"""U-Sleep (U-Time) hypnograms: rows of `init,duration,stage` (.ids, .tsv), or stages (.hyp).

An .ids file has commas and no header, a .tsv file tabs and a header. A .hyp file has one stage per
line and is read by `formats.labels`. Stages are W N1 N2 N3 REM UNKNOWN OUT_OF_BOUNDS; for their
integers there is the scheme "usleep".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording.hypnogram import Event, Hypnogram

SUFFIXES: Final = (".ids", ".hyp")
COLUMNS: Final = ["init", "duration", "stage"]
ROW: Final = re.compile(r"-?\d+(\.\d+)?[,\t]\d+(\.\d+)?[,\t][^,\t]+")
WORDS: Final = {
    "W": "W",
    "N1": "N1",
    "N2": "N2",
    "N3": "N3",
    "REM": "REM",
    "unknown": "UNKNOWN",
    "movement": "UNKNOWN",
    "unannotated": "OUT_OF_BOUNDS",
}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its header, or by a first row of two numbers and a stage."""
    del path
    lines = text_files.head_lines(head)
    return bool(lines) and (_columns(lines[0]) == COLUMNS or bool(ROW.fullmatch(lines[0])))


def _columns(line: str) -> list[str]:
    return [c.strip().lower() for c in re.split(r"[,\t]", line)]


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Read stages with their onsets from the recording's start.

    Raises
    ------
    DataError
        For a malformed row, an unknown label, or stages that overlap or are off the epoch grid.
    """
    lines = text_files.read_lines(path)
    mark = "\t" if "\t" in lines[0] else ","
    skipped = int(_columns(lines[0]) == COLUMNS)
    events: list[Event] = []
    for i, line in enumerate(lines[skipped:], skipped + 1):
        cells = [p.strip() for p in line.split(mark)]
        location = f"{path.name}: line {i}"
        if len(cells) != len(COLUMNS):
            raise DataError(
                f"{location} is {line[:60]!r}; expected init, duration and stage", code="HYP-ROW"
            )
        onset, duration = (text_files.parse_number(p, location) for p in cells[:2])
        events.append((onset, duration, cells[2]))
    return stage_labels.from_events(
        events,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        epoch_from_onsets=epoch_from_onsets,
    )


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write a file of rows or, by its ending, a .hyp file; return notes on what is lost."""
    if path.suffix.lower() == ".hyp":
        lines, notes = stage_words.word_lines(hypnogram, WORDS, "usleep")
    else:
        events, notes = stage_words.stage_events(hypnogram, WORDS, "usleep")
        mark, lines = (",", []) if path.suffix.lower() == ".ids" else ("\t", ["\t".join(COLUMNS)])
        lines += [
            mark.join((text_files.decimal_text(onset), text_files.decimal_text(duration), word))
            for onset, duration, word in events
        ]
    store.write_text(path, "\n".join([*lines, ""]))
    return notes
