"""Signal processing on whole channels, so that no block or epoch has an edge of its own."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording import Samples

Beyond = Literal["hold", "zero"]
LARGEST_FACTOR = 100_000  # of a resampling ratio's denominator


def resample(samples: Samples, rate: float, to: float, *, beyond: Beyond = "hold") -> Samples:
    """Resample a whole channel by polyphase filtering.

    The filter is scipy's default for `resample_poly`, a zero-phase Kaiser-windowed (beta 5)
    low-pass of 20 taps per phase at the lower Nyquist rate. From 1 Hz to 100 Hz, as for the
    cassette's EMG envelope, this interpolates smoothly instead of repeating samples.

    Parameters
    ----------
    samples
        (..., n) float32.
    rate, to
        Present and wanted sample rate, Hz.
    beyond
        What is before the first and after the last sample: their values, or zero.

    Returns
    -------
    resampled
        (..., round(n * to / rate)) float32.

    Raises
    ------
    DataError
        If the ratio of the rates is not a manageable fraction.
    """
    ratio = (Fraction(to) / Fraction(rate)).limit_denominator(LARGEST_FACTOR)
    if ratio == 1:
        return samples
    if ratio <= 0 or abs(float(ratio) * rate / to - 1) > 1e-9:  # noqa: PLR2004 - of the rate
        raise DataError(f"cannot resample from {rate:g} Hz to {to:g} Hz")
    from scipy.signal import resample_poly

    size = round(samples.shape[-1] * to / rate)
    padding = {"hold": "edge", "zero": "constant"}[beyond]
    out = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1, padtype=padding)
    return np.asarray(out[..., :size], np.float32)


def cut(samples: Samples, rate: float, onsets: npt.NDArray[np.float64], size: int) -> Samples:
    """Cut epochs out of a channel.

    An epoch begins at the first sample not before its onset, so that at a rate like 511.95964 Hz,
    with 512 samples for every second, epochs keep to the time however long the recording is: some
    of them share a sample with the next.

    Parameters
    ----------
    samples
        (n,) float32.
    rate
        Hz.
    onsets
        (epochs,) s from the start of the channel.
    size
        Samples of an epoch.

    Returns
    -------
    epochs
        (epochs, size) float32.
    """
    first = np.ceil(onsets * rate - 1e-6).astype(np.int64)
    assert len(first) == 0 or first[-1] + size <= len(samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    return np.ascontiguousarray(windows[first])


def covered(count: int, rate: float, size: int, seconds: float) -> float:
    """Say up to when whole epochs can be cut out of a channel: s from its start.

    Parameters
    ----------
    count
        Samples of the channel.
    rate
        Hz.
    size, seconds
        Of an epoch.
    """
    return (count - size) / rate + seconds
