"""Times on the command line: seconds, a time of day, or a day and time."""

from __future__ import annotations

import math
from datetime import datetime, time


def parse_time(text: str, option: str) -> float | time | datetime:
    """Read the time that an option gives.

    Raises
    ------
    UsageError
        For any other text.
    """
    from sleeptools.errors import UsageError

    for read in (_seconds, time.fromisoformat, datetime.fromisoformat):
        try:
            moment = read(text)
        except ValueError:
            continue
        if isinstance(moment, float) or moment.tzinfo is None:
            return moment
    raise UsageError(
        f"{option} {text!r} is no time",
        hint="seconds, hh:mm:ss, or yyyy-mm-ddThh:mm:ss without zone",
    )


def hours_minutes_seconds(seconds: float) -> str:
    """Write a duration as h:mm:ss; "?" where it is unknown."""
    if math.isnan(seconds):
        return "?"
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole_seconds:02d}"


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
