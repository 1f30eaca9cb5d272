"""Calibration of a run, before and after the temperatures of its validation subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeptools.evaluation import calibration, metrics

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Calibrated:
    """How far to trust the probabilities of a run.

    Parameters
    ----------
    measures
        protocol, variant ("raw", or "scaled" by the temperatures), measure ("nll", "ece"), value,
        low, high, subjects.
    reliability
        protocol, variant, from, to, epochs, probability, right.
    temperatures
        protocol, seed, fold, temperature, epochs.
    """

    measures: pl.DataFrame
    reliability: pl.DataFrame
    temperatures: pl.DataFrame


def tables(found: pl.DataFrame, stages: Sequence[str]) -> Calibrated:
    """Compute everything, from the predictions of validation and test epochs."""
    import polars as pl

    measures, diagram, fitted = [], [], []
    for (protocol,), part in found.partition_by("protocol", as_dict=True).items():
        warm = _temperatures(part, stages)
        fitted += [{"protocol": protocol} | row for row in warm.to_dicts()]
        tested = part.filter(role="test")
        variants = {"raw": None} | ({"scaled": warm} if len(warm) else {})
        for variant, by in variants.items():
            sums = _sums(tested, stages, by)
            bounds = calibration.bounds(sums)
            named = zip(("nll", "ece"), *bounds, strict=True)
            measures += [(protocol, variant, *map(_plain, row), len(sums)) for row in named]
            rows = calibration.reliability(sums.sum((0, 1)))
            diagram += [{"protocol": protocol, "variant": variant} | row for row in rows]
    columns = ["protocol", "variant", "measure", "value", "low", "high", "subjects"]
    return Calibrated(
        pl.DataFrame(measures, columns, orient="row"), pl.DataFrame(diagram), pl.DataFrame(fitted)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if np.isnan(value) else float(value)


def _temperatures(part: pl.DataFrame, stages: Sequence[str]) -> pl.DataFrame:
    """Fit a temperature per seed and fold on its validation epochs; empty without them."""
    import polars as pl

    rows = []
    validated = part.filter(role="val")
    for where, mine in validated.partition_by("seed", "fold", as_dict=True).items():
        warm = calibration.temperature(_p(mine, stages), mine["stage"].to_numpy())
        rows.append((*where, warm, len(mine)))
    schema = {"seed": pl.Int64, "fold": pl.Int64, "temperature": pl.Float64, "epochs": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row").sort("seed", "fold")


def _p(table: pl.DataFrame, stages: Sequence[str]) -> metrics.Matrix:
    return table.select(f"p_{name}" for name in stages).to_numpy()


def _sums(tested: pl.DataFrame, stages: Sequence[str], by: pl.DataFrame | None) -> metrics.Values:
    """(subjects, seeds, ...) sums of `calibration.parts`, with temperatures or without."""
    import polars as pl

    subjects, seeds = tested["subject"].unique().sort(), tested["seed"].unique().sort()
    kind = pl.Enum(subjects)
    group = tested["subject"].cast(kind).to_physical().cast(pl.Int64).to_numpy() * len(seeds)
    group = group + np.searchsorted(seeds.to_numpy(), tested["seed"].to_numpy())
    p = _p(tested, stages)
    if by is not None:
        warm = tested.select("seed", "fold").join(
            by, on=["seed", "fold"], how="left", maintain_order="left"
        )
        # a fold without validation subjects has no temperature and stays as it is
        p = calibration.scaled(p, warm["temperature"].fill_null(1.0).to_numpy()[:, None])
    count = len(subjects) * len(seeds)
    sums = calibration.parts(p, tested["stage"].to_numpy(), group, count)
    return sums.reshape(len(subjects), len(seeds), -1)
