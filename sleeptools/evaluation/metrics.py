"""Agreement of predicted with true stages: one definition of each number, from a confusion matrix.

Rows are the truth, columns the prediction. F1, precision and recall of a stage that is not in the
truth are NaN, even if it is predicted, and are left out of the means over stages, as if
scikit-learn were given the labels of the truth; `count_true_stages` says how many stages a mean is
over. Any other quantity whose denominator is zero is NaN as well. Nothing here warns or raises on
small or one-sided data. Every function takes one matrix (stages, stages) or a stack of them
(..., stages, stages), of counts or of weighted counts, and gives a number for each. The source of
a formula stands in its docstring; the MMASleepNet paper is 10.3389/fnins.2022.973761, the
SlumberNet paper 10.1038/s41598-024-54727-0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Matrix = npt.NDArray[Any]
Values = npt.NDArray[np.float64]

PER_STAGE = ("f1", "precision", "recall", "specificity")
ONE_AGAINST_REST = ("stage_accuracy", "stage_kappa")
"""Accuracy and kappa of one stage against all others, as in Table 1 of the SlumberNet paper."""
OVERALL = (
    "accuracy",
    "macro_f1",
    "kappa",
    "g_mean_recalls",
    "g_mean_eq17",
    "macro_recall",
    "macro_precision",
    "weighted_f1",
    "weighted_recall",
    "weighted_precision",
)
COMPARED = ("accuracy", "macro_f1", "kappa")
"""Metrics in which two runs, or a model and scorers, are compared."""
VARIANTS = (
    "slumbernet_precision",
    "slumbernet_recall",
    "slumbernet_f1",
    "explained_variance",
    "one_hot_log_loss",
)
"""Metrics of the SlumberNet paper and its program, for comparison only; not for new work."""


def confusion_matrix(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], stages: int) -> Counts:
    """Count pairs of true and predicted stage.

    Parameters
    ----------
    truth
        (epochs,) integer, 0 to stages - 1; epochs with -1 (unscored) are left out.
    predicted
        (epochs,) integer, 0 to stages - 1.
    stages
        Number of stages.

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
    above, below = np.broadcast_arrays(above, below)
    out = np.full(below.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out[()]  # a number where there is one matrix


def _mean(values: Values) -> Values:
    """Average over the last axis; NaN is left out."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0).sum(-1), defined.sum(-1))


def mean_over_arrays(values: Sequence[Values]) -> Values:
    """Average arrays of one shape element by element; NaN is left out where there is a number."""
    return _mean(np.stack(values, -1))


def _diagonal(matrix: Matrix) -> Matrix:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


# --- per stage, one against the rest: (..., stages) float64 ---------------------------------------


def support(matrix: Matrix) -> Counts:
    """(..., stages): true epochs of each stage."""
    counts: Counts = matrix.sum(-1)
    return counts


def count_true_stages(matrix: Matrix) -> int:
    """Count the stages in the truth of one matrix, which are those that a mean is over."""
    return int(np.count_nonzero(support(matrix)))


def _where_true(values: Values, matrix: Matrix) -> Values:
    return np.where(support(matrix) > 0, values, np.nan)


def recall(matrix: Matrix) -> Values:
    """TP / (TP + FN), the sensitivity; NaN where the stage is not in the truth."""
    return _divide(_diagonal(matrix), matrix.sum(-1))


def precision(matrix: Matrix) -> Values:
    """TP / (TP + FP); NaN where the stage is never predicted, or not in the truth."""
    return _where_true(_divide(_diagonal(matrix), matrix.sum(-2)), matrix)


def specificity(matrix: Matrix) -> Values:
    """TN / (TN + FP); NaN where every epoch is of that stage."""
    negative = matrix.sum((-2, -1))[..., None] - matrix.sum(-1)  # truly another stage
    false_positive = matrix.sum(-2) - _diagonal(matrix)
    return _divide(negative - false_positive, negative)


def f1(matrix: Matrix) -> Values:
    """2 TP / (2 TP + FP + FN); NaN where the stage is not in the truth."""
    sums = matrix.sum(-2) + matrix.sum(-1)
    return _where_true(_divide(2 * _diagonal(matrix), sums), matrix)


def _against_rest(matrix: Matrix) -> Matrix:
    """(..., stages, 2, 2): for each stage the matrix of two classes, that stage or any other."""
    hit, total = _diagonal(matrix), matrix.sum((-2, -1))[..., None]
    missed, false = matrix.sum(-1) - hit, matrix.sum(-2) - hit
    rejected = total - hit - missed - false
    return np.stack([np.stack([hit, missed], -1), np.stack([false, rejected], -1)], -2)


def stage_accuracy(matrix: Matrix) -> Values:
    """(TP + TN) / all; NaN where the stage is not in the truth."""
    return _where_true(accuracy(_against_rest(matrix)), matrix)


def stage_kappa(matrix: Matrix) -> Values:
    """Cohen's kappa of a stage against all others; NaN where the stage is not in the truth."""
    return _where_true(kappa(_against_rest(matrix)), matrix)


def weighted_mean(values: Values, matrix: Matrix) -> Values:
    """Mean over stages, weighted by their true epochs; NaN stages are left out.

    Parameters
    ----------
    values
        (..., stages), for example `f1(matrix)`.
    """
    return _weighted(values, support(matrix))


def _weighted(values: Values, weights: Matrix) -> Values:
    defined = ~np.isnan(values) & (weights > 0)
    weights = np.where(defined, weights, 0)
    return _divide((np.where(defined, values, 0) * weights).sum(-1), weights.sum(-1))


def stage_pabak(matrix: Matrix) -> Values:
    """PABAK of a stage against all others; NaN where the stage is not in the truth."""
    return _where_true(pabak(_against_rest(matrix)), matrix)


# --- over all stages: (...,) float64 --------------------------------------------------------------


def accuracy(matrix: Matrix) -> Values:
    """Share of epochs on the diagonal; NaN without epochs."""
    return _divide(_diagonal(matrix).sum(-1), matrix.sum((-2, -1)))


def kappa(matrix: Matrix) -> Values:
    """Cohen's kappa, (po - pe) / (1 - pe) (Cohen 1960, 10.1177/001316446002000104).

    NaN without epochs, and where truth and prediction are one and the same single stage (pe = 1).
    """
    total = matrix.sum((-2, -1))[..., None]
    observed = accuracy(matrix)
    true, predicted = _divide(matrix.sum(-1), total), _divide(matrix.sum(-2), total)
    expected = (true * predicted).sum(-1)
    single = ((matrix.sum(-1) + matrix.sum(-2)) > 0).sum(-1) == 1
    return _divide(observed - expected, np.where(single, 0, 1 - expected))


def pabak(matrix: Matrix) -> Values:
    """Prevalence- and bias-adjusted kappa, (k po - 1) / (k - 1) with k stages.

    It is kappa as if every stage were as frequent as any other (Byrt et al. 1993,
    10.1016/0895-4356(93)90018-V: 2 po - 1 for two), and so the accuracy on another scale.
    """
    stages = matrix.shape[-1]
    adjusted: Values = (stages * accuracy(matrix) - 1) / (stages - 1)
    return adjusted


def macro_f1(matrix: Matrix) -> Values:
    """Unweighted mean of the F1 of the stages in the truth."""
    return _mean(f1(matrix))


def macro_recall(matrix: Matrix) -> Values:
    """Unweighted mean of the recalls of the stages in the truth: the balanced accuracy."""
    return _mean(recall(matrix))


def macro_precision(matrix: Matrix) -> Values:
    """Unweighted mean of the precisions of the stages in the truth that are ever predicted."""
    return _mean(precision(matrix))


def weighted_f1(matrix: Matrix) -> Values:
    """Mean of the F1, weighted by the true epochs of each stage."""
    return weighted_mean(f1(matrix), matrix)


def weighted_recall(matrix: Matrix) -> Values:
    """Mean of the recalls, weighted by the true epochs of each stage: the accuracy once more."""
    return weighted_mean(recall(matrix), matrix)


def weighted_precision(matrix: Matrix) -> Values:
    """Mean of the precisions, weighted by the true epochs of each stage ever predicted."""
    return weighted_mean(precision(matrix), matrix)


def g_mean_eq17(matrix: Matrix) -> Values:
    """Mean over stages of sqrt(recall * specificity), MGm in Eq. 17 of the MMASleepNet paper.

    The values in Table 3 of that paper are not this but `g_mean_recalls`: on Sleep-EDF-20 this
    formula would give about 0.889 where the table has 0.8167.
    """
    return _mean(np.sqrt(recall(matrix) * specificity(matrix)))


def g_mean_recalls(matrix: Matrix) -> Values:
    """Geometric mean of the recalls, as in Table 3 of the MMASleepNet paper.

    It is imbalanced-learn's multiclass G-mean: zero as soon as one stage of the truth is never
    predicted rightly. Stages not in the truth are left out.
    """
    scored = support(matrix) > 0
    count = scored.sum(-1)
    product = np.where(scored, recall(matrix), 1).prod(-1)
    root = product ** (1 / np.maximum(count, 1))
    return np.where(count > 0, root, np.nan)[()]


def slumbernet_precision(matrix: Matrix) -> Values:
    """Mean of the precisions weighted by the recalls: the 94.42 of the SlumberNet paper's Table 1.

    Text and program of that paper disagree: the program weights by the true epochs.
    """
    return _weighted(precision(matrix), recall(matrix))


def slumbernet_recall(matrix: Matrix) -> Values:
    """Mean of the recalls weighted by the precisions: the 94.56 of SlumberNet's Table 1."""
    return _weighted(recall(matrix), np.nan_to_num(precision(matrix)))


def slumbernet_f1(matrix: Matrix) -> Values:
    """Harmonic mean of `slumbernet_precision` and `slumbernet_recall`."""
    p, r = slumbernet_precision(matrix), slumbernet_recall(matrix)
    return _divide(2 * p * r, p + r)


def explained_variance(matrix: Matrix) -> Values:
    """1 - Var(true - predicted) / Var(true) of the stages' numbers, as in SlumberNet's program.

    It depends on the order in which the stages are numbered, which means nothing.
    """
    number = np.arange(matrix.shape[-1])
    error = number[:, None] - number
    total = matrix.sum((-2, -1))

    def variance(values: npt.NDArray[np.int64]) -> Values:
        mean = _divide((matrix * values).sum((-2, -1)), total)
        squares = np.subtract(values, np.asarray(mean)[..., None, None]) ** 2
        return _divide((matrix * squares).sum((-2, -1)), total)

    spread = variance(np.broadcast_to(number[:, None], error.shape))
    several = (support(matrix) > 0).sum(-1) > 1
    return 1 - _divide(variance(error), np.where(several, spread, 0))


def one_hot_log_loss(matrix: Matrix) -> Values:
    """Log loss of the predicted stages as if they were certain, as in SlumberNet's program.

    scikit-learn cuts the probability of a wrong epoch at the machine's precision, so that this is
    the share of wrong epochs times 36.04; `calibration.negative_log_likelihood` is the log loss of
    probabilities.
    """
    cut = -float(np.log(np.finfo(np.float64).eps))
    return (1 - accuracy(matrix)) * cut


Metric = Callable[[Matrix], Values]
OVERALL_METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "kappa": kappa,
    "g_mean_recalls": g_mean_recalls,
    "g_mean_eq17": g_mean_eq17,
    "macro_recall": macro_recall,
    "macro_precision": macro_precision,
    "weighted_f1": weighted_f1,
    "weighted_recall": weighted_recall,
    "weighted_precision": weighted_precision,
    "slumbernet_precision": slumbernet_precision,
    "slumbernet_recall": slumbernet_recall,
    "slumbernet_f1": slumbernet_f1,
    "explained_variance": explained_variance,
    "one_hot_log_loss": one_hot_log_loss,
}
"""Metrics over all stages by name: from matrices (..., stages, stages) to (...,)."""
STAGE_METRICS: Mapping[str, Metric] = {
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "stage_accuracy": stage_accuracy,
    "stage_kappa": stage_kappa,
}
"""Metrics of each stage by name: from matrices (..., stages, stages) to (..., stages)."""


def overall_metrics(matrix: Matrix) -> dict[str, float]:
    """Compute every metric of `OVERALL` from one matrix, in that order, as fractions of 1."""
    return {name: float(OVERALL_METRICS[name](matrix)) for name in OVERALL}


def stage_metrics(matrix: Matrix) -> dict[str, Values]:
    """Compute every metric of `PER_STAGE` from one matrix, each (stages,)."""
    return {name: STAGE_METRICS[name](matrix) for name in PER_STAGE}
