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
        (epochs,) index of the true stage.
    """
    of_truth: Values = p[np.arange(len(p)), truth].astype(np.float64)
    loss: Values = -np.log(of_truth.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))
    return loss


def scale_by_temperature(p: npt.NDArray[Any], temperature: float | npt.NDArray[Any]) -> Values:
    """Divide the logits by a temperature, or by one for each epoch (epochs, 1).

    p^(1/T) with the sum 1, which is the softmax of logits / T. NaN stays NaN.
    """
    logits = np.log(p.astype(np.float64).clip(np.finfo(np.float64).tiny, None)) / temperature
    e = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Values = e / e.sum(1, keepdims=True)
    return probabilities


def scale_density(p: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Scale a hypnodensity (epochs, stages) by a temperature; no epoch changes its stage.

    Two probabilities that are the same number after scaling would: the one that was above stays so
    by one step of float32.
    """
    scaled = scale_by_temperature(p, temperature).astype(np.float32)
    rows, best = np.arange(len(p)), p.argmax(1)
    tied = rows[scaled.argmax(1) != best]
    scaled[tied, best[tied]] = np.nextafter(scaled[tied].max(1), np.float32(1))
    return scaled


def fit_temperature(p: npt.NDArray[Any], truth: Stages) -> float:
    """Fit the temperature of the least log loss, by Newton's method on its inverse (convex there).

    Parameters
    ----------
    p
        (epochs, stages) probabilities of validation epochs.
    truth
        (epochs,) index of the true stage.

    Returns
    -------
    temperature
        Within `TEMPERATURE_RANGE`; above 1 where the model is too sure. NaN without epochs.
    """
    if not len(p):
        return float("nan")
    logits = np.log(p.astype(np.float64).clip(SMALLEST_PROBABILITY, None))
    observed = float(logits[np.arange(len(p)), truth].mean())
    inverse = 1.0
    for _ in range(NEWTON_STEPS):
        e = np.exp(inverse * (logits - logits.max(1, keepdims=True)))
        q = e / e.sum(1, keepdims=True)
        expected = (q * logits).sum(1)
        slope = float(expected.mean()) - observed
        curve = float(((q * logits**2).sum(1) - expected**2).mean())
        step = slope / curve if curve > 0 else 0.0
        # a Newton step may overshoot where the curve is flat; never by more than a factor of two
        lowest = max(inverse / 2, 1 / TEMPERATURE_RANGE[1])
        highest = min(inverse * 2, 1 / TEMPERATURE_RANGE[0])
        new = min(max(inverse - step, lowest), highest)
        if abs(new - inverse) < 1e-9 * inverse:
            break
        inverse = new
    return 1 / inverse


def calibration_sums(
    p: npt.NDArray[Any], truth: Stages, group: npt.NDArray[np.int64], groups: int
) -> Values:
    """Add up, per group of epochs, what log loss and calibration error are computed from.

    Parameters
    ----------
    p, truth
        As in `negative_log_likelihood`.
    group
        (epochs,) number of the group, for example the subject.
    groups
        Number of groups.

    Returns
    -------
    sums
        (groups, 1 + 3 * BINS): log loss, then per bin epochs, probability and right epochs.
    """
    confidence = p.max(1).astype(np.float64)
    right = p.argmax(1) == truth
    bins = (confidence * RELIABILITY_BINS).astype(np.int64)
    cell = group * RELIABILITY_BINS + np.minimum(bins, RELIABILITY_BINS - 1)
    sums = np.empty((groups, 1 + 3 * RELIABILITY_BINS))
    sums[:, 0] = np.bincount(group, negative_log_likelihood(p, truth), groups)
    for i, weight in enumerate((None, confidence, right)):
        by_bin = np.bincount(cell, weight, groups * RELIABILITY_BINS)
        columns = slice(1 + i * RELIABILITY_BINS, 1 + (i + 1) * RELIABILITY_BINS)
        sums[:, columns] = by_bin.reshape(groups, RELIABILITY_BINS)
    return sums


def losses_from_sums(sums: Values) -> Values:
    """Log loss per epoch and calibration error: (..., 2) from sums (..., 1 + 3 BINS)."""
    count, confidence, right = np.split(sums[..., 1:], 3, -1)
    total = count.sum(-1)
    summed = np.stack([sums[..., 0], np.abs(confidence - right).sum(-1)], -1)
    losses = np.full(summed.shape, np.nan)
    np.divide(summed, total[..., None], out=losses, where=total[..., None] > 0)
    return losses


def calibration_bounds(sums: Values) -> Bounds:
    """Log loss and calibration error with intervals over subjects, averaged over seeds.

    Distances do not cancel, so that the calibration error of a draw is on average above that of
    all subjects; its bounds are plain percentiles, those of the log loss BCa.

    Parameters
    ----------
    sums
        (subjects, seeds, 1 + 3 BINS), by `calibration_sums`.

    Returns
    -------
    bounds
        Arrays (2,): log loss, calibration error.
    """

    def statistic(weights: npt.NDArray[Any]) -> Values:
        mean: Values = losses_from_sums(np.tensordot(weights, sums, 1)).mean(-2)
        return mean

    exact = bootstrap.bootstrap_interval(statistic, len(sums))
    plain = bootstrap.bootstrap_interval(statistic, len(sums), bound=bootstrap.percentile_bounds)
    low, high = (np.array([e[0], p[1]]) for e, p in zip(exact[1:], plain[1:], strict=True))
    return Bounds(exact.value, low, high)


