"""SleepSign (Kissei Comtec) text exports: the score of every epoch, and the signals.

Both begin with about 19 lines of "Key,value", which are not read and may be in a Japanese encoding.
Then follows a table, separated by commas or tabs, whose first column is
`dd/mm/yyyy hh:mm:ss[.fff]`. In a score, the next columns are the number of the epoch, which need
not begin at 1, and its stage; an asterisk after a stage marks an artefact. In signals, the next
columns are values, with their units in the line "Time,uV,uV,...".
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from sleeptools.errors import AnnotationsOnlyError, DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording import hypnogram, label_schemes, montage
from sleeptools.recording.hypnogram import Event, Hypnogram
from sleeptools.recording.recording import Recording, Samples, Signal

MOMENT = r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4} +\d{1,2}:\d\d:\d\d(?:\.\d+)?"
SCORE = re.compile(rf"({MOMENT})\s*[,\t]\s*(\d+)\s*[,\t]\s*([^,\t.]*)(?:[,\t].*)?")
SAMPLE = re.compile(rf"({MOMENT})\s*[,\t]\s*[+-]?\d+\.\d")
STAMP = 1.0  # s; the score's times are truncated to whole seconds


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by a line with a date, a time, and a stage or a value."""
    del path
    lines = text_files.head_lines(head)
    return any(SCORE.fullmatch(t) or SAMPLE.match(t) for t in lines)


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the score of every epoch; `begin` is the time of the first.

    Parameters
    ----------
    scheme
        "sleepsign", in which an epoch with an artefact is unscored, if left out.
    epoch_seconds
        Length of an epoch; computed from the times if left out.

    Raises
    ------
    NoStagesError
        If the file holds signals.
    DataError
        If a line is malformed, an epoch is repeated or out of order, or a label is unknown.
    """
    lines = text_files.read_lines(path, fallback="latin-1")
    first = next((i for i, t in enumerate(lines) if SCORE.fullmatch(t)), None)
    if first is None:
        raise NoStagesError(f"{path.name}: holds no line of time, epoch number and stage")
    rows = [SCORE.fullmatch(t) for t in lines[first:]]
    for i, row in enumerate(rows, first + 1):
        if row is None:
            raise DataError(
                f"{path.name}: line {i} is {lines[i - 1][:60]!r}; "
                "expected a date and time, an epoch number and a stage",
                code="HYP-ROW",
            )
    cells = [row.groups() for row in rows if row]
    times = text_files.parse_moments([t for t, _, _ in cells], path.name)
    numbers = [int(n) for _, n, _ in cells]
    length = epoch_seconds or _epoch_seconds(times, numbers, path.name)
    stage_labels.check_epoch(length, path.name)
    events = _events(times, numbers, [s.strip() for _, _, s in cells], length, path.name)
    labels = [text for _, _, text in events]
    meaning, names = label_schemes.translate_labels(
        labels,
        by=label_schemes.of_form("sleepsign", scheme, labels, path.name),
        source=path.name,
    )
    scored = hypnogram.from_events(
        events, meaning, names=names, epoch_seconds=length, source=path.name
    )
    return replace(scored, begin=times[0], first_epoch=numbers[0])


def _epoch_seconds(times: list[datetime], numbers: list[int], source: str) -> float:
    """Length of an epoch, s, from times that may be truncated to whole seconds."""
    steps = numbers[-1] - numbers[0]
    if steps <= 0:
        raise DataError(
            f"{source}: one epoch does not tell how long it is",
            hint="give the length of an epoch, such as `epoch_seconds=4`",
            code="HYP-EPOCH",
        )
    length = (times[-1] - times[0]).total_seconds() / steps
    rounded = round(2 * length) / 2  # whole seconds in SleepSign, 2.5 s in a few programs
    return rounded if abs(rounded - length) * steps < STAMP else length


def _events(
    times: list[datetime], numbers: list[int], labels: list[str], length: float, source: str
) -> list[Event]:
    """Compute each epoch's onset from its number, and check it against its time."""
    events: list[Event] = []
    for i, (moment, n, label) in enumerate(zip(times, numbers, labels, strict=True)):
        onset = (n - numbers[0]) * length
        if i and n <= numbers[i - 1]:
            raise DataError(
                f"{source}: epoch {n} follows epoch {numbers[i - 1]}", code="HYP-NUMBER"
            )
        if abs((moment - times[0]).total_seconds() - onset) >= STAMP:
            raise DataError(
                f"{source}: epoch {n} is at {moment:%F %T}, expected {onset:g} s after the first, "
                f"{times[0]:%F %T}, for epochs of {length:g} s",
                code="HYP-CLOCK",
            )
        events.append((onset, length, label))
    return events


# --- signals --------------------------------------------------------------------------------------


def read(path: Path) -> Recording:
    """Read the signals; the file has no names for them, so they are `channel 1` and so on.

    Raises
    ------
    AnnotationsOnlyError
        If the file holds the score.
    DataError
        If a line is malformed.
    """
    lines = path.read_text("latin-1").rstrip().splitlines()
    first = next((i for i, t in enumerate(lines) if SAMPLE.match(t)), None)
    if first is None:
        raise AnnotationsOnlyError(
            f"{path.name}: holds the score, not signals", hint="read it as a hypnogram"
        )
    units = _units(lines[:first], path.name)
    ends = [m for m in (SAMPLE.match(lines[first]), SAMPLE.match(lines[-1])) if m]
    times = text_files.parse_moments([m[1] for m in ends], path.name)
    values = _values(lines[first:], len(units), first, path.name)
    rate = _sample_rate(times, len(values), path.name)
    signals = {
        f"channel {i}": _signal(f"channel {i}", unit, rate, values[:, i - 1])
        for i, unit in enumerate(units, 1)
    }
    facts: dict[str, str | int | float | bool] = {"kind": "SleepSign text"}
    return Recording(path.stem, path.stem, 1, signals, None, times[0], facts)


def _units(lines: list[str], source: str) -> list[str]:
    head = next((t for t in lines if re.match(r"Time\s*[,\t]", t)), None)
    if head is None:
        raise DataError(
            f"{source}: has no line 'Time,UNIT,...' before the signals", code="COL-HEADER"
        )
    return [c for c in re.split(r"[,\t]", head)[1:] if c.strip()]


def _values(lines: list[str], columns: int, before: int, source: str) -> Samples:
    values = np.empty((len(lines), columns), np.float32)
    for i, line in enumerate(lines):
        cells = re.split(r"[,\t]", line)[1 : columns + 1]
        try:
            values[i] = cells
        except ValueError as e:
            raise DataError(
                f"{source}: line {before + i + 1} is {line[:60]!r}; expected a time and "
                f"{columns} values",
                code="COL-NUMBERS",
            ) from e
    return values


def _sample_rate(times: list[datetime], count: int, source: str) -> float:
    """Sample rate, Hz, from the first and last time, truncated to ms; rounded if that fits."""
    span = (times[-1] - times[0]).total_seconds()
    if span <= 0:
        raise DataError(
            f"{source}: the last sample is at {times[-1]}, the first at {times[0]}",
            code="COL-TIMES",
        )
    rate = (count - 1) / span
    return float(round(rate)) if abs(round(rate) - rate) / rate * span < 2e-3 else rate  # noqa: PLR2004


def _signal(label: str, unit: str, rate: float, values: Samples) -> Signal:
    unit, factor = montage.decoded_unit(unit)
    return Signal(label, rate, unit, "other", len(values), lambda: values, factor)
