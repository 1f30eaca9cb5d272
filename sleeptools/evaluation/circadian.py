"""A mouse's day: minutes of each stage in 2-h bins, scored and predicted, and their correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sleeptools.evaluation import sleep_statistics
from sleeptools.evaluation.sleep_agreement import PLACE, tested_nights

if TYPE_CHECKING:
    import polars as pl


BIN_HOURS: Final = 2.0
"""Of a bin of a mouse's day, as in Figure 5 of 10.1038/s41598-024-54727-0."""


def minutes_by_bin(
    tested: pl.DataFrame, stages: Sequence[str], epoch_seconds: float
) -> pl.DataFrame:
    """Add up minutes per stage in 2-h bins of a mouse's recording; empty for people.

    Returns
    -------
    table
        protocol, seed, fold, recording, subject, hour (start of the bin), stage, truth, predicted
        (minutes).
    """
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    for place, night in tested_nights(tested) if "NREM" in stages else ():
        onset = night["onset"].to_numpy()
        numbers, true = sleep_statistics.minutes_in_bins(
            night["stage"].to_numpy(), onset, len(stages), epoch_seconds, BIN_HOURS
        )
        _, found = sleep_statistics.minutes_in_bins(
            night["predicted"].to_numpy(), onset, len(stages), epoch_seconds, BIN_HOURS
        )
        rows += [
            (*place, float(n) * BIN_HOURS, name, float(true[i, j]), float(found[i, j]))
            for i, n in enumerate(numbers)
            for j, name in enumerate(stages)
        ]
    names = [*PLACE, "hour", "stage", "truth", "predicted"]
    text, real = pl.String, pl.Float64
    kinds = [text, pl.Int64, pl.Int64, text, text, real, text, real, real]
    return pl.DataFrame(rows, dict(zip(names, kinds, strict=True)), orient="row")


def bin_correlations(bins: pl.DataFrame) -> pl.DataFrame:
    """Correlate true and predicted minutes over the bins of each recording, and average.

    Returns
    -------
    table
        protocol, stage (null: bins of all stages together, as the paper does), recordings, r, r_sd
        (over recordings and seeds). A recording of fewer than three bins, or with the same minutes
        in all of them, has no correlation.
    """
    import polars as pl

    if not len(bins):
        kinds = {
            "protocol": pl.String,
            "stage": pl.String,
            "recordings": pl.Int64,
            "r": pl.Float64,
            "r_sd": pl.Float64,
        }
        return pl.DataFrame(schema=kinds)
    each = bins.group_by("protocol", "seed", "recording", "stage", maintain_order=True)
    whole = bins.group_by("protocol", "seed", "recording", maintain_order=True)
    r = pl.when(pl.len() > 2).then(pl.corr("truth", "predicted")).fill_nan(None).alias("r")  # noqa: PLR2004
    order = ["protocol", "seed", "recording", "stage", "r"]
    together = whole.agg(r).with_columns(pl.lit(None, pl.String).alias("stage"))
    known = pl.concat([together.select(order), each.agg(r).select(order)]).drop_nulls("r")
    return known.group_by("protocol", "stage", maintain_order=True).agg(
        pl.col("recording").n_unique().cast(pl.Int64).alias("recordings"),
        pl.col("r").mean(),
        pl.col("r").std().alias("r_sd"),
    )
