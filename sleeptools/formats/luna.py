"""Luna annotations: read and write .annot files of intervals, and write .eannot files of epochs.

An .annot file has six columns (class, instance, channel, start, stop, meta), separated by tabs, or
four (class, instance, start, stop), or three (class, start, stop). Times are seconds, clock times
hh:mm:ss, elapsed times 0+hh:mm:ss or epochs e:N; a stop may be a duration (+S) or "...", the start
of the next row. Stages are W N1 N2 N3 R, NR for mice, M movement, ? unknown. An .eannot file has
one label per line and is read by `formats.labels`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import time
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import DAY_SECONDS, Event, Hypnogram, seconds_of_day

SUFFIXES: Final = (".annot", ".eannot")
HEADER: Final = ("class", "instance", "channel", "start", "stop", "meta")
START_COLUMN: Final = {6: 3, 4: 2, 3: 1}  # by number of columns
CLASSES: Final = {
    "W": "W",
    "Wake": "W",
    "N1": "N1",
    "N2": "N2",
    "N3": "N3",
    "NREM": "NR",
    "REM": "R",
    "movement": "M",
    "unknown": "?",
}
LABELS: Final = {**CLASSES, "unannotated": "?"}
TIME: Final = r"(-?\d+(\.\d+)?|(0\+)?\d{1,2}[:.]\d\d[:.]\d\d(\.\d+)?|e:\d+(:[\d.]+){0,2})"
ROW: Final = re.compile(rf"\S[^\t]*\t([^\t]*\t){{0,2}}{TIME}\t(\.|\.\.\.|\+?{TIME})(\t.*)?")


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its header, or by a row with a class, a start and a stop."""
    del path
    rows = [t for t in text_files.head_lines(head) if t.strip() and not t.startswith("#")]
    return bool(rows) and (_is_header(rows[0]) or bool(ROW.fullmatch(rows[0])))


