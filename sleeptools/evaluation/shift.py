"""Shifts by whole epochs between two scorings of one night, from the sharpness of their agreement.

Two scorings of one night change stage at the same times, so that their agreement, taken at every
shift, has a narrow peak where they belong; those of different nights agree a little at many shifts,
because nights are alike in the large, but nowhere sharply. The sharpness of a peak is how far
agreement stands above its values `WIDTH` epochs before and after, in units of the root mean square
of that quantity at all shifts off the peak: what chance and the course of the night do in just
these two scorings. A sharp peak at another shift than 0 is reported; it is doubtful where agreement
there is hardly better than as the scorings lie. benches/shift_detection.py has what that finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.evaluation import metrics

Stages = npt.NDArray[Any]
Values = npt.NDArray[np.float64]

FARTHEST: Final = 150
"""Largest shift, epochs: an hour of 30-s epochs, which a clock may be off by, and 15 minutes."""
BACKGROUND: Final = 240  # epochs on either side, in which sharpness off the peak is measured
WIDTH: Final = 6  # epochs; scorers place a change of stage differently by one or two
SMOOTHING: Final = (0.25, 0.5, 0.25)  # over lags: changes of stage jitter by an epoch
SHARPNESS: Final = 10.0  # root mean squares
SURE: Final = 2.0  # standard errors by which agreement is better than unshifted; below is doubtful
LEAST_SHIFTS: Final = 200  # off the peak, for a background
LEAST_OVERLAP: Final = 0.5  # of the epochs that both scored unshifted


@dataclass(frozen=True)
class Shift:
    """Where the second of two scorings agrees best with the first.

    Parameters
    ----------
    epochs
        By how many epochs it must be laid later (earlier, if negative); 0 where no shift is found.
    kappa, unshifted
        Cohen's kappa there, and as the scorings lie.
    sharpness
        Sharpness of the highest peak; NaN where the scorings are too short to tell, or constant.
    gain
        Agreement there less agreement unshifted, in standard errors.
    """

    epochs: int
    kappa: float
    unshifted: float
    sharpness: float
    gain: float = 0.0

    @property
    def is_doubtful(self) -> bool:
        """Whether the difference may be chance: scorers place changes of stage differently."""
        return self.epochs != 0 and self.gain < SURE

    def text(self, name: str) -> str:
        """Say it of the scoring of that name; "" where no shift is found."""
        if not self.epochs:
            return ""
        count = abs(self.epochs)
        noun = "epoch" if count == 1 else "epochs"
        way = "later" if self.epochs > 0 else "earlier"
        if self.is_doubtful:
            values = f"kappa {self.kappa:.3f} against {self.unshifted:.3f}"
            return f"{name} may fit best {count} {noun} {way} ({values}), but it may be chance"
        return (
            f"{name} agrees best {count} {noun} {way}: {self.kappa:.2f} against "
            f"{self.unshifted:.2f}"
        )


def find_shift(first: Stages, second: Stages, count: int) -> Shift:
    """Find the shift at which two scorings of a night agree best, if any is beyond doubt.

    Parameters
    ----------
    first, second
        (epochs,) stages on one grid, 0 to count - 1, -1 where unscored.
    count
        Number of stages.
    """
    unshifted = _kappa(first, second, count)
    nothing = Shift(0, unshifted, unshifted, math.nan)
    reach = min(BACKGROUND, int((first >= 0).sum()) // 3, int((second >= 0).sum()) // 3)
    if 2 * (reach - 3 * WIDTH) < LEAST_SHIFTS:
        return nothing
    lags = np.arange(-reach - WIDTH, reach + WIDTH + 1)
    pairs = _pairs_by_lag(first, second, count, lags)
    total = pairs.sum((1, 2))
    alike = np.trace(pairs, axis1=1, axis2=2)
    sharp = 2 * alike[WIDTH:-WIDTH] - alike[: -2 * WIDTH] - alike[2 * WIDTH :]
    enough = total >= max(LEAST_OVERLAP * total[len(lags) // 2], 1)
    information = np.where(enough, _mutual_information(pairs), 0.0)
    smooth = np.convolve(information, SMOOTHING, "same")
    inside = np.abs(lags) <= min(FARTHEST, reach // 2)
    best = int(np.argmax(np.where(inside, smooth, -1.0)))
    sharpness = _sharpness(sharp, best - WIDTH)
    lag = int(lags[best])
    if not lag or not sharpness >= SHARPNESS:
        return replace(nothing, sharpness=sharpness)
    kappa = float(metrics.kappa(pairs[best]))
    return Shift(-lag, kappa, unshifted, sharpness, _gain(first, second, lag))


def _kappa(first: Stages, second: Stages, count: int) -> float:
    scored = (first >= 0) & (second >= 0)
    return float(metrics.kappa(metrics.confusion_matrix(first[scored], second[scored], count)))


def _pairs_by_lag(first: Stages, second: Stages, count: int, lags: npt.NDArray[Any]) -> Values:
    """(lags, stages, stages): how often each pair of stages meets if the second is read later.

    A product of Fourier transforms counts all lags at once; counts are whole numbers again.
    """
    size = 1 << (2 * max(len(first), len(second)) - 1).bit_length()
    codes = np.arange(count)[:, None]
    reference, moved = (
        np.fft.rfft((stages == codes).astype(float), size) for stages in (first, second)
    )
    counts = np.fft.irfft(np.conj(reference)[:, None] * moved[None], size)
    return np.rint(np.moveaxis(counts[..., lags], -1, 0))


def _mutual_information(pairs: Values) -> Values:
    """(lags,) how much one scoring tells of the other, nats, from counts (lags, stages, stages).

    It finds the place of a peak better than the share of equal stages: mistakes that a scorer
    makes again and again tell of it as well.
    """
    share = pairs / np.maximum(pairs.sum((1, 2), keepdims=True), 1)
    chance = share.sum(2, keepdims=True) * share.sum(1, keepdims=True)
    logarithm = np.zeros_like(share)
    np.log(share / np.where(chance > 0, chance, 1), out=logarithm, where=share > 0)
    total: Values = (share * logarithm).sum((1, 2))
    return total


def _sharpness(sharp: Values, peak: int) -> float:
    """Height of a peak in root mean squares of what lies beside it; NaN if that is nothing."""
    beside = np.concatenate([sharp[: max(peak - 3 * WIDTH, 0)], sharp[peak + 3 * WIDTH + 1 :]])
    noise = math.sqrt(float(np.mean(beside**2)))
    return float(sharp[peak]) / noise if noise else math.nan


def _gain(first: Stages, second: Stages, lag: int) -> float:
    """Agreement at a lag less agreement unshifted, in standard errors (as McNemar's test)."""
    moved = np.full(len(first), -1, second.dtype)
    begin, stop = max(0, -lag), min(len(first), len(second) - lag)
    moved[begin:stop] = second[begin + lag : stop + lag]
    scored = (first >= 0) & (second >= 0) & (moved >= 0)
    better = int(np.count_nonzero(scored & (moved == first) & (second != first)))
    worse = int(np.count_nonzero(scored & (moved != first) & (second == first)))
    return (better - worse) / math.sqrt(better + worse) if better + worse else 0.0
