"""`sleeptools evaluate`: the numbers of a run, from its saved predictions, or of an external test.

Also what `sleeptools verify` says about a run: whether its numbers follow from its predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sleeptools import store
from sleeptools.commands import external_test
from sleeptools.evaluation import evaluation
from sleeptools.evaluation.confusion import PLACE, VALUES
from sleeptools.evaluation.evaluation import Evaluation, compare
from sleeptools.runs.run import open_run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Evaluation", "compare", "compute", "evaluate", "score_external", "verify"]

EQUAL: Final = 1e-9
"""Largest difference of a number from itself, computed by another version of the libraries."""
SHOWN: Final = 5
score_external = external_test.score


def evaluate(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write metrics.parquet, review.csv and `evaluation/` into it.

    Parameters
    ----------
    run
        The run folder that `train` wrote.
    partial
        Take an incomplete run; the result says so.

    Returns
    -------
    evaluation
        All numbers, leakage check and notes.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If it is no run, lacks folds, or its predictions do not fit its folds.
    OutputError
        If the run cannot be written to; `compute` gives the numbers without writing.
    """
    found = compute(run, partial=partial)
    evaluation.write(found)
    return found


def compute(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write nothing; otherwise as `evaluate`."""
    return evaluation.compute(open_run(run, partial=partial))


def verify(run: Path) -> list[str]:
    """Compute a run's numbers again and compare them with its metrics.parquet.

    Returns
    -------
    problems
        A line each, empty if every number is the same; of a run that was not evaluated there is
        nothing to compare.

    Raises
    ------
    DataError
        If the predictions are damaged or do not fit the folds.
    """
    path = run / "metrics.parquet"
    again = compute(run, partial=True).table
    if not path.exists():
        return []
    return [f"metrics.parquet: {line}" for line in _differences(store.read_table(path), again)]


def _differences(saved: pl.DataFrame, again: pl.DataFrame) -> Iterator[str]:
    """Compare two tidy tables; one of version 1 has fewer columns and rows, which is fine."""
    import polars as pl

    keys = [c for c in (*PLACE, "level", "metric", "stage") if c in saved.columns]
    values = [c for c in VALUES if c in saved.columns]
    if lacking := {"protocol", "seed", "metric", "stage", "value"} - {*saved.columns}:
        yield f"lacks column {', '.join(sorted(lacking))}"
        return
    if "level" not in saved.columns:
        again = again.filter(pl.col("seed").is_not_null())
    both = saved.join(again, on=keys, how="full", suffix=" again", nulls_equal=True)
    gone = len(both.filter(pl.col("protocol").is_null()))
    if gone and "level" in saved.columns:
        yield f"lacks {gone} numbers"
    if more := len(both.filter(pl.col("protocol again").is_null())):
        yield f"has {more} numbers that the predictions do not give"
    there = both.drop_nulls(["protocol", "protocol again"])
    for column in values:
        a, b = pl.col(column), pl.col(f"{column} again")
        far = (a - b).abs() > EQUAL * (1 + b.abs())
        wrong = there.filter(far.fill_null(False) | (a.is_null() != b.is_null()))
        for row in wrong.head(SHOWN).to_dicts():
            now = row[f"{column} again"]
            yield f"{_where(row, keys)}: {column} {row[column]}; the predictions give {now}"
        if len(wrong) > SHOWN:
            yield f"and {len(wrong) - SHOWN} more of {column}"


def _where(row: dict[str, Any], keys: Sequence[str]) -> str:
    return " ".join(str(row[k]) for k in keys if row[k] is not None)
