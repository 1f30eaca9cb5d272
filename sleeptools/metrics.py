"""Agreement of predicted with true stages: one definition of each number, from a confusion matrix.

Rows are the truth, columns the prediction. F1, precision and recall of a stage that is not in the
truth are NaN, even if it is predicted, and are left out of the means over stages, as if
scikit-learn were given the labels of the truth; `present` says how many stages a mean is over.
Any other quantity whose denominator is zero is NaN as well. Nothing here warns or raises on small
or one-sided data. Sources stand at each formula; [S0] is 10.3389/fnins.2022.973761.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

PER_STAGE = ("f1", "precision", "recall", "specificity")
OVERALL = (
    "accuracy", "macro_f1", "kappa", "g_mean_recalls", "g_mean_eq17",
    "macro_recall", "macro_precision", "weighted_f1", "weighted_recall", "weighted_precision",
)  # fmt: skip


def confusion(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], stages: int) -> Counts:
    """Count pairs of true and predicted stage.

    Parameters
    ----------
    truth
        (epochs,) integer, 0 to stages - 1; epochs with -1 (unscored) are left out.
    predicted
        (epochs,) integer, 0 to stages - 1.
    stages
        How many stages there are.

    Returns
    -------
    matrix
        (stages, stages) int64, rows truth, columns predicted.
    """
    assert len(truth) == len(predicted)
    scored = np.asarray(truth) >= 0
    t = np.asarray(truth)[scored].astype(np.int64)
    p = np.asarray(predicted)[scored].astype(np.int64)
    assert not len(t) or (t.max() < stages and p.min() >= 0 and p.max() < stages)
    return np.bincount(t * stages + p, minlength=stages**2).reshape(stages, stages)


def _divide(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Values:
    out = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def mean(values: Sequence[Values]) -> Values:
    """Average arrays of one shape element by element; NaN is left out where there is a number."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    return _divide(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))


# --- per stage, one against the rest: (stages,) float64 -------------------------------------------


def support(matrix: Counts) -> Counts:
    """(stages,) int64: true epochs of each stage."""
    counts: Counts = matrix.sum(axis=1)
    return counts


def present(matrix: Counts) -> int:
    """Count the stages of the truth, which are those that a mean over stages is over."""
    return int(np.count_nonzero(support(matrix)))


def _where_true(values: Values, matrix: Counts) -> Values:
    return np.where(support(matrix) > 0, values, np.nan)


def recall(matrix: Counts) -> Values:
    """(stages,) TP / (TP + FN), the sensitivity; NaN where the stage is not in the truth."""
    return _divide(np.diag(matrix), matrix.sum(axis=1))


def precision(matrix: Counts) -> Values:
    """(stages,) TP / (TP + FP); NaN where the stage is never predicted, or not in the truth."""
    return _where_true(_divide(np.diag(matrix), matrix.sum(axis=0)), matrix)


def specificity(matrix: Counts) -> Values:
    """(stages,) TN / (TN + FP); NaN where every epoch is of that stage."""
    rest = matrix.sum() - matrix.sum(axis=1)  # epochs that are truly something else
    false = matrix.sum(axis=0) - np.diag(matrix)
    return _divide(rest - false, rest)


def f1(matrix: Counts) -> Values:
    """(stages,) 2 TP / (2 TP + FP + FN); NaN where the stage is not in the truth."""
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    return _where_true(_divide(2 * np.diag(matrix), both), matrix)


def weighted(values: Values, matrix: Counts) -> float:
    """Mean over stages, weighted by their true epochs; NaN stages are left out.

    Parameters
    ----------
    values
        (stages,), for example `f1(matrix)`.
    """
    known = ~np.isnan(values) & (support(matrix) > 0)
    weights = support(matrix)[known]
    return float(values[known] @ weights / weights.sum()) if known.any() else float("nan")


# --- over all stages ------------------------------------------------------------------------------


def accuracy(matrix: Counts) -> float:
    """Share of epochs on the diagonal; NaN without epochs."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def kappa(matrix: Counts) -> float:
    """Cohen's kappa, (po - pe) / (1 - pe) (Cohen 1960, 10.1177/001316446002000104).

    NaN without epochs, and where truth and prediction are one and the same single stage (pe = 1).
    """
    total = float(matrix.sum())
    if not total:
        return float("nan")
    observed = np.trace(matrix) / total
    expected = float(matrix.sum(axis=0) / total @ (matrix.sum(axis=1) / total))
    if np.count_nonzero(matrix.sum(axis=0) + matrix.sum(axis=1)) == 1:
        return float("nan")
    return float((observed - expected) / (1 - expected))


def macro_f1(matrix: Counts) -> float:
    """Unweighted mean of the F1 of the stages in the truth."""
    return _mean(f1(matrix))


def g_mean_eq17(matrix: Counts) -> float:
    """Mean over stages of sqrt(recall * specificity), as [S0] Eq. 17 defines MGm in print.

    The values in [S0] Table 3 are not this but `g_mean_recalls`: on Sleep-EDF-20 this formula
    would give about 0.889 where the table has 0.8167.
    """
    return _mean(np.sqrt(recall(matrix) * specificity(matrix)))


def g_mean_recalls(matrix: Counts) -> float:
    """Geometric mean of the recalls, which [S0] Table 3 reports (imbalanced-learn's multiclass).

    Zero as soon as one stage of the truth is never found. Stages not in the truth are left out.
    """
    known = recall(matrix)[support(matrix) > 0]
    return float(np.prod(known) ** (1 / len(known))) if len(known) else float("nan")


def overall(matrix: Counts) -> dict[str, float]:
    """Every number of `OVERALL`, in that order, as fractions of 1."""
    r, p, f = recall(matrix), precision(matrix), f1(matrix)
    values = (
        accuracy(matrix), _mean(f), kappa(matrix), g_mean_recalls(matrix), g_mean_eq17(matrix),
        _mean(r), _mean(p), weighted(f, matrix), weighted(r, matrix), weighted(p, matrix),
    )  # fmt: skip
    return dict(zip(OVERALL, values, strict=True))


def per_stage(matrix: Counts) -> dict[str, Values]:
    """Every number of `PER_STAGE`, each (stages,)."""
    return {
        "f1": f1(matrix),
        "precision": precision(matrix),
        "recall": recall(matrix),
        "specificity": specificity(matrix),
    }
