"""Our own table of a scored night: CSV with the stage and the probability of every stage per epoch.

`score` writes it: columns epoch, onset and duration (s), time (of day, with the date, where it is
known), stage, confidence (probability of the stage), `p_STAGE` for every stage, and unscored (why
there is no stage). Times count from the recording's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.formats.parsing import text_files
from sleeptools.recording.hypnogram import Hypnogram, add_seconds, from_events
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, REASONS, UNKNOWN, UNSCORED

Floats = npt.NDArray[np.float32]

COLUMNS: Final = ("epoch", "onset", "duration", "time", "stage", "confidence")
PROBABILITY: Final = "p_"


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its columns."""
    del path
    return tuple(text_files.header_cells(head, ",")[: len(COLUMNS)]) == COLUMNS


def write_table(
    path: Path, hypnogram: Hypnogram, density: Floats, left_out: Sequence[str] = ()
) -> None:
    """Write the table of a night.

    Parameters
    ----------
    hypnogram
        Stages; `begin` is the time of the first epoch where it is known.
    density
        (epochs, stages) probabilities; NaN where an epoch was not scored.
    left_out
        (epochs,) why an epoch was not scored, or "".
    """
    names = hypnogram.names
    head: list[object] = [*COLUMNS, *(PROBABILITY + name for name in names), "unscored"]
    seconds = hypnogram.epoch_seconds
    rows: list[list[object]] = [head]
    why = left_out or [""] * len(hypnogram)
    for number, stage in enumerate(hypnogram.stages.tolist()):
        scored = stage != UNSCORED
        p = [f"{value:.7g}" for value in density[number].tolist()] if scored else [""] * len(names)
        rows.append(
            [
                number,
                text_files.decimal_text(hypnogram.onset + number * seconds),
                text_files.decimal_text(seconds),
                _clock(add_seconds(hypnogram.begin, number * seconds)),
                names[stage] if scored else "",
                p[stage] if scored else "",
                *p,
                "" if scored else why[number] or REASONS[hypnogram.reasons[number]],
            ]
        )
    store.write_text(path, store.csv_text(rows))


def _clock(moment: datetime | time | None) -> str:
    return "" if moment is None else moment.isoformat()


def read_hypnogram(path: Path) -> Hypnogram:
    """Read the stage of every epoch; an epoch without one is unscored.

    Raises
    ------
    DataError
        If an epoch is missing, or its stage unknown.
    """
    rows = text_files.read_table(path, ",")
    names = _names(rows[0] if rows else {}, path)
    meaning = {name: name for name in names} | {"": REASONS[UNKNOWN]}
    events = []
    for number, row in enumerate(rows):
        place = f"{path.name}: line {number + 2}"
        if row["epoch"] != str(number):
            raise DataError(
                f"{place}: epoch {row['epoch'][:20]!r} follows epoch {number - 1}", code="HYP-ROW"
            )
        onset, duration = (
            text_files.parse_number(row[column], f"{place}: {column}")
            for column in ("onset", "duration")
        )
        events.append((onset, duration, row["stage"]))
    hypnogram = from_events(
        events, meaning, names=names, epoch_seconds=events[0][1], source=path.name
    )
    begin = _moment(rows[0]["time"], path)
    ahead = hypnogram.onset - events[0][0]
    return replace(hypnogram, begin=add_seconds(begin, ahead))


def read_density(path: Path) -> Floats:
    """Read the probabilities of a table: (epochs, stages), NaN where an epoch was not scored."""
    rows = text_files.read_table(path, ",")
    columns = [PROBABILITY + name.lower() for name in _names(rows[0] if rows else {}, path)]
    cells = [[row[c] or "nan" for c in columns] for row in rows]
    try:
        return np.array(cells, np.float32)
    except ValueError as e:
        raise DataError(f"{path.name}: a probability is no number: {e}", code="HYP-ROW") from e


def _names(row: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Tell the stage list from the columns of probabilities."""
    there = [column for column in row if column.startswith(PROBABILITY)]
    for names in (HUMAN_STAGES, MOUSE_STAGES):
        if there == [PROBABILITY + name.lower() for name in names]:
            return names
    raise DataError(
        f"{path.name}: has no epochs, or columns of probabilities {', '.join(there) or 'none'}",
        hint="expected those of W N1 N2 N3 REM, or of Wake NREM REM",
        code="HYP-ROW",
    )


def _moment(text: str, path: Path) -> datetime | time | None:
    try:
        if not text:
            return None
        return datetime.fromisoformat(text) if "T" in text else time.fromisoformat(text)
    except ValueError as e:
        raise DataError(f"{path.name}: line 2: {text[:30]!r} is no time", code="HYP-ROW") from e
