"""Tables of how truth and prediction agree on sleep: per night, in sum, and between scorers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.datasets.simulation import true_stages
from sleeptools.evaluation import bland_altman as agreement
from sleeptools.evaluation import bootstrap, metrics, sleep_statistics
from sleeptools.evaluation.bland_altman import BlandAltman
from sleeptools.evaluation.sleep_statistics import MINUTE, UNITS, Clock
from sleeptools.runs import nights

if TYPE_CHECKING:
    import polars as pl

HOURS: Final = 2.0
"""Of a bin of a mouse's day, as in Figure 5 of 10.1038/s41598-024-54727-0."""
PLACE: Final = ["protocol", "seed", "fold", "recording", "subject"]
COMPARED: Final = ("accuracy", "macro_f1", "kappa")


def clocks(known: pl.DataFrame | None, epoch_seconds: float) -> Mapping[str, Clock]:
    """Clock of every recording of nights.parquet."""
    if known is None:
        return {}
    rows = known.select("recording", "lights_off", "lights_on").iter_rows()
    return {name: Clock(epoch_seconds, off, on) for name, off, on in rows}


def per_night(
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

    clock, plain = clocks(known, epoch_seconds), Clock(epoch_seconds)
    rows = []
    for place, night in _nights(tested):
        when = clock.get(str(place[3]), plain)
        onset = night["onset"].to_numpy()
        true, found = (
            sleep_statistics.measure(night[column].to_numpy(), onset, stages, when)
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


def _nights(tested: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Give every night whole, with what `PLACE` says of it; its fold is null where it has several.

    Only a split of epochs (leaky) tests one night in several folds.
    """
    columns = tested.select(*PLACE, "onset", "stage", "predicted")
    keys = ["protocol", "seed", "recording", "subject"]
    parts = columns.partition_by(keys, as_dict=True, maintain_order=True)
    for (protocol, seed, recording, subject), night in parts.items():
        fold = night["fold"][0] if night["fold"].n_unique() == 1 else None
        yield (protocol, seed, fold, recording, subject), night.sort("onset")


def bland_altman(measured: pl.DataFrame) -> pl.DataFrame:
    """Sum up `per_night`: bias and limits of every statistic, under every protocol.

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
    for name in agreement.NUMBERS:
        value, low, high = getattr(found, name)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | {"proportional": found.proportional, "heteroscedastic": found.heteroscedastic}


# --- several scorers ------------------------------------------------------------------------------


def scorers(
    tested: pl.DataFrame, known: pl.DataFrame | None, stages: Sequence[str]
) -> pl.DataFrame:
    """Compare model and scorers two by two, on the test epochs that all of them scored.

    Returns
    -------
    table
        protocol, other (number of the second scorer), pair ("model - scorer 1", "model - scorer
        2", "scorer 1 - scorer 2", the numbers as in the data set, or "generator" for the stages
        that made simulated signals), subjects, epochs (of one seed),
        metric, value, low, high. The first of a pair is the prediction, the second the truth, which
        matters to macro-F1 alone. Empty where only one scored.
    """
    import polars as pl

    schema = {
        "protocol": pl.String, "other": pl.Int64, "pair": pl.String, "subjects": pl.Int64,
        "epochs": pl.Int64, "metric": pl.String, "value": pl.Float64, "low": pl.Float64,
        "high": pl.Float64,
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    numbers = nights.others(known)
    for number in numbers:
        assert known is not None
        both = _beside(tested, known, number)
        own = next(n for n in range(1, len(numbers) + 2) if n not in numbers)
        other = true_stages.NAME if _is_generator(known, number) else f"scorer {number}"
        rows += _pairs(both, f"scorer {own}", other, number, len(stages))
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def ceiling(
    tested: pl.DataFrame, known: pl.DataFrame | None, stages: Sequence[str]
) -> float | None:
    """Kappa of the simulated scorer with the stages that made the signals, on the tested epochs.

    None where these are not known.
    """
    found = [n for n in nights.others(known) if _is_generator(known, n)]
    if not found or known is None:
        return None
    both = _beside(tested, known, found[-1]).unique(["recording", "epoch"])
    counts = metrics.confusion(both["stage"].to_numpy(), both["other"].to_numpy(), len(stages))
    return float(metrics.kappa(counts))


def _is_generator(known: pl.DataFrame | None, number: int) -> bool:
    return known is not None and set(known[f"scorer_{number}"].drop_nulls()) == {true_stages.NAME}


def _beside(tested: pl.DataFrame, known: pl.DataFrame, number: int) -> pl.DataFrame:
    """Put the stages of a further scorer beside the predictions, where that one scored."""
    import polars as pl

    theirs = known.select("recording", pl.col(f"{nights.OTHER}{number}").alias("other"))
    theirs = theirs.explode("other").with_columns(
        pl.int_range(pl.len()).over("recording").cast(pl.Int32).alias("epoch")
    )
    return tested.select(
        "protocol", "seed", "subject", "recording", pl.col("epoch").cast(pl.Int32), "stage",
        "predicted",
    ).join(theirs, on=["recording", "epoch"]).filter(pl.col("other") >= 0)  # fmt: skip


def _pairs(
    both: pl.DataFrame, own: str, other: str, number: int, count: int
) -> Iterator[tuple[Any, ...]]:
    pairs = {
        f"model - {own}": ("predicted", "stage"),
        f"model - {other}": ("predicted", "other"),
        f"{own} - {other}": ("stage", "other"),
    }
    for (protocol,), part in both.partition_by("protocol", as_dict=True).items():
        subjects, seeds = sorted(set(part["subject"])), sorted(set(part["seed"]))
        for pair, (first, second) in pairs.items():
            counts = np.zeros((len(subjects), len(seeds), count, count), np.int64)
            grouped = part.group_by("subject", "seed", second, first).len()
            for subject, seed, truth, predicted, n in grouped.iter_rows():
                counts[subjects.index(subject), seeds.index(seed), truth, predicted] = n

            def weigh(weights: metrics.Matrix, counts: metrics.Counts = counts) -> metrics.Values:
                whole = np.tensordot(weights, counts, 1)
                return np.stack([metrics.OF_ALL[m](whole).mean(-1) for m in COMPARED], -1)

            found = bootstrap.bootstrap(weigh, len(subjects))
            epochs = int(counts[:, 0].sum())
            for name, *numbers in zip(COMPARED, *found, strict=True):
                yield protocol, number, pair, len(subjects), epochs, name, *map(float, numbers)


# --- mice -----------------------------------------------------------------------------------------


def day(tested: pl.DataFrame, stages: Sequence[str], epoch_seconds: float) -> pl.DataFrame:
    """Add up minutes per stage in 2-h bins of a mouse's recording; empty for people.

    Returns
    -------
    table
        protocol, seed, fold, recording, subject, hour (start of the bin), stage, truth, predicted
        (minutes).
    """
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    for place, night in _nights(tested) if "NREM" in stages else ():
        onset = night["onset"].to_numpy()
        numbers, true = sleep_statistics.bins(
            night["stage"].to_numpy(), onset, len(stages), epoch_seconds, HOURS
        )
        _, found = sleep_statistics.bins(
            night["predicted"].to_numpy(), onset, len(stages), epoch_seconds, HOURS
        )
        rows += [
            (*place, float(n) * HOURS, name, float(true[i, j]), float(found[i, j]))
            for i, n in enumerate(numbers)
            for j, name in enumerate(stages)
        ]
    names = [*PLACE, "hour", "stage", "truth", "predicted"]
    text, real = pl.String, pl.Float64
    kinds = [text, pl.Int64, pl.Int64, text, text, real, text, real, real]
    return pl.DataFrame(rows, dict(zip(names, kinds, strict=True)), orient="row")


def correlations(bins: pl.DataFrame) -> pl.DataFrame:
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
        kinds = {"protocol": pl.String, "stage": pl.String, "recordings": pl.Int64,
                 "r": pl.Float64, "r_sd": pl.Float64}  # fmt: skip
        return pl.DataFrame(schema=kinds)
    each = bins.group_by("protocol", "seed", "recording", "stage", maintain_order=True)
    whole = bins.group_by("protocol", "seed", "recording", maintain_order=True)
    r = pl.when(pl.len() > 2).then(pl.corr("truth", "predicted")).fill_nan(None).alias("r")  # noqa: PLR2004
    order = ["protocol", "seed", "recording", "stage", "r"]
    together = whole.agg(r).with_columns(pl.lit(None, pl.String).alias("stage"))
    known = pl.concat([together.select(order), each.agg(r).select(order)]).drop_nulls("r")
    return known.group_by("protocol", "stage", maintain_order=True).agg(
        pl.col("recording").n_unique().cast(pl.Int64).alias("recordings"),
        pl.col("r").mean(), pl.col("r").std().alias("r_sd"),
    )  # fmt: skip
