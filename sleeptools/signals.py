"""Signal processing on whole channels, so that no block or epoch has an edge of its own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording import Samples

LARGEST_FACTOR = 100_000  # of a resampling ratio's denominator


def resample(samples: Samples, rate: float, to: float) -> Samples:
    """Resample a whole channel by polyphase filtering.

    The filter is scipy's default for `resample_poly`, a zero-phase Kaiser-windowed (beta 5)
    low-pass of 20 taps per phase at the lower Nyquist rate; before the first and after the last
    sample the signal is taken to hold its value. From 1 Hz to 100 Hz, as for the cassette's EMG
    envelope, this interpolates smoothly instead of repeating samples.

    Parameters
    ----------
    samples
        (..., n) float32.
    rate, to
        Present and wanted sample rate, Hz.

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
    out = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1, padtype="edge")
    return np.asarray(out[..., :size], np.float32)


def cut(samples: Samples, rate: float, onsets: npt.NDArray[np.float64], seconds: float) -> Samples:
    """Cut epochs out of a channel.

    Parameters
    ----------
    samples
        (n,) float32.
    rate
        Hz.
    onsets
        (epochs,) s from the start of the channel.
    seconds
        Length of an epoch, s.

    Returns
    -------
    epochs
        (epochs, round(seconds * rate)) float32.
    """
    size = round(seconds * rate)
    first = np.ceil(onsets * rate - 1e-6).astype(np.int64)
    assert len(first) == 0 or first[-1] + size <= len(samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    return np.ascontiguousarray(windows[first])
