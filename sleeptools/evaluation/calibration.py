"""Whether a probability means what it says: log loss, calibration error, reliability, temperature.

Expected calibration error (Guo et al. 2017, arXiv 1706.04599): 15 bins of equal width of the
highest probability; the mean distance of share right and mean probability, weighted by epochs.
Temperature scaling divides the logits by one number; it is fitted on validation epochs only, and
changes no predicted stage.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.evaluation import bootstrap
from sleeptools.evaluation.bootstrap import Bounds

Values = npt.NDArray[np.float64]
Stages = npt.NDArray[Any]

RELIABILITY_BINS: Final = 15
SMALLEST: Final = float(np.finfo(np.float32).eps)
"""Probabilities are cut here, as scikit-learn cuts float32, so that no epoch costs infinitely."""
STEPS: Final = 60
RANGE: Final = (0.05, 20.0)


def nll(p: npt.NDArray[Any], truth: Stages) -> Values:
    """(epochs,) negative log likelihood of the true stage, natural logarithm.

    Parameters
    ----------
    p
        (epochs, stages) probabilities.
    truth
        (epochs,)
    """
    mine: Values = p[np.arange(len(p)), truth].astype(np.float64)
    loss: Values = -np.log(mine.clip(SMALLEST, 1 - SMALLEST))
    return loss


def scaled(p: npt.NDArray[Any], temperature: float | npt.NDArray[Any]) -> Values:
    """Divide the logits by a temperature, or by one for each epoch (epochs, 1)."""
    logits = np.log(p.astype(np.float64).clip(SMALLEST, None)) / temperature
    e = np.exp(logits - logits.max(1, keepdims=True))
    out: Values = e / e.sum(1, keepdims=True)
    return out


def temperature(p: npt.NDArray[Any], truth: Stages) -> float:
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
        Within `RANGE`; above 1 where the model is too sure. NaN without epochs.
    """
    if not len(p):
        return float("nan")
    logits = np.log(p.astype(np.float64).clip(SMALLEST, None))
    mine = float(logits[np.arange(len(p)), truth].mean())
    inverse = 1.0
    for _ in range(STEPS):
        e = np.exp(inverse * (logits - logits.max(1, keepdims=True)))
        q = e / e.sum(1, keepdims=True)
        expected = (q * logits).sum(1)
        slope = float(expected.mean()) - mine
        curve = float(((q * logits**2).sum(1) - expected**2).mean())
        step = slope / curve if curve > 0 else 0.0
        # a Newton step may overshoot where the curve is flat; never by more than a factor of two
        least, most = max(inverse / 2, 1 / RANGE[1]), min(inverse * 2, 1 / RANGE[0])
        new = min(max(inverse - step, least), most)
        if abs(new - inverse) < 1e-9 * inverse:
            break
        inverse = new
    return 1 / inverse


def parts(p: npt.NDArray[Any], truth: Stages, group: npt.NDArray[np.int64], groups: int) -> Values:
    """Add up, per group of epochs, what log loss and calibration error are made of.

    Parameters
    ----------
    p, truth
        As in `nll`.
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
    out[:, 0] = np.bincount(group, nll(p, truth), groups)
    for i, weight in enumerate((None, sure, right)):
        counted = np.bincount(place, weight, groups * RELIABILITY_BINS).reshape(
            groups, RELIABILITY_BINS
        )
        out[:, 1 + i * RELIABILITY_BINS : 1 + (i + 1) * RELIABILITY_BINS] = counted
    return out


def losses(sums: Values) -> Values:
    """Log loss per epoch and calibration error: (..., 2) from sums (..., 1 + 3 BINS)."""
    count, sure, right = np.split(sums[..., 1:], 3, -1)
    total = count.sum(-1)
    above = np.stack([sums[..., 0], np.abs(sure - right).sum(-1)], -1)
    out = np.full(above.shape, np.nan)
    np.divide(above, total[..., None], out=out, where=total[..., None] > 0)
    return out


def bounds(sums: Values) -> Bounds:
    """Log loss and calibration error with intervals over subjects, averaged over seeds.

    Distances do not cancel, so that the calibration error of a draw is on average above that of
    all subjects; its bounds are plain percentiles, those of the log loss BCa.

    Parameters
    ----------
    sums
        (subjects, seeds, 1 + 3 BINS), of `parts`.

    Returns
    -------
    bounds
        Arrays (2,): log loss, calibration error.
    """

    def weigh(weights: npt.NDArray[Any]) -> Values:
        mean: Values = losses(np.tensordot(weights, sums, 1)).mean(-2)
        return mean

    exact = bootstrap.bootstrap(weigh, len(sums))
    plain = bootstrap.bootstrap(weigh, len(sums), bound=bootstrap.percentile)
    low, high = (np.array([e[0], p[1]]) for e, p in zip(exact[1:], plain[1:], strict=True))
    return Bounds(exact.value, low, high)


def reliability(sums: Values) -> list[dict[str, float]]:
    """Rows of the reliability diagram from sums (1 + 3 BINS,): a row for each bin with epochs."""
    count, sure, right = np.split(sums[1:], 3)
    return [
        {
            "from": i / RELIABILITY_BINS, "to": (i + 1) / RELIABILITY_BINS, "epochs": int(count[i]),
            "probability": float(sure[i] / count[i]), "right": float(right[i] / count[i]),
        }
        for i in range(RELIABILITY_BINS)
        if count[i]
    ]  # fmt: skip
