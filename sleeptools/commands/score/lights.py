"""When the lights of a night went off and on: as said, as annotated, or by the data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Final

from sleeptools.errors import DataError, SleeptoolsError
from sleeptools.formats import edf
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import DAY_SECONDS, Event, seconds_of_day
from sleeptools.recording.recording import Recording

LightsTime = float | time | datetime
"""Seconds from the start of the recording, a time of day, or a day and time."""
OFF: Final = re.compile(r"\blights?[ _-]*(?:are |were )?(?:off|out)\b", re.IGNORECASE)
ON: Final = re.compile(r"\blights?[ _-]*(?:are |were )?on\b", re.IGNORECASE)
CONTRADICTION: Final = "on before off, so not taken"
EDF_SUFFIXES: Final = (".edf", ".bdf", ".rec")


@dataclass(frozen=True)
class Lights:
    """Times of lights off and on of one recording.

    Parameters
    ----------
    off, on
        s from the start of the recording; None where nothing says it.
    sources
        Who says so, for off and on: "option", "annotation", "data set" or ""; or why what is said
        is not taken.
    """

    off: float | None = None
    on: float | None = None
    sources: tuple[str, str] = ("", "")


def lights_of(
    recording: Recording,
    off: LightsTime | None = None,
    on: LightsTime | None = None,
    path: Path | None = None,
) -> Lights:
    """Find when the lights went off and on.

    Parameters
    ----------
    off, on
        What the user says; it goes before annotations, and these before the data set.
    path
        The recording's file, whose annotations may tell.

    Raises
    ------
    DataError
        If a time that was given lies outside the recording, or needs a start that it does not have,
        or by such a time the lights go on before they are off.
    """
    events = _annotations(path) if off is None or on is None else []
    values: list[float | None] = []
    sources: list[str] = []
    for requested, pattern, key in ((off, OFF, "lights_off"), (on, ON, "lights_on")):
        value, source = _first_known(recording, requested, events, pattern, key)
        values.append(value)
        sources.append(source)
    if values[0] is not None and values[1] is not None and values[1] <= values[0]:
        if "option" not in sources:
            return Lights(sources=(CONTRADICTION, CONTRADICTION))
        raise DataError(
            f"{recording.id}: lights on ({sources[1]}) at {values[1]:g} s, off ({sources[0]}) at "
            f"{values[0]:g} s",
            hint="give both times",
            code="REC-LIGHTS",
        )
    return Lights(values[0], values[1], (sources[0], sources[1]))


def _first_known(
    recording: Recording,
    requested: LightsTime | None,
    events: Sequence[Event],
    pattern: re.Pattern[str],
    key: str,
) -> tuple[float | None, str]:
    if requested is not None:
        return _inside(recording, requested, key), "option"
    marks = [onset for onset, _, text in events if pattern.search(text)]
    if len(set(marks)) == 1:
        if 0 <= marks[0] <= recording.seconds:
            return marks[0], "annotation"
        return None, "annotation outside the recording"
    fact = recording.facts.get(key)
    if isinstance(fact, int | float) and not isinstance(fact, bool):
        return float(fact), "data set"
    return None, f"{len(marks)} annotations differ" if marks else ""


def _inside(recording: Recording, moment: LightsTime, key: str) -> float:
    seconds = float(moment) if isinstance(moment, int | float) else _by_clock(recording, moment)
    if not 0 <= seconds <= recording.seconds:
        raise DataError(
            f"{recording.id}: `{key}={moment}` is not within the recording: "
            f"{placing.span_text(recording) or f'{recording.seconds:g} s'}",
            hint="score this night by itself, with its own times or without",
            code="REC-LIGHTS",
        )
    return seconds


def _by_clock(recording: Recording, moment: time | datetime) -> float:
    """Return the first such time in the recording, s from its start."""
    start = placing.start_of(recording)
    if start is None or (isinstance(moment, datetime) and not isinstance(start, datetime)):
        raise DataError(
            f"{recording.id}: does not say when it began, so that {moment} has no place in it",
            hint="give seconds from its start",
            code="REC-LIGHTS",
        )
    if isinstance(moment, datetime) and isinstance(start, datetime):
        return (moment - start).total_seconds()
    return (seconds_of_day(moment) - seconds_of_day(start)) % DAY_SECONDS


def _annotations(path: Path | None) -> list[Event]:
    if path is None or path.suffix.lower() not in EDF_SUFFIXES:
        return []
    try:
        return edf.read_annotations(path, ignore_bad_annotations=True)
    except SleeptoolsError:  # of a plain EDF file, which has none
        return []
