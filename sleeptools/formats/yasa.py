"""YASA hypnograms: CSV with a column `Stage`, or text with one name per line.

Names are WAKE N1 N2 N3 REM ART UNS, for three stages WAKE NREM REM; older files have the integers
-2 to 4 of the scheme "yasa". A column `Time` has the date and time of each epoch, `Epoch` its
number. Text with one name per line is read by `formats.labels`.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording.hypnogram import Hypnogram

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
    begin = None
    if "time" in rows[0]:
        times = text_files.parse_moments([r["time"] for r in rows], path.name)
        steps = {(b - a).total_seconds() for a, b in itertools.pairwise(times)}
        if len(steps) > 1 or min(steps, default=1) <= 0:
            raise DataError(f"{path.name}: the times are not one epoch apart", code="HYP-GRID")
        begin, epoch_seconds = times[0], epoch_seconds or next(iter(steps), None)
    labels = [r["stage"] for r in rows]
    hypnogram = stage_labels.from_labels(
        labels, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )
    if "epoch" in rows[0]:
        hypnogram = stage_labels.numbered(hypnogram, [r["epoch"] for r in rows], path.name)
    return replace(
        hypnogram, begin=begin, scorer=name, timing=hypnogram.timing if begin is None else "times"
    )


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write a .csv of `Epoch,Stage`, or else one name per line; return notes on what is lost."""
    words, notes = stage_words.word_lines(hypnogram, WORDS, "yasa")
    lines = words
    if path.suffix.lower() == ".csv":
        lines = ["Epoch,Stage", *(f"{i},{word}" for i, word in enumerate(words))]
    store.write_text(path, "\n".join([*lines, ""]))
    return notes
