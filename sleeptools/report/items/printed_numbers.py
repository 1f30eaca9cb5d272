"""The numbers that the papers print, looked up one by one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sleeptools.evaluation import published


def printed_number(
    result: str,
    metric: str,
    stage: str | None = None,
    *,
    fold: int | None = None,
    subject: str | None = None,
    statistic: str | None = None,
) -> float | None:
    """Look up a printed number, a fraction of 1, hours or a count; None where it is not at hand.

    Parameters
    ----------
    result
        Id of the result in results.csv.
    metric, stage, fold, subject, statistic
        As the columns of `published_values`.
    """
    return _values().get((result, metric, stage, fold, subject, statistic))


@cache
def _values() -> Mapping[tuple[Any, ...], float]:
    names = ("id", "metric", "stage", "fold", "subject", "statistic")
    table = published.published_values().to_dicts()
    return {tuple(row[n] for n in names): float(row["value"]) for row in table}


def results_of(*items: str) -> list[dict[str, Any]]:
    """List the printed results of items, a row of results.csv each, in the order of the print."""
    keep = published.published_values().columns
    keep = keep[: keep.index("note") + 1]
    table = published.published_values().select(keep).unique(maintain_order=True)
    return [row for row in table.to_dicts() if set(row["items"].split()) & set(items)]


def facts_of(item: str) -> list[dict[str, Any]]:
    """List the printed numbers of an item that are no scores."""
    return published.published_facts().filter(item=item).to_dicts()


def scaled(value: float | None, factor: float) -> float | None:
    """Write a printed number in another unit, without the noise of binary fractions."""
    return None if value is None else float(f"{value * factor:.10g}")
