"""Tables of how truth and prediction agree on sleep: per night, in sum, and between scorers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation import bland_altman as agreement
from sleeptools.evaluation import sleep_statistics
from sleeptools.evaluation.bland_altman import BlandAltman
from sleeptools.evaluation.sleep_statistics import MINUTE, UNITS, Clock

if TYPE_CHECKING:
    import polars as pl

PLACE: Final = ["protocol", "seed", "fold", "recording", "subject"]


def recording_clocks(known: pl.DataFrame | None, epoch_seconds: float) -> Mapping[str, Clock]:
    """Clock of every recording of nights.parquet."""
    if known is None:
        return {}
    rows = known.select("recording", "lights_off", "lights_on").iter_rows()
    return {name: Clock(epoch_seconds, off, on) for name, off, on in rows}


def sleep_per_night(
    tested: pl.DataFrame, known: pl.DataFrame | None, stages: Sequence[str], epoch_seconds: float
) -> pl.DataFrame:
    """Measure every tested night twice.

    Returns
    -------
    table
        protocol, seed, fold, recording, subject, statistic, stage, unit, truth, predicted,
        difference (predicted less true); null where undefined.
    """
    import polars as pl

    clock, plain = recording_clocks(known, epoch_seconds), Clock(epoch_seconds)
    rows = []
    for place, night in tested_nights(tested):
        when = clock.get(str(place[3]), plain)
        onset = night["onset"].to_numpy()
        true, found = (
            sleep_statistics.measure_night(night[column].to_numpy(), onset, stages, when)
            for column in ("stage", "predicted")
        )
        rows += [
            (*place, *key, UNITS[key[0]], true[key], found[key], found[key] - true[key])
            for key in true
        ]
    names = [*PLACE, "statistic", "stage", "unit", "truth", "predicted", "difference"]
    text, real = pl.String, pl.Float64
    kinds = [text, pl.Int64, pl.Int64, text, text, text, text, text, real, real, real]
    schema = dict(zip(names, kinds, strict=True))
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(real).fill_nan(None))


def unpredicted_sleep(tested: pl.DataFrame, known: pl.DataFrame | None) -> pl.DataFrame:
    """Find nights with epochs that were scored as sleep, left out and so never predicted.

    Returns
    -------
    table
        recording, minutes; empty where the whole hypnograms are not known.
    """
    import polars as pl

    if known is None:
        return pl.DataFrame(schema={"recording": pl.String, "minutes": pl.Float64})
    whole = known.select(
        "recording", "epoch_seconds", pl.col("hypnogram").list.eval(pl.element() > 0).list.sum()
    )
    first = tested.unique(["recording", "epoch"]).group_by("recording")
    asked = first.agg((pl.col("stage") > 0).sum().alias("asked"))
    lost = (pl.col("hypnogram").cast(pl.Int64) - pl.col("asked")) * pl.col("epoch_seconds") / MINUTE
    both = whole.join(asked, on="recording", maintain_order="left")
    return both.select("recording", lost.alias("minutes")).filter(pl.col("minutes") > 0)


def tested_nights(tested: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Give every night whole, with what `PLACE` says of it; its fold is null where it has several.

    Only a split of epochs (leaky) tests one night in several folds.
    """
    columns = tested.select(*PLACE, "onset", "stage", "predicted")
    keys = ["protocol", "seed", "recording", "subject"]
    parts = columns.partition_by(keys, as_dict=True, maintain_order=True)
    for (protocol, seed, recording, subject), night in parts.items():
        fold = night["fold"][0] if night["fold"].n_unique() == 1 else None
        yield (protocol, seed, fold, recording, subject), night.sort("onset")


def bland_altman_table(measured: pl.DataFrame) -> pl.DataFrame:
    """Sum up `sleep_per_night`: bias and limits of every statistic, under every protocol.

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
    for where, part in measured.partition_by(keys, as_dict=True, maintain_order=True).items():
        grid = _by_seed(part)
        found = agreement.bland_altman(*grid)
        row = dict(zip(keys, where, strict=True))
        row |= {"unit": part["unit"][0], "undefined": len(grid[0]) - found.nights}
        rows.append(row | _columns(found))
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def _by_seed(part: pl.DataFrame) -> tuple[Any, Any, list[str]]:
    """(nights, seeds) true and predicted, and whose nights; nights that a seed lacks are NaN."""
    seeds = sorted(set(part["seed"]))
    recordings = dict(part.select("recording", "subject").unique(maintain_order=True).iter_rows())
    row = {name: i for i, name in enumerate(recordings)}
    true = np.full((len(row), len(seeds)), np.nan)
    found = true.copy()
    for name, seed, t, p in part.select("recording", "seed", "truth", "predicted").iter_rows():
        place = row[name], seeds.index(seed)
        true[place] = np.nan if t is None else t
        found[place] = np.nan if p is None else p
    return true, found, list(recordings.values())


def _columns(found: BlandAltman) -> dict[str, Any]:
    row: dict[str, Any] = {"nights": found.nights, "subjects": found.subjects}
    for name in agreement.QUANTITIES:
        value, low, high = getattr(found, name)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | {"proportional": found.proportional, "heteroscedastic": found.heteroscedastic}


# --- several scorers ------------------------------------------------------------------------------


# --- mice -----------------------------------------------------------------------------------------
