"""AccuSleePy label files of mice: CSV with `brain_state` and perhaps `confidence_score`.

One row per epoch: 1 REM, 2 wake, 3 NREM, -1 undefined, as in AccuSleePy's own configuration. The
file does not say how long an epoch is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import Hypnogram

COLUMNS: Final = (["brain_state"], ["brain_state", "confidence_score"])
WORDS: Final = {
    "Wake": "2",
    "NREM": "3",
    "REM": "1",
    "unknown": "-1",
    "movement": "-1",
    "unannotated": "-1",
}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its header."""
    del path
    return text_files.header_cells(head, ",") in COLUMNS


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the labels.

    Parameters
    ----------
    scheme
        "accusleepy" if left out.
    epoch_seconds
        Length of an epoch, s; required.

    Raises
    ------
    DataError
        For a malformed row, an unknown label, or a missing `epoch_seconds`.
    NoStagesError
        If there are no rows.
    """
    rows = text_files.read_table(path, ",")
    if not rows:
        raise NoStagesError(f"{path.name}: holds no labels")
    labels = [r["brain_state"] for r in rows]
    return stage_labels.from_labels(
        labels,
        scheme=label_schemes.of_form("accusleepy", scheme, labels, path.name),
        epoch_seconds=epoch_seconds,
        source=path.name,
    )


def read_confidence(path: Path, hypnogram: Hypnogram) -> npt.NDArray[np.float64] | None:
    """Read the confidence in each epoch's stage: (epochs,), NaN where there is none.

    None if the file has no column of it; parameters as of `bids.read_confidence`.

    Raises
    ------
    DataError
        If an entry is no number.
    """
    rows = text_files.read_table(path, ",")
    if "confidence_score" not in (rows[0] if rows else {}):
        return None
    cells = [row["confidence_score"] or "nan" for row in rows[: len(hypnogram)]]
    try:
        return np.array(cells, np.float64)
    except ValueError as e:
        raise DataError(f"{path.name}: a confidence is no number: {e}", code="HYP-ROW") from e


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write the labels; return notes on what the format cannot represent."""
    words, notes = stage_words.word_lines(hypnogram, WORDS, "accusleepy")
    store.write_text(path, "\n".join(["brain_state", *words, ""]))
    return notes
