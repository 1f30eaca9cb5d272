"""Resampling of whole channels by polyphase filtering, so that epochs have no filter edges."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sleeptools import native
from sleeptools.errors import DataError
from sleeptools.recording.recording import Samples

Beyond = Literal["hold", "zero"]
PADDING: Final[dict[Beyond, Literal["edge", "constant"]]] = {"hold": "edge", "zero": "constant"}
LARGEST_FACTOR = 100_000  # largest denominator of a resampling ratio
MOST_DRIFT = 0.5  # output samples by which the time of the last one may be wrong
TAPS, BETA = 10, 5.0  # taps per phase on each side of the centre; shape of the Kaiser window
BLOCK: Final = 1 << 20  # samples of a piece
PANEL = 16  # Polyphase::kPanel of csrc/ops.h


def resample(samples: Samples, rate: float, to: float, *, beyond: Beyond = "hold") -> Samples:
    """Resample a whole channel by polyphase filtering.

    The filter is that of scipy's `resample_poly`, a zero-phase Kaiser-windowed (beta 5)
    low-pass of 20 taps per phase at the lower Nyquist rate. From 1 Hz to 100 Hz, as for the EMG
    envelope of Sleep-EDF's cassette study, it interpolates smoothly instead of repeating samples.

    Parameters
    ----------
    samples
        (..., n) float32.
    rate, to
        Sample rate of the input and of the output, Hz.
    beyond
        Padding before the first and after the last sample: "hold" repeats them, "zero" is zero.

    Returns
    -------
    resampled
        (..., round(n * to / rate)) float32.

    Raises
    ------
    DataError
        If no fraction with a denominator of at most `LARGEST_FACTOR` is close enough to the ratio
        of the rates: the last sample would be off by more than half an output sample.
    """
    ratio = (Fraction(to) / Fraction(rate)).limit_denominator(LARGEST_FACTOR)
    if ratio == 1:
        return samples
    size = round(samples.shape[-1] * to / rate)
    drift = abs(float(ratio * Fraction(rate) / Fraction(to) - 1)) * size
    if ratio <= 0 or drift > MOST_DRIFT:
        raise DataError(
            f"cannot resample from {rate!r} Hz to {to!r} Hz: by the nearest fraction, {ratio}, the "
            f"end would lie {drift / to:.3g} s beside its time",
            hint="is the sample rate in the file right?",
            code="SIG-RESAMPLE",
        )
    if native.available():
        return _polyphase(samples, ratio.numerator, ratio.denominator, size, beyond)
    from scipy.signal import resample_poly

    padding = PADDING[beyond]
    out = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1, padtype=padding)
    return np.asarray(out[..., :size], np.float32)


def _polyphase(samples: Samples, up: int, down: int, size: int, beyond: Beyond) -> Samples:
    """Resample piece by piece, so that no second copy of a long channel is made to pad it.

    A piece is many whole rows, or some of the outputs of one row, which begin at phase 0.
    """
    taps, reach = _taps(up, down)
    rows = samples.reshape(-1, samples.shape[-1])
    out = np.empty((len(rows), size), np.float32)
    height = max(1, BLOCK // rows.shape[-1])
    width = max(1, BLOCK // max(up, down)) * up if height == 1 else max(1, size)
    for row, start in itertools.product(range(0, len(rows), height), range(0, size, width)):
        piece = out[row : row + height, start : start + width]
        first = start // up * down - reach  # of the inputs
        last = first + (piece.shape[1] - 1) * down // up + taps.shape[1] + 1
        native.launch_on_cpu(
            "polyphase",
            x=_padded(rows[row : row + height], first, last, beyond),
            taps=taps,
            out=piece,
            rows=piece.shape[0],
            padded=last - first,
            size=piece.shape[1],
            up=up,
            down=down,
            width=taps.shape[1],
        )
    return out.reshape(*samples.shape[:-1], size)


def _padded(rows: Samples, first: int, last: int, beyond: Beyond) -> Samples:
    """Copy the samples from `first` to `last` of every row, which may lie beyond its ends."""
    begin, end = max(0, first), min(last, rows.shape[-1])
    return np.pad(rows[:, begin:end], ((0, 0), (begin - first, last - end)), PADDING[beyond])


@lru_cache(4)
def _taps(up: int, down: int) -> tuple[npt.NDArray[np.float32], int]:
    """Arrange the filter by phase, (up, width) in the order of the input; also return its reach.

    Output m is the sum over i of taps[m * down % up, i] * input[m * down // up - reach + i].
    """
    half = TAPS * max(up, down)
    n = np.arange(-half, half + 1)
    kernel = np.sinc(n / max(up, down)) * np.kaiser(2 * half + 1, BETA)
    kernel *= up / kernel.sum()
    reach = half // up + 1
    width = -(-(2 * reach + 1) // PANEL) * PANEL
    index = half + np.arange(up)[:, None] + (reach - np.arange(width)) * up
    inside = (index >= 0) & (index <= 2 * half)
    return np.where(inside, kernel[index.clip(0, 2 * half)], 0).astype(np.float32), reach
