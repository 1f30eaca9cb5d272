"""Whether a probability means what it says: log loss, calibration error, reliability, temperature.

Expected calibration error (Guo et al. 2017, arXiv 1706.04599): 15 bins of equal width of the
highest probability; the mean distance of share right and mean probability, weighted by epochs.
Temperature scaling divides the logits by one number; it is fitted on validation epochs only, and
changes no predicted stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.evaluation import bootstrap, metrics
from sleeptools.evaluation.bootstrap import Bounds

if TYPE_CHECKING:
    import polars as pl

Values = npt.NDArray[np.float64]
Stages = npt.NDArray[Any]

RELIABILITY_BINS: Final = 15
SMALLEST_PROBABILITY: Final = float(np.finfo(np.float32).eps)
"""Probabilities are cut here, as scikit-learn cuts float32, so that no epoch costs infinitely."""
NEWTON_STEPS: Final = 60
TEMPERATURE_RANGE: Final = (0.05, 20.0)


def negative_log_likelihood(p: npt.NDArray[Any], truth: Stages) -> Values:
    """(epochs,) negative log likelihood of the true stage, natural logarithm.

    Parameters
    ----------
    p
        (epochs, stages) probabilities.
    truth
        (epochs,)
    """
    mine: Values = p[np.arange(len(p)), truth].astype(np.float64)
    loss: Values = -np.log(mine.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))
    return loss


def scale_by_temperature(p: npt.NDArray[Any], temperature: float | npt.NDArray[Any]) -> Values:
    """Divide the logits by a temperature, or by one for each epoch (epochs, 1)."""
    logits = np.log(p.astype(np.float64).clip(SMALLEST_PROBABILITY, None)) / temperature
    e = np.exp(logits - logits.max(1, keepdims=True))
    out: Values = e / e.sum(1, keepdims=True)
    return out


def fit_temperature(p: npt.NDArray[Any], truth: Stages) -> float:
    """Fit the temperature of the least log loss, by Newton's method on its inverse (convex there).

    Parameters
    ----------
    p
        (epochs, stages) probabilities of validation epochs.
    truth
        (epochs,)

    Returns
    -------
    temperature
        Within `TEMPERATURE_RANGE`; above 1 where the model is too sure. NaN without epochs.
    """
    if not len(p):
        return float("nan")
    logits = np.log(p.astype(np.float64).clip(SMALLEST_PROBABILITY, None))
    mine = float(logits[np.arange(len(p)), truth].mean())
    inverse = 1.0
    for _ in range(NEWTON_STEPS):
        e = np.exp(inverse * (logits - logits.max(1, keepdims=True)))
        q = e / e.sum(1, keepdims=True)
        expected = (q * logits).sum(1)
        slope = float(expected.mean()) - mine
        curve = float(((q * logits**2).sum(1) - expected**2).mean())
        step = slope / curve if curve > 0 else 0.0
        # a Newton step may overshoot where the curve is flat; never by more than a factor of two
        least, most = (
            max(inverse / 2, 1 / TEMPERATURE_RANGE[1]),
            min(inverse * 2, 1 / TEMPERATURE_RANGE[0]),
        )
        new = min(max(inverse - step, least), most)
        if abs(new - inverse) < 1e-9 * inverse:
            break
        inverse = new
    return 1 / inverse


def calibration_sums(
    p: npt.NDArray[Any], truth: Stages, group: npt.NDArray[np.int64], groups: int
) -> Values:
    """Add up, per group of epochs, what log loss and calibration error are made of.

    Parameters
    ----------
    p, truth
        As in `negative_log_likelihood`.
    group
        (epochs,) number of the group, for example the subject.
    groups
        How many.

    Returns
    -------
    sums
        (groups, 1 + 3 * BINS): log loss, then per bin epochs, probability and right epochs.
    """
    sure = p.max(1).astype(np.float64)
    right = p.argmax(1) == truth
    place = group * RELIABILITY_BINS + np.minimum(
        (sure * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1
    )
    out = np.empty((groups, 1 + 3 * RELIABILITY_BINS))
    out[:, 0] = np.bincount(group, negative_log_likelihood(p, truth), groups)
    for i, weight in enumerate((None, sure, right)):
        counted = np.bincount(place, weight, groups * RELIABILITY_BINS).reshape(
            groups, RELIABILITY_BINS
        )
        out[:, 1 + i * RELIABILITY_BINS : 1 + (i + 1) * RELIABILITY_BINS] = counted
    return out


def losses_from_sums(sums: Values) -> Values:
    """Log loss per epoch and calibration error: (..., 2) from sums (..., 1 + 3 BINS)."""
    count, sure, right = np.split(sums[..., 1:], 3, -1)
    total = count.sum(-1)
    above = np.stack([sums[..., 0], np.abs(sure - right).sum(-1)], -1)
    out = np.full(above.shape, np.nan)
    np.divide(above, total[..., None], out=out, where=total[..., None] > 0)
    return out


def calibration_bounds(sums: Values) -> Bounds:
    """Log loss and calibration error with intervals over subjects, averaged over seeds.

    Distances do not cancel, so that the calibration error of a draw is on average above that of
    all subjects; its bounds are plain percentiles, those of the log loss BCa.

    Parameters
    ----------
    sums
        (subjects, seeds, 1 + 3 BINS), of `calibration_sums`.

    Returns
    -------
    bounds
        Arrays (2,): log loss, calibration error.
    """

    def weigh(weights: npt.NDArray[Any]) -> Values:
        mean: Values = losses_from_sums(np.tensordot(weights, sums, 1)).mean(-2)
        return mean

    exact = bootstrap.bootstrap_interval(weigh, len(sums))
    plain = bootstrap.bootstrap_interval(weigh, len(sums), bound=bootstrap.percentile_bounds)
    low, high = (np.array([e[0], p[1]]) for e, p in zip(exact[1:], plain[1:], strict=True))
    return Bounds(exact.value, low, high)


def reliability_rows(sums: Values) -> list[dict[str, float]]:
    """Rows of the reliability diagram from sums (1 + 3 BINS,): a row for each bin with epochs."""
    count, sure, right = np.split(sums[1:], 3)
    return [
        {
            "from": i / RELIABILITY_BINS,
            "to": (i + 1) / RELIABILITY_BINS,
            "epochs": int(count[i]),
            "probability": float(sure[i] / count[i]),
            "right": float(right[i] / count[i]),
        }
        for i in range(RELIABILITY_BINS)
        if count[i]
    ]


@dataclass(frozen=True)
class CalibrationTables:
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


def calibration_tables(found: pl.DataFrame, stages: Sequence[str]) -> CalibrationTables:
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
            interval = calibration_bounds(sums)
            named = zip(("nll", "ece"), *interval, strict=True)
            measures += [(protocol, variant, *map(_plain, row), len(sums)) for row in named]
            rows = reliability_rows(sums.sum((0, 1)))
            diagram += [{"protocol": protocol, "variant": variant} | row for row in rows]
    columns = ["protocol", "variant", "measure", "value", "low", "high", "subjects"]
    return CalibrationTables(
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
        warm = fit_temperature(_p(mine, stages), mine["stage"].to_numpy())
        rows.append((*where, warm, len(mine)))
    schema = {"seed": pl.Int64, "fold": pl.Int64, "temperature": pl.Float64, "epochs": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row").sort("seed", "fold")


def _p(table: pl.DataFrame, stages: Sequence[str]) -> metrics.Matrix:
    return table.select(f"p_{name}" for name in stages).to_numpy()


def _sums(tested: pl.DataFrame, stages: Sequence[str], by: pl.DataFrame | None) -> metrics.Values:
    """(subjects, seeds, ...) sums of `calibration_sums`, with temperatures or without."""
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
        p = scale_by_temperature(p, warm["temperature"].fill_null(1.0).to_numpy()[:, None])
    count = len(subjects) * len(seeds)
    sums = calibration_sums(p, tested["stage"].to_numpy(), group, count)
    return sums.reshape(len(subjects), len(seeds), -1)
