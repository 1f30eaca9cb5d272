"""Agreement of truth and prediction on sleep: statistics of every night, and bias and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeptools.evaluation.bland_altman import QUANTITIES, BlandAltman, bland_altman
from sleeptools.evaluation.confusion import KEY_COLUMNS
from sleeptools.evaluation.sleep_statistics import MINUTE, UNITS, Clock, measure_night

if TYPE_CHECKING:
    import polars as pl


def recording_clocks(nights: pl.DataFrame | None, epoch_seconds: float) -> Mapping[str, Clock]:
    """Make the clock of every recording of nights.parquet; none without that table."""
    if nights is None:
        return {}
    rows = nights.select("recording", "lights_off", "lights_on").iter_rows()
    return {name: Clock(epoch_seconds, off, on) for name, off, on in rows}


def sleep_per_night(
    tested: pl.DataFrame, nights: pl.DataFrame | None, stages: Sequence[str], epoch_seconds: float
) -> pl.DataFrame:
    """Measure the sleep of every tested night, from the true and from the predicted stages.

    Parameters
    ----------
    tested
        Predictions of test epochs.
    nights
        Table of nights.parquet, or None.
    stages
        Stage names.
    epoch_seconds
        Length of an epoch, s.

    Returns
    -------
    table
        protocol, seed, fold, recording, subject, statistic, stage, unit, truth, predicted,
        difference (predicted less true); null where undefined.
    """
    import polars as pl

    clocks, default = recording_clocks(nights, epoch_seconds), Clock(epoch_seconds)
    rows = []
    for key, night in tested_nights(tested):
        clock = clocks.get(str(key[3]), default)
        onset = night["onset"].to_numpy()
        truth, predicted = (
            measure_night(night[side].to_numpy(), onset, stages, clock)
            for side in ("stage", "predicted")
        )
        rows += [
            (
                *key,
                *name,
                UNITS[name[0]],
                truth[name],
                predicted[name],
                predicted[name] - truth[name],
            )
            for name in truth
        ]
    names = [*KEY_COLUMNS, "statistic", "stage", "unit", "truth", "predicted", "difference"]
    text, real = pl.String, pl.Float64
    kinds = [text, pl.Int64, pl.Int64, text, text, text, text, text, real, real, real]
    schema = dict(zip(names, kinds, strict=True))
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(real).fill_nan(None))


def unpredicted_sleep(tested: pl.DataFrame, nights: pl.DataFrame | None) -> pl.DataFrame:
    """Find nights with epochs that were scored as sleep, left out and so never predicted.

    Parameters
    ----------
    tested
        Predictions of test epochs.
    nights
        Table of nights.parquet, or None.

    Returns
    -------
    table
        recording, minutes; empty without the table of nights.
    """
    import polars as pl

    if nights is None:
        return pl.DataFrame(schema={"recording": pl.String, "minutes": pl.Float64})
    scored = nights.select(
        "recording", "epoch_seconds", pl.col("hypnogram").list.eval(pl.element() > 0).list.sum()
    )
    first = tested.unique(["recording", "epoch"]).group_by("recording")
    predicted = first.agg((pl.col("stage") > 0).sum().alias("predicted"))
    epochs = pl.col("hypnogram").cast(pl.Int64) - pl.col("predicted")
    minutes = (epochs * pl.col("epoch_seconds") / MINUTE).alias("minutes")
    joined = scored.join(predicted, on="recording", maintain_order="left")
    return joined.select("recording", minutes).filter(pl.col("minutes") > 0)


def tested_nights(tested: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Give the epochs of every night in their order, with the values of `KEY_COLUMNS`.

    The fold is None where the night has several: a split of epochs (leaky) tests one night in
    several folds.
    """
    columns = tested.select(*KEY_COLUMNS, "onset", "stage", "predicted")
    keys = ["protocol", "seed", "recording", "subject"]
    nights = columns.partition_by(keys, as_dict=True, maintain_order=True)
    for (protocol, seed, recording, subject), night in nights.items():
        fold = night["fold"][0] if night["fold"].n_unique() == 1 else None
        yield (protocol, seed, fold, recording, subject), night.sort("onset")


def bland_altman_table(measured: pl.DataFrame) -> pl.DataFrame:
    """Compute bias and limits of agreement of every statistic, under every protocol.

    Parameters
    ----------
    measured
        Table by `sleep_per_night`.

    Returns
    -------
    table
        protocol, statistic, stage, unit, nights, subjects, undefined (nights left out because the
        statistic is undefined in truth or prediction), and of each of bias, sd, lower, upper (the
        limits of agreement), slope, spread_slope the value and NAME_low, NAME_high; proportional,
        heteroscedastic (bool).
    """
    import polars as pl

    keys = ["protocol", "statistic", "stage"]
    rows = []
    for key, nights in measured.partition_by(keys, as_dict=True, maintain_order=True).items():
        truth, predicted, subjects = _by_seed(nights)
        agreement = bland_altman(truth, predicted, subjects)
        row = dict(zip(keys, key, strict=True))
        row |= {"unit": nights["unit"][0], "undefined": len(truth) - agreement.nights}
        rows.append(row | _columns(agreement))
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def _by_seed(nights: pl.DataFrame) -> tuple[Any, Any, list[str]]:
    """(nights, seeds) true and predicted, NaN where a seed lacks a night; and the subjects."""
    seeds = sorted(set(nights["seed"]))
    subjects = dict(nights.select("recording", "subject").unique(maintain_order=True).iter_rows())
    row = {name: i for i, name in enumerate(subjects)}
    truth, predicted = np.full((2, len(row), len(seeds)), np.nan)
    for name, seed, t, p in nights.select("recording", "seed", "truth", "predicted").iter_rows():
        cell = row[name], seeds.index(seed)
        truth[cell] = np.nan if t is None else t
        predicted[cell] = np.nan if p is None else p
    return truth, predicted, list(subjects.values())


def _columns(agreement: BlandAltman) -> dict[str, Any]:
    row: dict[str, Any] = {"nights": agreement.nights, "subjects": agreement.subjects}
    for name in QUANTITIES:
        value, low, high = getattr(agreement, name)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | {
        "proportional": agreement.proportional,
        "heteroscedastic": agreement.heteroscedastic,
    }
