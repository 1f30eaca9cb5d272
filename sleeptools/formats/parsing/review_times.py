"""The times in the rows of a review: of lights off and on, and of every epoch by the clock.

They say again what the numbers of the epochs say, so that a copy that a spreadsheet altered, or
that a person altered in one place alone, does not pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Final

from sleeptools.errors import DataError
from sleeptools.recording.hypnogram import DAY_SECONDS, add_seconds, seconds_of_day

Moment = datetime | time | None
LIGHTS: Final = {"lights_off": "lights off", "lights_on": "lights on"}
GRID_SLACK: Final = 1e-4  # s


def check_event(row: Mapping[str, str], *, tabbed: bool, location: str) -> None:
    """Refuse a row without an epoch that is not one of lights, or of lights at another time."""
    if row["epoch"]:
        return
    event = row["trial_type"] if tabbed else ""
    column = next((c for c, word in LIGHTS.items() if word == event), None)
    if column is None:
        raise DataError(f"{location}: has no number of an epoch", code="HYP-ROW")
    if row["onset"] != row[column]:
        raise DataError(
            f"{location}: {event} at {row['onset'][:20]} s, {column} has {row[column][:20]!r}",
            hint="mark the lights on the page, or alter both",
            code="HYP-ROW",
        )


def first_time(epochs: Sequence[tuple[Mapping[str, str], str]], seconds: float) -> Moment:
    """Read the time of the first epoch, with which those of all others must agree."""
    first, line = epochs[0]
    begin = _moment(first["time"], line)
    for i, (row, location) in enumerate(epochs):
        due = add_seconds(begin, i * seconds)
        if not is_same_time(_moment(row["time"], location), due):
            raise DataError(
                f"{location}: time {row['time'][:30]!r}; expected "
                f"{due.isoformat() if due else 'none'} by the first epoch",
                hint="spreadsheets alter times: give the file as it was exported",
                code="HYP-ROW",
            )
    return begin


def is_same_time(one: Moment, other: Moment) -> bool:
    """Tell whether two times are the same, up to what is lost in writing them.

    A time of day without a date is none with one; two that are not known are the same.
    """
    if one is None or other is None or type(one) is not type(other):
        return one is other
    away = abs(seconds_of_day(one) - seconds_of_day(other)) % DAY_SECONDS
    near = min(away, DAY_SECONDS - away) <= GRID_SLACK
    if isinstance(one, datetime) and isinstance(other, datetime):
        return near and abs((one - other).total_seconds()) <= GRID_SLACK
    return near


def _moment(text: str, location: str) -> Moment:
    try:
        if not text:
            return None
        return datetime.fromisoformat(text) if "T" in text else time.fromisoformat(text)
    except ValueError as e:
        raise DataError(f"{location}: {text[:30]!r} is no time", code="HYP-ROW") from e
