"""A mouse's day: minutes of each stage in 2-h bins, scored and predicted, and their correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sleeptools.evaluation.confusion import KEY_COLUMNS
from sleeptools.evaluation.sleep_agreement import tested_nights
from sleeptools.evaluation.sleep_statistics import minutes_in_bins

if TYPE_CHECKING:
    import polars as pl


BIN_HOURS: Final = 2.0
"""Width of a bin of a mouse's day, h, as in Figure 5 of 10.1038/s41598-024-54727-0."""
FEWEST_BINS: Final = 3
"""Number of bins below which there is no course over the day to correlate."""


def minutes_by_bin(
    tested: pl.DataFrame, stages: Sequence[str], epoch_seconds: float
) -> pl.DataFrame:
    """Add up minutes per stage in 2-h bins of a mouse's recording; empty for people.

    Parameters
    ----------
    tested
        Predictions of test epochs.
    stages
        Stage names.
    epoch_seconds
        Length of an epoch, s.

    Returns
    -------
    table
        protocol, seed, fold, recording, subject, hour (start of the bin), stage, truth, predicted
        (minutes).
    """
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    for key, night in tested_nights(tested) if "NREM" in stages else ():
        onset = night["onset"].to_numpy()
        (numbers, truth), (_, predicted) = (
            minutes_in_bins(night[side].to_numpy(), onset, len(stages), epoch_seconds, BIN_HOURS)
            for side in ("stage", "predicted")
        )
        rows += [
            (*key, float(n) * BIN_HOURS, name, float(truth[i, j]), float(predicted[i, j]))
            for i, n in enumerate(numbers)
            for j, name in enumerate(stages)
        ]
    names = [*KEY_COLUMNS, "hour", "stage", "truth", "predicted"]
    text, real = pl.String, pl.Float64
    kinds = [text, pl.Int64, pl.Int64, text, text, real, text, real, real]
    return pl.DataFrame(rows, dict(zip(names, kinds, strict=True)), orient="row")


def bin_correlations(bins: pl.DataFrame) -> pl.DataFrame:
    """Correlate true and predicted minutes over the bins of each recording, and average.

    Parameters
    ----------
    bins
        Table by `minutes_by_bin`.

    Returns
    -------
    table
        protocol, stage (null: bins of all stages together, as the SlumberNet paper does),
        recordings, r, r_sd (over recordings and seeds). A recording of fewer than `FEWEST_BINS`, or
        with the same minutes in all of them, has no correlation.
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
    keys = ["protocol", "seed", "recording"]
    has_course = pl.col("hour").n_unique() >= FEWEST_BINS
    r = pl.when(has_course).then(pl.corr("truth", "predicted")).fill_nan(None).alias("r")
    by_stage = bins.group_by(*keys, "stage", maintain_order=True).agg(r)
    overall = bins.group_by(keys, maintain_order=True).agg(r)
    overall = overall.with_columns(pl.lit(None, pl.String).alias("stage"))
    order = [*keys, "stage", "r"]
    correlations = pl.concat([overall.select(order), by_stage.select(order)]).drop_nulls("r")
    return correlations.group_by("protocol", "stage", maintain_order=True).agg(
        pl.col("recording").n_unique().cast(pl.Int64).alias("recordings"),
        pl.col("r").mean(),
        pl.col("r").std().alias("r_sd"),
    )
