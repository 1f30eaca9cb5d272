"""Agreement of measured quantities: bias and limits, after Bland and Altman, by subject.

The framework is that of Menghini et al. 2021 (10.1093/sleep/zsaa170): bias and limits of agreement
with intervals, and whether the difference (proportional bias) or its spread (heteroscedasticity)
grows with the size. Size is the mean of both measurements, as Bland and Altman 1995
(10.1016/S0140-6736(95)91748-9) advise: against the truth alone, any noisy measurement has a slope.
Where bias or spread grows, the plain limits are too wide at one end and too narrow at the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.evaluation import bootstrap
from sleeptools.evaluation.bootstrap import Interval

Values = npt.NDArray[np.float64]
LIMIT_SDS: Final = 1.96  # standard deviations
QUANTITIES: Final = ("bias", "sd", "lower", "upper", "slope", "spread_slope")


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of predicted and true measurements; differences are predicted less true.

    Parameters
    ----------
    nights, subjects
        Number of nights and of subjects that were compared.
    bias, sd
        Mean and standard deviation of the differences over nights.
    lower, upper
        Limits of agreement, bias -+ 1.96 SD.
    slope
        Slope of the difference on the mean of both; proportional bias where its interval excludes
        0.
    spread_slope
        Slope of the distance from that line on the mean of both; heteroscedastic where its
        interval excludes 0.
    """

    nights: int
    subjects: int
    bias: Interval
    sd: Interval
    lower: Interval
    upper: Interval
    slope: Interval
    spread_slope: Interval

    @property
    def proportional(self) -> bool:
        """Whether the difference changes with the size."""
        return self.slope.low > 0 or self.slope.high < 0

    @property
    def heteroscedastic(self) -> bool:
        """Whether the spread of the differences changes with the size."""
        return self.spread_slope.low > 0 or self.spread_slope.high < 0


def bland_altman(truth: Values, predicted: Values, subjects: Sequence[str]) -> BlandAltman:
    """Compare two measurements of every night.

    Parameters
    ----------
    truth, predicted
        (nights, seeds) or (nights,); nights with NaN in either are left out. Numbers are averaged
        over seeds, each of which is a measurement of its own.
    subjects
        (nights,) subject of each night; intervals are over subjects, so that two nights of one
        person do not count as two people.
    """
    t = np.atleast_2d(truth.T).T
    p = np.atleast_2d(predicted.T).T
    complete = np.flatnonzero(~np.isnan(t + p).any(axis=1))
    t, p = t[complete], p[complete]
    by_night = [subjects[int(i)] for i in complete]
    names = sorted(set(by_night))
    if not names:
        return BlandAltman(0, 0, *[Interval(*[float("nan")] * 3)] * len(QUANTITIES))
    sums = np.zeros((len(names), t.shape[1], 8))
    np.add.at(sums, [names.index(s) for s in by_night], _summands(p - t, (p + t) / 2))
    bounds = bootstrap.bootstrap_interval(
        lambda weights: _quantities(np.tensordot(weights, sums, 1)), len(names)
    )
    intervals = [Interval(*map(float, numbers)) for numbers in zip(*bounds, strict=True)]
    return BlandAltman(len(t), len(names), *intervals)


def _summands(difference: Values, size: Values) -> Values:
    """(nights, seeds, 8): what `_quantities` needs the sums over nights of."""
    x = size - size.mean(0)  # of no effect on slopes; keeps their sums accurate
    slope = _slope(len(x), x.sum(0), (x * x).sum(0), difference.sum(0), (x * difference).sum(0))
    line = difference.mean(0) + np.nan_to_num(slope) * x
    distance = np.abs(difference - line)
    ones = np.ones_like(x)
    columns = [ones, difference, difference**2, x, x * x, x * difference, distance, x * distance]
    return np.stack(columns, -1)


def _quantities(sums: Values) -> Values:
    """(k, 6), in the order of `QUANTITIES`, from sums over nights (k, seeds, 8)."""
    n, d, dd, x, xx, xd, f, xf = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = np.where(n > 0, d / n, np.nan)
        variance = np.where(n > 1, (dd - n * bias**2) / (n - 1), np.nan)
    sd = np.sqrt(np.maximum(variance, 0))
    slopes = [_slope(n, x, xx, y, xy) for y, xy in ((d, xd), (f, xf))]
    columns = [bias, sd, bias - LIMIT_SDS * sd, bias + LIMIT_SDS * sd, *slopes]
    return np.stack([values.mean(-1) for values in columns], -1)


def _slope(n: Any, x: Values, xx: Values, y: Values, xy: Values) -> Values:
    """Least-squares slope from n and the sums of x, x * x, y and x * y; NaN where x is constant."""
    below = n * xx - x * x
    slope = np.full(np.shape(below), np.nan)
    np.divide(n * xy - x * y, below, out=slope, where=below > 1e-9 * np.maximum(n * xx, 1e-300))
    return slope
