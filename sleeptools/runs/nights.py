"""nights.parquet of a run: hypnogram, lights-off and other scorers of each recording.

Predictions cover the kept epochs only; the whole hypnogram, lights-off and what other scorers wrote
lie in the epochs. A copy in the run lets it be evaluated anywhere, without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools import store

if TYPE_CHECKING:
    import polars as pl

    from sleeptools.preprocessing.epochs import EpochSet

NIGHTS_FILE: Final = "nights.parquet"
OTHER_STAGES: Final = "stages_"
"""Prefix of a column with the stages of a scorer other than the reference."""


def nights_table(data: EpochSet) -> pl.DataFrame:
    """Describe every recording of a set of epochs.

    Returns
    -------
    table
        A row per recording: recording, subject, night, epoch_seconds (s), hypnogram (list of int8,
        the whole one before trimming, -1 unscored), hypnogram_onset, lights_off, lights_on (s from
        the start of the recording, null where unknown), age (years), sex, scorer, and where others
        scored as well `stages_N` (list of int8, for the kept epochs) and `scorer_N`.
    """
    import polars as pl

    rows = []
    for file in data.files:
        facts = file.facts
        named = facts.get("others") or {}
        row = {
            "recording": file.recording,
            "subject": file.subject,
            "night": file.night,
            "epoch_seconds": data.epoch_seconds,
            "hypnogram": file.hypnogram.tolist(),
            "hypnogram_onset": facts.get("hypnogram_onset", 0.0),
            "lights_off": facts.get("lights_off"),
            "lights_on": facts.get("lights_on"),
            "age": facts.get("age"),
            "sex": facts.get("sex"),
            "scorer": facts.get("scorer"),
        }
        for number, stages in file.other_stages.items():
            row[f"{OTHER_STAGES}{number}"] = np.asarray(stages).tolist()
            row[f"scorer_{number}"] = named.get(str(number), named.get(number))
        rows.append(row)
    scorers = sorted({number for file in data.files for number in file.other_stages})
    real, text, stages_ = pl.Float64, pl.String, pl.List(pl.Int8)
    schema: dict[str, Any] = {
        "recording": text,
        "subject": text,
        "night": pl.Int64,
        "epoch_seconds": real,
        "hypnogram": stages_,
        "hypnogram_onset": real,
        "lights_off": real,
        "lights_on": real,
        "age": real,
        "sex": text,
        "scorer": text,
    }
    for number in scorers:
        schema |= {f"{OTHER_STAGES}{number}": stages_, f"scorer_{number}": text}
    return pl.DataFrame(rows, schema)


def read_nights(folder: Path) -> pl.DataFrame | None:
    """Read the table of a run; None for an old run without it."""
    path = folder / NIGHTS_FILE
    return store.read_table(path) if path.exists() else None


def other_scorers(table: pl.DataFrame | None) -> list[int]:
    """Numbers of the scorers other than the reference."""
    columns = table.columns if table is not None else []
    return sorted(int(c.removeprefix(OTHER_STAGES)) for c in columns if c.startswith(OTHER_STAGES))
