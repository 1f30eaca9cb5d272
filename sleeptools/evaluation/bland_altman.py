"""Agreement of measured quantities: bias and limits, after Bland and Altman, by subject.

The framework is that of Menghini et al. 2021 (10.1093/sleep/zsaa170): bias and limits of agreement
with intervals, and whether the difference (proportional bias) or its spread (heteroscedasticity)
grows with the size. Size is the mean of both measurements, as Bland and Altman 1995
(10.1016/S0140-6736(95)91748-9) advise: against the truth alone, any noisy measurement has a slope.
Where one of the two is found, the plain limits are too wide at one end and too narrow at the other.
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
    """Predicted less true.

    Parameters
    ----------
    nights, subjects
        Compared.
    bias, sd
        Mean and standard deviation of the differences over nights.
    lower, upper
        Limits of agreement, bias -+ 1.96 SD.
    slope
        Of the difference on the mean of both; proportional bias where its interval excludes 0.
    spread_slope
        Of the distance from that line on the mean of both; heteroscedastic where its interval
        excludes 0.
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
        (nights,) whose night it is; intervals are over subjects, so that two nights of one person
        do not count as two people.
    """
    t = np.atleast_2d(truth.T).T
    p = np.atleast_2d(predicted.T).T
    known = np.flatnonzero(~np.isnan(t + p).any(axis=1))
    t, p = t[known], p[known]
    who = [subjects[int(i)] for i in known]
    everyone = sorted(set(who))
    if not everyone:
        return BlandAltman(0, 0, *[Interval(*[float("nan")] * 3)] * len(QUANTITIES))
    sums = np.zeros((len(everyone), t.shape[1], 8))
    np.add.at(sums, [everyone.index(s) for s in who], _parts(p - t, (p + t) / 2))
    found = bootstrap.bootstrap_interval(
        lambda w: _numbers(np.tensordot(w, sums, 1)), len(everyone)
    )
    intervals = [Interval(*map(float, three)) for three in zip(*found, strict=True)]
    return BlandAltman(len(t), len(everyone), *intervals)


def _parts(apart: Values, size: Values) -> Values:
    """(nights, seeds, 8): what the sums over nights are made of."""
    x = size - size.mean(0)  # of no effect on slopes; keeps their sums accurate
    slope = _slope(len(x), x.sum(0), (x * x).sum(0), apart.sum(0), (x * apart).sum(0))
    line = apart.mean(0) + np.nan_to_num(slope) * x
    far = np.abs(apart - line)
    one = np.ones_like(x)
    return np.stack([one, apart, apart**2, x, x * x, x * apart, far, x * far], -1)


def _numbers(sums: Values) -> Values:
    """(k, 6), in the order of `QUANTITIES`, from sums over nights (k, seeds, 8)."""
    n, d, dd, x, xx, xd, f, xf = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = np.where(n > 0, d / n, np.nan)
        variance = np.where(n > 1, (dd - n * bias**2) / (n - 1), np.nan)
    sd = np.sqrt(np.maximum(variance, 0))
    slopes = [_slope(n, x, xx, y, xy) for y, xy in ((d, xd), (f, xf))]
    each = [bias, sd, bias - LIMIT_SDS * sd, bias + LIMIT_SDS * sd, *slopes]
    return np.stack([values.mean(-1) for values in each], -1)


def _slope(n: Any, x: Values, xx: Values, y: Values, xy: Values) -> Values:
    below = n * xx - x * x
    out = np.full(np.shape(below), np.nan)
    np.divide(n * xy - x * y, below, out=out, where=below > 1e-9 * np.maximum(n * xx, 1e-300))
    return out
