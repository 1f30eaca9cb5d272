"""Noxturnal (Nox Medical) event exports: CSV, mostly UTF-16, in the language of the program.

A row has start, end, event and duration; the second line has the units, "[],[],[],[s]". Dates and
the names of stages are in the program's language, and stages are mixed with other events. The
French names are from a real export; of other languages only the word for being awake is known.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.hypnogram import Hypnogram

UNITS: Final = re.compile(r"\[[^\]]*\]([,;\t]\[[^\]]*\]){2,}[,;\t]*")
SLEEP: Final = (*stages.HUMAN_STAGES, "NREM", "unknown")
HEADS: Final = 2  # lines before the first row
DURATION: Final = 3  # index of the column
CUT: Final = 1.5  # s; start, end and duration may each be truncated to whole seconds


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its line of units."""
    del path
    return bool(UNITS.fullmatch("".join(text_files.head_lines(head)[1:2]).strip()))


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Read the stages among the events; `begin` is the time of the first epoch.

    Raises
    ------
    DataError
        For a malformed row, stages that overlap or are off the epoch grid, or an event that may be
        a stage of an unknown name.
    NoStagesError
        If there are no events.
    """
    lines = text_files.read_lines(path)
    separator = re.findall(r"\]([,;\t])", lines[1])[0]
    rows = [
        text_files.split_line(line, separator, f"{path.name}: line {i}")
        for i, line in enumerate(lines[HEADS:], HEADS + 1)
    ]
    for i, row in enumerate(rows, HEADS + 1):
        if len(row) < 3:  # noqa: PLR2004 - start, end, event
            raise DataError(
                f"{path.name}: line {i} is {str(row)[:60]}; expected start, end and event",
                code="HYP-ROW",
            )
    if not rows:
        raise NoStagesError(f"{path.name}: holds no events")
    times = text_files.parse_moments([t for row in rows for t in row[:2]], path.name)
    starts, ends = times[::2], times[1::2]
    for i, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True), HEADS + 1):
        _check_duration(row, (end - start).total_seconds(), f"{path.name}: line {i}")
    texts = [row[2].strip() for row in rows]
    staged = [
        s for s, t in zip(starts, texts, strict=True) if label_schemes.word_meaning(t) in SLEEP
    ]
    first = min(staged or starts)
    events = [
        ((s - first).total_seconds(), (e - s).total_seconds(), t)
        for s, e, t in zip(starts, ends, texts, strict=True)
    ]
    stage_labels.check_clock(
        [e for e in events if label_schemes.word_meaning(e[2]) in SLEEP], path.name
    )
    return stage_labels.from_mixed(
        events,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        begin=first,
        epoch_from_onsets=epoch_from_onsets,
    )


def _check_duration(row: list[str], seconds: float, location: str) -> None:
    """Check the column of durations: it differs if the clock was changed in that night."""
    if len(row) > DURATION and row[DURATION].strip():
        duration = text_files.parse_number(row[DURATION].strip(), location)
        if abs(duration - seconds) > CUT:
            raise DataError(
                f"{location}: {row[2]!r} lasts {duration:g} s, but {seconds:g} s from start to end",
                hint="was the clock changed that night? export it in a time without summer time",
                code="HYP-CLOCK",
            )
