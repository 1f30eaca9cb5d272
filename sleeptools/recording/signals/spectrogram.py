"""Multitaper spectrogram of one signal, a column per epoch, in NumPy alone.

The tapers are the sine tapers of Riedel & Sidorenko (1995, IEEE Trans Signal Process 43:188), which
come close to Slepian's (Thomson 1982, Proc IEEE 70:1055) and have a closed form. Prerau et al.
(2017, Physiology 32:60) show what a multitaper spectrogram tells of a night.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.recording import Samples, Signal
from sleeptools.recording.timeline import Onsets, sample_numbers

WINDOW_SECONDS: Final = 6.0
TAPERS: Final = 3  # a bandwidth of 2/3 Hz
HIGHEST_HZ: Final = 30.0
FLOOR: Final = 1e-6  # uV^2/Hz
BLOCK: Final = 64  # epochs at a time, to save memory


def sine_tapers(size: int, count: int) -> Samples:
    """Return the first sine tapers: (count, size), each of unit power."""
    position = np.outer(np.arange(1, count + 1), np.arange(1, size + 1))
    tapers: Samples = (np.sqrt(2 / (size + 1)) * np.sin(np.pi * position / (size + 1))).astype(
        np.float32
    )
    return tapers


def spectrogram(
    signal: Signal, onsets: Onsets, epoch_seconds: float, highest: float = HIGHEST_HZ
) -> tuple[npt.NDArray[np.float64], Samples]:
    """Compute the power density of each epoch, the mean of windows and tapers.

    Parameters
    ----------
    signal
        A signal in microvolts.
    onsets
        (epochs,) s from the start of the recording.
    epoch_seconds
        Length of an epoch, s; a short one is one window.
    highest
        Highest frequency, Hz; half the sample rate if that is lower.

    Returns
    -------
    hertz
        (frequencies,) Hz.
    level
        (epochs, frequencies) dB re 1 uV^2/Hz; NaN for an epoch that the signal does not cover.
    """
    rate = signal.sample_rate
    size = round(min(WINDOW_SECONDS, epoch_seconds) * rate)
    windows = max(1, round(epoch_seconds * rate) // size)
    hertz = np.fft.rfftfreq(size, 1 / rate)
    used = np.flatnonzero(hertz <= min(highest, rate / 2))
    tapers = sine_tapers(size, TAPERS) / np.float32(np.sqrt(rate / 2))
    level = np.full((len(onsets), len(used)), np.nan, np.float32)
    first, inside = _first_samples(signal, onsets, windows * size)
    samples = signal.samples()
    for start in range(0, len(onsets), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(onsets)))[inside[start : start + BLOCK]]
        if not len(rows):
            continue
        epochs = samples[first[rows, None] + np.arange(windows * size)]
        pieces = epochs.reshape(len(rows), windows, 1, size)
        pieces = (pieces - pieces.mean(-1, keepdims=True)) * tapers
        spectra = np.fft.rfft(pieces, axis=-1)[..., used]
        power = (spectra.real**2 + spectra.imag**2).mean((1, 2))
        level[rows] = 10 * np.log10(power + FLOOR)
    return np.asarray(hertz[used], np.float64), level


def _first_samples(
    signal: Signal, onsets: Onsets, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Find each epoch's first sample, and whether the stretch that it lies in holds all of it."""
    stretches = signal.stretches
    number = stretches.holding(onsets)
    within = sample_numbers(onsets - stretches.begins[number], signal.sample_rate)
    return stretches.firsts[number] + within, within + size <= stretches.sizes[number]
