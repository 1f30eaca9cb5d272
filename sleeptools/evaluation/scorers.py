"""Model and human scorers two by two on the same epochs, and the ceiling that a scorer sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeptools.evaluation import bootstrap, metrics
from sleeptools.recording.hypnogram import GENERATOR_SCORER
from sleeptools.runs import nights

if TYPE_CHECKING:
    import polars as pl


def compare_scorers(
    tested: pl.DataFrame, recordings: pl.DataFrame | None, stages: Sequence[str]
) -> pl.DataFrame:
    """Compare model and scorers two by two, on the test epochs that all of them scored.

    Parameters
    ----------
    tested
        Predictions of test epochs.
    recordings
        Table of nights.parquet, which holds the stages of further scorers; None where it is absent.
    stages
        Stage names.

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
        "protocol": pl.String,
        "other": pl.Int64,
        "pair": pl.String,
        "subjects": pl.Int64,
        "epochs": pl.Int64,
        "metric": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
    rows: list[tuple[Any, ...]] = []
    numbers = nights.other_scorers(recordings)
    for number in numbers:
        assert recordings is not None
        joined = _join_scorer(tested, recordings, number)
        first = next(n for n in range(1, len(numbers) + 2) if n not in numbers)
        second = GENERATOR_SCORER if _is_generator(recordings, number) else f"scorer {number}"
        rows += _pairs(joined, f"scorer {first}", second, number, len(stages))
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def scoring_ceiling(
    tested: pl.DataFrame, recordings: pl.DataFrame | None, stages: Sequence[str]
) -> float | None:
    """Kappa of the simulated scorer with the stages that made the signals, on the tested epochs.

    None where these stages are not known. Parameters as in `compare_scorers`.
    """
    numbers = [n for n in nights.other_scorers(recordings) if _is_generator(recordings, n)]
    if not numbers or recordings is None:
        return None
    epochs = _join_scorer(tested, recordings, numbers[-1]).unique(["recording", "epoch"])
    scored, generated = epochs["stage"].to_numpy(), epochs["other"].to_numpy()
    return float(metrics.kappa(metrics.confusion_matrix(scored, generated, len(stages))))


def _is_generator(recordings: pl.DataFrame | None, number: int) -> bool:
    """Tell whether the further scorer of that number is the simulation itself."""
    if recordings is None:
        return False
    return set(recordings[f"scorer_{number}"].drop_nulls()) == {GENERATOR_SCORER}


def _join_scorer(tested: pl.DataFrame, recordings: pl.DataFrame, number: int) -> pl.DataFrame:
    """Join the stages of a further scorer to the predictions, as `other`, where that one scored."""
    import polars as pl

    theirs = recordings.select("recording", pl.col(f"{nights.OTHER_STAGES}{number}").alias("other"))
    theirs = theirs.explode("other").with_columns(
        pl.int_range(pl.len()).over("recording").cast(pl.Int32).alias("epoch")
    )
    return (
        tested.select(
            "protocol",
            "seed",
            "subject",
            "recording",
            pl.col("epoch").cast(pl.Int32),
            "stage",
            "predicted",
        )
        .join(theirs, on=["recording", "epoch"])
        .filter(pl.col("other") >= 0)
    )


def _pairs(
    joined: pl.DataFrame, first: str, second: str, number: int, stages: int
) -> Iterator[tuple[Any, ...]]:
    """Give the rows of model and two scorers, named `first` and `second`, for each protocol."""
    pairs = {
        f"model - {first}": ("predicted", "stage"),
        f"model - {second}": ("predicted", "other"),
        f"{first} - {second}": ("stage", "other"),
    }
    for (protocol,), table in joined.partition_by("protocol", as_dict=True).items():
        for pair, (prediction, truth) in pairs.items():
            counts = _count_pair(table, truth, prediction, stages)

            def statistic(
                weights: metrics.Matrix, counts: metrics.Counts = counts
            ) -> metrics.Values:
                pooled = np.tensordot(weights, counts, 1)
                values = (metrics.OVERALL_METRICS[m](pooled).mean(-1) for m in metrics.COMPARED)
                return np.stack(list(values), -1)

            bounds = bootstrap.bootstrap_interval(statistic, len(counts))
            epochs = int(counts[:, 0].sum())
            for name, *numbers in zip(metrics.COMPARED, *bounds, strict=True):
                yield protocol, number, pair, len(counts), epochs, name, *map(float, numbers)


def _count_pair(table: pl.DataFrame, truth: str, prediction: str, stages: int) -> metrics.Counts:
    """(subjects, seeds, stages, stages) confusion matrices of two columns."""
    subjects, seeds = sorted(set(table["subject"])), sorted(set(table["seed"]))
    counts = np.zeros((len(subjects), len(seeds), stages, stages), np.int64)
    grouped = table.group_by("subject", "seed", truth, prediction).len()
    for subject, seed, row, column, n in grouped.iter_rows():
        counts[subjects.index(subject), seeds.index(seed), row, column] = n
    return counts
