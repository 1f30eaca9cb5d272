"""Intervals and comparisons whose unit is the subject, never the epoch, the night or the fold.

The epochs of a night depend on each other, and folds share their training subjects; an interval
over either is too narrow by a large factor. Bootstrap: subjects are drawn with replacement, and a
statistic is computed anew from how often each was drawn; bounds are bias-corrected and accelerated
(BCa; Efron 1987, 10.1080/01621459.1987.10478410), to the bit as scipy.stats.bootstrap gives them
for the same draws. All draws are one matrix product, so that 2,000 of them cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Statistic = Callable[[npt.NDArray[Any]], Values]
"""From weights (k, subjects), how often each subject counts, to values (k, ...)."""

Bound = Callable[[float, Values, Values], tuple[float, float]]
"""From a value, its draws (draws,) and the values with a subject left out (subjects,)."""

DRAWS: Final = 2000
SEED: Final = 20221121
"""Seed of the draws: the same for every statistic, so that a number can be computed again."""
CONFIDENCE: Final = 0.95
UNDEFINED_SHARE: Final = 0.05
"""Largest share of draws in which a statistic may have no value, as F1 without the stage."""
FEW_SUBJECTS: Final = 10
"""Subjects below which bootstrap intervals are known to be too narrow."""
STANDARD_NORMAL: Final = NormalDist()


class Bounds(NamedTuple):
    """Values with their intervals, arrays of one shape; NaN where there is none."""

    value: Values
    low: Values
    high: Values


class Interval(NamedTuple):
    """A value with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


def draw_subjects(subjects: int, count: int = DRAWS, seed: int = SEED) -> npt.NDArray[np.int64]:
    """Draw subjects with replacement: (count, subjects), how often each one is in each draw."""
    rng = np.random.default_rng([seed, subjects])
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), count)


def bootstrap_interval(
    statistic: Statistic, subjects: int, *, count: int = DRAWS, bound: Bound | None = None
) -> Bounds:
    """Compute a statistic with its 95 % interval over subjects.

    Parameters
    ----------
    statistic
        Function of weights (k, subjects) to values (k, ...): one row for each way to weigh the
        subjects.
    subjects
        Number of subjects.
    count
        Number of draws.
    bound
        `bca_bounds` (the default) or `percentile_bounds`.

    Returns
    -------
    bounds
        Arrays of the shape that the statistic gives for one row. The bounds are NaN with fewer
        than two subjects, where all draws agree (a perfect score has no interval), and where the
        statistic has no value with some subject left out or in more than `UNDEFINED_SHARE` of the
        draws.
    """
    value = statistic(np.ones((1, subjects), np.int64))[0]
    nothing = np.full(np.shape(value), np.nan)
    if subjects < 2:  # noqa: PLR2004
        return Bounds(value, nothing, nothing.copy())
    drawn = statistic(draw_subjects(subjects, count)).reshape(count, -1)
    left_out = statistic(1 - np.eye(subjects, dtype=np.int64)).reshape(subjects, -1)
    columns = zip(np.ravel(value), drawn.T, left_out.T, strict=True)
    bounds = np.array([(bound or bca_bounds)(float(v), d, j) for v, d, j in columns]).reshape(-1, 2)
    low, high = bounds.T
    return Bounds(value, low.reshape(np.shape(value)), high.reshape(np.shape(value)))


def bca_bounds(value: float, drawn: Values, left_out: Values) -> tuple[float, float]:
    """Bound a statistic from its values in the draws, and with each subject left out.

    Parameters
    ----------
    value
        Value of all subjects.
    drawn
        (draws,) values in the draws.
    left_out
        (subjects,) values without each subject.
    """
    defined = drawn[~np.isnan(drawn)]
    undefined = len(defined) < (1 - UNDEFINED_SHARE) * len(drawn)
    if undefined or np.isnan(value) or np.isnan(left_out).any() or np.ptp(defined) == 0:
        return float("nan"), float("nan")
    below = ((defined < value).sum() + (defined <= value).sum()) / (2 * len(defined))
    influence = left_out.mean() - left_out
    spread = (influence**2).sum() ** 1.5
    if not 0 < below < 1 or spread == 0:
        return float("nan"), float("nan")
    bias, acceleration = STANDARD_NORMAL.inv_cdf(below), (influence**3).sum() / (6 * spread)
    tail = (1 - CONFIDENCE) / 2
    reach = [bias + STANDARD_NORMAL.inv_cdf(p) for p in (tail, 1 - tail)]
    shares = [100 * STANDARD_NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in reach]
    low, high = np.percentile(defined, shares)
    return float(low), float(high)


def percentile_bounds(value: float, drawn: Values, left_out: Values) -> tuple[float, float]:
    """Bound a statistic that is higher in a draw than in truth, which BCa would overcorrect.

    Parameters as in `bca_bounds`; the bounds hold the value in any case.
    """
    if np.isnan(drawn).any() or np.isnan(left_out).any() or np.ptp(drawn) == 0:
        return float("nan"), float("nan")
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return min(float(low), value), max(float(high), value)


def mean_statistic(values: Values) -> Statistic:
    """Make a statistic: the mean over subjects, each of which counts the same.

    Parameters
    ----------
    values
        (subjects, ...); NaN is left out.
    """
    defined = ~np.isnan(values)
    filled = np.where(defined, values, 0)

    def statistic(weights: npt.NDArray[Any]) -> Values:
        count = np.tensordot(weights, defined.astype(float), 1)
        total = np.tensordot(weights, filled, 1)
        average = np.full(count.shape, np.nan)
        np.divide(total, count, out=average, where=count > 0)
        return average

    return statistic


# --- comparing two results on the same subjects ---------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Comparison of two values of each subject; differences are second less first.

    Parameters
    ----------
    difference
        Mean over subjects of their differences, with its bootstrap interval.
    p
        p value of Wilcoxon's signed-rank test, two-sided; NaN where no subject differs.
    subjects
        Number of subjects with both values.
    better, worse
        Number of subjects whose second value is higher, lower.
    """

    difference: Interval
    p: float
    subjects: int
    better: int
    worse: int


def paired_comparison(first: Values, second: Values) -> Paired:
    """Compare two values of every subject.

    Parameters
    ----------
    first, second
        (subjects,) in the same order; a subject with NaN in either is left out.
    """
    differences = second - first
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    interval = Interval(*[float("nan")] * 3)
    if count:
        interval = Interval(*map(float, bootstrap_interval(mean_statistic(differences), count)))
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Paired(interval, wilcoxon(differences), count, better, worse)


def wilcoxon(differences: Values) -> float:
    """Compute p of Wilcoxon's signed-rank test of differences from zero; zeros are left out."""
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return float("nan")
    from scipy import stats  # takes a second, and most evaluations compare nothing

    return float(stats.wilcoxon(nonzero).pvalue)


def holm(ps: Sequence[float] | Values) -> Values:
    """Adjust p values for the number of tests (Holm 1979); NaN counts as no test.

    Returns
    -------
    adjusted
        (tests,), at most 1, in the order of `ps`.
    """
    p = np.asarray(ps, np.float64)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
