"""Levels of an EEG's bands in each epoch: what `spectral` sees, and simulated nights are judged by.

Welch's method as scipy.signal.welch has it (256 samples, Hann, half overlapping, each piece less
its mean), in NumPy alone, because scipy takes longer to import than a night takes here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.recording import Samples

Floats = npt.NDArray[np.float64]

BANDS: Final = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 50.0),
}
"""Hz, both ends included."""
LEVELS: Final = (*BANDS, "variance", "mobility")
"""What `band_levels` gives of an epoch, in its order."""
RATE: Final = 100.0
"""Sample rate of the epochs, Hz."""
PIECE: Final = 256  # samples of a spectrum
BLOCK: Final = 32  # epochs at a time, so that their spectra stay in the cache
HANN: Final = np.hanning(PIECE + 1)[:-1].astype(np.float32)  # periodic


def band_levels(epochs: Samples) -> Floats:
    """Return levels of one lead: (epochs, 7), see `LEVELS`.

    Parameters
    ----------
    epochs
        (epochs, samples) uV, at 100 Hz; at least 256 samples.

    Returns
    -------
    levels
        Mean power density in each band in dB re 1 uV^2/Hz, variance in dB re 1 uV^2, and Hjorth's
        mobility. Of an epoch with a value that is not finite, NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        variance, steps = epochs.var(1), np.diff(epochs, axis=1).var(1)
        mobility = np.sqrt(steps / (variance + 1e-6))
        return np.hstack(
            [band_powers(epochs), 10 * np.log10(variance + 1e-3)[:, None], mobility[:, None]]
        )


def band_powers(epochs: Samples) -> Floats:
    """Return the first of the levels alone, those of `BANDS`: (epochs, 5); see `band_levels`."""
    powers = np.empty((len(epochs), len(BANDS)))
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, len(epochs), BLOCK):
            powers[first : first + BLOCK] = _powers(np.asarray(epochs[first : first + BLOCK]))
    return powers


def _powers(epochs: Samples) -> Floats:
    centred = epochs - epochs.mean(1, keepdims=True, dtype=np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(centred, PIECE, axis=1)[:, :: PIECE // 2]
    spectra = np.fft.rfft(pieces * HANN)  # a piece's own mean lies below the lowest band
    density = (spectra.real**2 + spectra.imag**2).mean(1)  # (epochs, frequencies)
    density[:, 1:-1] *= 2.0  # of negative frequencies, which 0 and half the rate do not have
    density /= RATE * np.square(HANN, dtype=np.float64).sum()
    hertz = np.fft.rfftfreq(PIECE, 1 / RATE)
    inside = [(hertz >= low) & (hertz <= high) for low, high in BANDS.values()]
    return 10 * np.log10(np.stack([density[:, band].mean(1) for band in inside], 1) + 1e-6)