def _is_header(line: str) -> bool:
    columns = line.lower().split()
    return columns[0] == "class" and columns[-1] in ("stop", "meta")


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Read the annotations whose class is a stage, and ignore those of other classes.

    If the file has clock times, `begin` of the hypnogram is that of the first stage. Its rows are
    in order, so that a clock that goes back, by more than half a day, has passed midnight.

    Raises
    ------
    DataError
        For a malformed row, clock times mixed with seconds, stages that overlap or are off the
        epoch grid, or a night in which the clock was changed.
    NoStagesError
        If there are no annotations.
    """
    rows = [
        _interval(line, f"{path.name}: line {i}")
        for i, line in enumerate(text_files.read_lines(path), 1)
        if line.strip() and not line.startswith("#") and not _is_header(line)
    ]
    if not rows:
        raise NoStagesError(f"{path.name}: holds no annotations")
    known = label_schemes.label_scheme(scheme).labels if scheme else {}
    staged = [bool(known.get(r.name) or label_schemes.word_meaning(r.name)) for r in rows]
    first = next((r for r, is_stage in zip(rows, staged, strict=True) if is_stage), rows[0])
    begin = text_files.parse_clock(first.start)
    events = _events(rows, begin)
    if begin is not None:
        _check_order([e for e, is_stage in zip(events, staged, strict=True) if is_stage], path.name)
    hypnogram = stage_labels.from_mixed(
        events,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        begin=begin,
        epoch_from_onsets=epoch_from_onsets,
    )
    return replace(hypnogram, onset=0.0) if begin else hypnogram


def _check_order(staged: Sequence[Event], source: str) -> None:
    """Refuse clock times that do not tell the day, and a night in which the clock was changed."""
    stage_labels.check_clock(staged, source)
    if not staged:
        return
    span = max(o + d for o, d, _ in staged) - min(o for o, _, _ in staged)
    if span > DAY_SECONDS / 2 and sum(d for _, d, _ in staged) < span / 2:
        raise DataError(
            f"{source}: by the clock its stages cover less than half of {span / 3600:.1f} h; its "
            "rows are not in the order of time",
            hint="sort its rows, or write times from the recording's start",
            code="HYP-ORDER",
        )


@dataclass(frozen=True)
class AnnotationRow:
    """A row of the file: its class and its times as written, and file and line for messages."""

    name: str
    start: str
    stop: str
    location: str


def _interval(line: str, location: str) -> AnnotationRow:
    cells = [c.strip() for c in (line.split("\t") if "\t" in line else line.split())]
    if len(cells) not in START_COLUMN:
        raise DataError(f"{location} has {len(cells)} columns; expected 6, 4 or 3", code="HYP-ROW")
    start = START_COLUMN[len(cells)]
    return AnnotationRow(cells[0], cells[start], cells[start + 1], location)


def _events(rows: Sequence[AnnotationRow], begin: time | None) -> list[Event]:
    """Convert the rows to events, s; clock times count from `begin`."""
    starts = [_seconds(r.start, begin, r.location) for r in rows]
    if begin is not None:
        starts = _in_order(starts, starts.index(0.0))
    events: list[Event] = []
    for row, start, following in zip(rows, starts, [*starts[1:], None], strict=True):
        if row.stop.startswith("+"):
            stop = start + text_files.parse_number(row.stop[1:], row.location)
        elif row.stop == "..." and following is not None:
            stop = following
        elif row.stop == "." and row.start.startswith("e:"):
            stop = start + _epoch(row.start, row.location)[1]
        elif row.stop.startswith("e:"):
            stop = sum(_epoch(row.stop, row.location))
        else:
            stop = _seconds(row.stop, begin, row.location)
            stop += 0.0 if begin is None else math.ceil((start - stop) / DAY_SECONDS) * DAY_SECONDS
        events.append((start, stop - start, row.name))
    return events


def _in_order(clocks: Sequence[float], first: int) -> list[float]:
    """Add days to clock times, s, so that each lies within 12 h of the one before it.

    Parameters
    ----------
    first
        Index of the time that is right as it stands; those before it lie within 12 h of it.
    """
    half = DAY_SECONDS / 2
    times = [(t + half) % DAY_SECONDS - half for t in clocks[:first]]
    previous = 0.0
    for clock in clocks[first:]:
        previous += (clock - previous + half) % DAY_SECONDS - half
        times.append(previous)
    return times


def _seconds(text: str, begin: time | None, location: str) -> float:
    """Seconds from the start, or by the clock within a day from `begin`."""
    clock = text_files.parse_clock(text.removeprefix("0+"))
    if (clock is not None and not text.startswith("0+")) != (begin is not None):
        raise DataError(
            f"{location}: {text[:40]!r} where other rows have "
            f"{'clock times' if begin else 'times from the start'}",
            hint="write all times in one way",
            code="HYP-TIMES",
        )
    if text.startswith("e:"):
        return _epoch(text, location)[0]
    if clock is None:
        return text_files.parse_number(text, location)
    if begin is None:
        return seconds_of_day(clock)
    return (seconds_of_day(clock) - seconds_of_day(begin)) % DAY_SECONDS


def _epoch(text: str, location: str) -> tuple[float, float]:
    """Start and length of `e:N`, `e:N:LENGTH` or `e:N:LENGTH:STEP`, s; N counts from 1."""
    number, *lengths = (text_files.parse_number(p, location) for p in text.split(":")[1:])
    length = lengths[0] if lengths else stage_labels.HUMAN_EPOCH
    return (number - 1) * (lengths[1] if len(lengths) > 1 else length), length


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write an .annot or, by its ending, an .eannot file; return notes on what is lost."""
    if path.suffix.lower() == ".eannot":
        lines, notes = stage_words.word_lines(hypnogram, LABELS, "luna .eannot")
    else:
        events, notes = stage_words.stage_events(hypnogram, CLASSES, "luna .annot")
        lines = ["\t".join(HEADER)]
        for onset, duration, word in events:
            start, stop = text_files.decimal_text(onset), text_files.decimal_text(onset + duration)
            lines.append("\t".join((word, ".", ".", start, stop, ".")))
    store.write_text(path, "\n".join([*lines, ""]))
    return notes
