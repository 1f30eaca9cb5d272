"""Model and human scorers two by two on the same epochs, and the ceiling that a scorer sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.datasets.simulation import true_stages
from sleeptools.evaluation import bootstrap, metrics
from sleeptools.runs import nights

if TYPE_CHECKING:
    import polars as pl


COMPARED: Final = ("accuracy", "macro_f1", "kappa")


def compare_scorers(
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
    numbers = nights.others(known)
    for number in numbers:
        assert known is not None
        both = _beside(tested, known, number)
        own = next(n for n in range(1, len(numbers) + 2) if n not in numbers)
        other = true_stages.NAME if _is_generator(known, number) else f"scorer {number}"
        rows += _pairs(both, f"scorer {own}", other, number, len(stages))
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def scoring_ceiling(
    tested: pl.DataFrame, known: pl.DataFrame | None, stages: Sequence[str]
) -> float | None:
    """Kappa of the simulated scorer with the stages that made the signals, on the tested epochs.

    None where these are not known.
    """
    found = [n for n in nights.others(known) if _is_generator(known, n)]
    if not found or known is None:
        return None
    both = _beside(tested, known, found[-1]).unique(["recording", "epoch"])
    counts = metrics.confusion_matrix(
        both["stage"].to_numpy(), both["other"].to_numpy(), len(stages)
    )
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
                return np.stack([metrics.OVERALL_METRICS[m](whole).mean(-1) for m in COMPARED], -1)

            found = bootstrap.bootstrap_interval(weigh, len(subjects))
            epochs = int(counts[:, 0].sum())
            for name, *numbers in zip(COMPARED, *found, strict=True):
                yield protocol, number, pair, len(subjects), epochs, name, *map(float, numbers)