def reliability_rows(sums: Values) -> list[dict[str, float]]:
    """Rows of the reliability diagram from sums (1 + 3 BINS,): a row for each bin with epochs."""
    count, confidence, right = np.split(sums[1:], 3)
    return [
        {
            "from": i / RELIABILITY_BINS,
            "to": (i + 1) / RELIABILITY_BINS,
            "epochs": int(count[i]),
            "probability": float(confidence[i] / count[i]),
            "right": float(right[i] / count[i]),
        }
        for i in range(RELIABILITY_BINS)
        if count[i]
    ]


@dataclass(frozen=True)
class CalibrationTables:
    """Tables of how far the probabilities of a run can be trusted.

    Parameters
    ----------
    measures
        protocol, variant ("raw", or "scaled": by the temperature of the fold's validation epochs,
        under leak-free alone), measure ("nll", natural logarithm per epoch; "ece", 15 bins),
        value, low, high (over subjects), subjects. Averaged over seeds.
    reliability
        protocol, variant, from, to (of the bin), epochs, probability (mean of the predicted
        stage's), right (share); all seeds together.
    temperatures
        protocol, seed, fold, temperature, epochs (of the validation subjects).
    """

    measures: pl.DataFrame
    reliability: pl.DataFrame
    temperatures: pl.DataFrame


def calibration_tables(predictions: pl.DataFrame, stages: Sequence[str]) -> CalibrationTables:
    """Compute the tables, from the predictions of validation and test epochs."""
    import polars as pl

    measures, diagram, fitted = [], [], []
    for (protocol,), table in predictions.partition_by("protocol", as_dict=True).items():
        temperatures = _fit_temperatures(table, stages)
        fitted += [{"protocol": protocol} | row for row in temperatures.to_dicts()]
        tested = table.filter(role="test")
        variants = {"raw": None} | ({"scaled": temperatures} if len(temperatures) else {})
        for variant, by_fold in variants.items():
            sums = _sums_by_subject(tested, stages, by_fold)
            rows = zip(("nll", "ece"), *calibration_bounds(sums), strict=True)
            measures += [
                (protocol, variant, name, *map(_null_for_nan, numbers), len(sums))
                for name, *numbers in rows
            ]
            bins = reliability_rows(sums.sum((0, 1)))
            diagram += [{"protocol": protocol, "variant": variant} | row for row in bins]
    columns = ["protocol", "variant", "measure", "value", "low", "high", "subjects"]
    return CalibrationTables(
        pl.DataFrame(measures, columns, orient="row"), pl.DataFrame(diagram), pl.DataFrame(fitted)
    )


def _null_for_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _fit_temperatures(predictions: pl.DataFrame, stages: Sequence[str]) -> pl.DataFrame:
    """Fit a temperature per seed and fold on its validation epochs; empty without them."""
    import polars as pl

    rows = []
    validation = predictions.filter(role="val")
    for key, epochs in validation.partition_by("seed", "fold", as_dict=True).items():
        temperature = fit_temperature(_probabilities(epochs, stages), epochs["stage"].to_numpy())
        rows.append((*key, temperature, len(epochs)))
    schema = {"seed": pl.Int64, "fold": pl.Int64, "temperature": pl.Float64, "epochs": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row").sort("seed", "fold")


def _probabilities(table: pl.DataFrame, stages: Sequence[str]) -> metrics.Matrix:
    return table.select(f"p_{name}" for name in stages).to_numpy()


def _sums_by_subject(
    tested: pl.DataFrame, stages: Sequence[str], temperatures: pl.DataFrame | None
) -> metrics.Values:
    """(subjects, seeds, ...) `calibration_sums`, with the temperatures of the folds or without."""
    import polars as pl

    subjects, seeds = tested["subject"].unique().sort(), tested["seed"].unique().sort()
    kind = pl.Enum(subjects)
    group = tested["subject"].cast(kind).to_physical().cast(pl.Int64).to_numpy() * len(seeds)
    group = group + np.searchsorted(seeds.to_numpy(), tested["seed"].to_numpy())
    p = _probabilities(tested, stages)
    if temperatures is not None:
        by_epoch = tested.select("seed", "fold").join(
            temperatures, on=["seed", "fold"], how="left", maintain_order="left"
        )
        # a fold without validation subjects has no temperature and stays as it is
        p = scale_by_temperature(p, by_epoch["temperature"].fill_null(1.0).to_numpy()[:, None])
    count = len(subjects) * len(seeds)
    sums = calibration_sums(p, tested["stage"].to_numpy(), group, count)
    return sums.reshape(len(subjects), len(seeds), -1)
