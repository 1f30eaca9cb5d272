"""`sleeptools verify`: whether a run's numbers follow from its saved predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sleeptools import store
from sleeptools.commands.evaluate import compute
from sleeptools.evaluation.confusion import PLACE, VALUES

if TYPE_CHECKING:
    import polars as pl


EQUAL: Final = 1e-9
"""Largest difference of a number from itself, computed by another version of the libraries."""


SHOWN: Final = 5


def verify_numbers(run: Path) -> list[str]:
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
