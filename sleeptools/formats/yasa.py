"""YASA hypnograms: CSV with a column `Stage`, or text with one name per line.

Names are WAKE N1 N2 N3 REM ART UNS, for three stages WAKE NREM REM; older files have the integers
-2 to 4 of the scheme "yasa". A column `Time` has the date and time of each epoch, `Epoch` its
number. Text with one name per line is read by `formats.labels`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording.hypnogram import DAY_SECONDS, GRID_TOLERANCE, Hypnogram, seconds_of_day

WORDS: Final = {
    "W": "WAKE",
    "Wake": "WAKE",
    "N1": "N1",
    "N2": "N2",
    "N3": "N3",
    "NREM": "NREM",
    "REM": "REM",
    "movement": "ART",
    "unknown": "UNS",
    "unannotated": "UNS",
}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by a header with `Stage` and no onset."""
    del path
    columns = text_files.header_cells(head, ",")
    return "stage" in columns and columns[0] in ("epoch", "time", "stage", "")


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    scorer: str | None = None,
) -> Hypnogram:
    """Read the stage of every epoch; a column `Time` gives `begin` and the length of an epoch.

    Raises
    ------
    DataError
        For a malformed row, a missing or repeated epoch, a number without a scheme, or an unknown
        label.
    """
    rows, name = stage_labels.choose_scorer(text_files.read_table(path, ","), scorer, path.name)
    if not rows:
        raise NoStagesError(f"{path.name}: holds no stages")
    labels = [r["stage"] for r in rows]
    if "time" not in rows[0]:
        hypnogram = stage_labels.from_labels(
            labels, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
        )
        if "epoch" in rows[0]:
            hypnogram = stage_labels.numbered(hypnogram, [r["epoch"] for r in rows], path.name)
        return replace(hypnogram, scorer=name)
    begin, onsets = _onsets([r["time"] for r in rows], path.name)
    length = epoch_seconds or _common_step(onsets)
    hypnogram = stage_labels.from_labels(
        labels, scheme=scheme, epoch_seconds=length, source=path.name
    )
    places = _places(rows, onsets, hypnogram.epoch_seconds, path.name)
    if "epoch" in rows[0]:
        numbers = [r["epoch"] for r in rows]
        _check_numbers(numbers, places, path.name)
        spaced = stage_labels.numbered(hypnogram, numbers, path.name)
    else:
        spaced = stage_labels.with_holes(hypnogram, places, path.name)
    return replace(spaced, begin=begin, scorer=name, timing="times")


def _onsets(texts: list[str], source: str) -> tuple[datetime | time, list[float]]:
    """Return when the first row is, and how long after it each row is, s.

    Times of day without dates are in order: one that goes back by more than half a day is of the
    next day.
    """
    clocks = [text_files.parse_clock(text.strip()) for text in texts]
    if clocks[0] is None or None in clocks:
        moments = text_files.parse_moments(texts, source)
        return moments[0], [(m - moments[0]).total_seconds() for m in moments]
    seconds = [seconds_of_day(c) for c in clocks if c]
    half = DAY_SECONDS / 2
    steps = [(b - a + half) % DAY_SECONDS - half for a, b in itertools.pairwise(seconds)]
    return clocks[0], [0.0, *itertools.accumulate(steps)]


def _places(
    rows: Sequence[Mapping[str, str]], onsets: list[float], length: float, source: str
) -> list[int]:
    """Return at which epoch after the first row each row is.

    Raises
    ------
    DataError
        If a row is off the grid, not after the one before it, or the clock was changed.
    """
    places = [round(onset / length) for onset in onsets]
    for i, (row, place, onset) in enumerate(zip(rows, places, onsets, strict=True)):
        if abs(onset - place * length) > GRID_TOLERANCE:
            raise DataError(
                f"{source}: {row['time']} is {onset:g} s after the first row, which is no whole "
                f"number of epochs of {length:g} s",
                code="HYP-GRID",
            )
        if i and place <= places[i - 1]:
            raise DataError(
                f"{source}: {row['time']} follows {rows[i - 1]['time']}", code="HYP-GRID"
            )
    stage_labels.check_clock(
        [(onset, length, r["stage"]) for onset, r in zip(onsets, rows, strict=True)], source
    )
    return places


def _common_step(onsets: list[float]) -> float | None:
    """Return the most frequent time from one row to the next, s; None for a single row."""
    steps = Counter(round(b - a, 3) for a, b in itertools.pairwise(onsets))
    return steps.most_common(1)[0][0] if steps else None


def _check_numbers(numbers: list[str], places: list[int], source: str) -> None:
    """Compare the numbers of the epochs with their times."""
    counted = [text_files.parse_number(n, f"{source}: epoch") for n in numbers]
    for number, place in zip(counted, places, strict=True):
        if number != counted[0] + place:
            raise DataError(
                f"{source}: epoch {number:g} is {place} epochs after epoch {counted[0]:g} by its "
                "time",
                code="HYP-NUMBER",
            )


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write a .csv of `Epoch,Stage`, or else one name per line; return notes on what is lost."""
    words, notes = stage_words.word_lines(hypnogram, WORDS, "yasa")
    lines = words
    if path.suffix.lower() == ".csv":
        lines = ["Epoch,Stage", *(f"{i},{word}" for i, word in enumerate(words))]
    store.write_text(path, "\n".join([*lines, ""]))
    return notes
