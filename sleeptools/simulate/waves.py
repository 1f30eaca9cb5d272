"""Building blocks of simulated signals: noise with a spectrum that changes, and single events.

Noise is made in 4-s frames every 2 s, each with its own spectrum, and overlap-added under a sine
window, whose squares add up to one: the variance follows the spectra smoothly (Griffin & Lim
1984, IEEE Trans ASSP 32:236, run in the direction of synthesis).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.simulate.traits import Floats

Signal32 = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]

RATE: Final = 100  # Hz
EPOCH: Final = 30 * RATE  # samples
HOP: Final = 2 * RATE
FRAME: Final = 2 * HOP
FRAMES_PER_EPOCH: Final = EPOCH // HOP
BINS: Final = FRAME // 2 + 1
FREQUENCIES: Final = np.arange(BINS) * RATE / FRAME
"""(BINS,) Hz."""


def frames_of(epochs: int) -> int:
    """Count the frames of so many epochs; the first and last one stick out by half."""
    return epochs * FRAMES_PER_EPOCH + 1


def normalised(power: Floats) -> Floats:
    """Scale a power spectrum (BINS,) to a variance of one, without what is below 0.5 Hz."""
    shaped = power / (1.0 + (0.4 / np.maximum(FREQUENCIES, 1e-3)) ** 8)  # the recorder's high-pass
    shaped[0] = shaped[-1] = 0.0
    scaled: Floats = shaped / shaped.sum()
    return scaled


def peak(centre: float, width: float) -> Floats:
    """Power spectrum of a rhythm: (BINS,), a bell of standard deviation `width` Hz."""
    return normalised(np.exp(-0.5 * ((FREQUENCIES - centre) / width) ** 2))


def band(low: float, high: float) -> Floats:
    """Flat power spectrum between two frequencies: (BINS,)."""
    return normalised(((low <= FREQUENCIES) & (high >= FREQUENCIES)).astype(float))


def white(rng: np.random.Generator, frames: int) -> Spectra:
    """Draw complex normal spectra of unit power: (frames, BINS)."""
    parts = rng.standard_normal((frames, 2 * BINS), dtype=np.float32)
    parts *= np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)


def synthesise(spectra: Spectra, power: Signal32) -> Signal32:
    """Overlap-add frames of noise.

    Parameters
    ----------
    spectra
        (frames, BINS) of unit power.
    power
        (frames, BINS) share of the variance, uV squared.

    Returns
    -------
    signal
        ((frames - 1) * HOP,) float32, uV.
    """
    from scipy import fft

    window = np.sin(np.pi * (np.arange(FRAME, dtype=np.float32) + 0.5) / FRAME)
    scale = np.float32(FRAME / np.sqrt(2.0))
    pieces = fft.irfft(spectra * (scale * np.sqrt(power)), FRAME, axis=1)
    pieces *= window
    blocks: Signal32 = pieces[1:, :HOP] + pieces[:-1, HOP:]
    return blocks.reshape(-1)


def to_frames(per_epoch: Floats) -> Floats:
    """Interpolate values at the middles of epochs, (epochs, k), to the frames: (frames, k)."""
    epochs = len(per_epoch)
    at = np.arange(frames_of(epochs)) / FRAMES_PER_EPOCH - 0.5
    left = np.clip(np.floor(at).astype(int), 0, epochs - 1)
    right = np.minimum(left + 1, epochs - 1)
    share = np.clip(at - left, 0.0, 1.0)[:, None]
    values: Floats = per_epoch[left] * (1.0 - share) + per_epoch[right] * share
    return values


def draw_events(
    rng: np.random.Generator, per_epoch: Floats, rate: int = RATE
) -> npt.NDArray[np.int64]:
    """Draw the onsets, in samples, of events whose number per epoch is Poisson: sorted."""
    counts = rng.poisson(per_epoch)
    epoch = np.repeat(np.arange(len(per_epoch)), counts)
    return np.sort(((epoch + rng.random(len(epoch))) * 30 * rate).astype(np.int64))


def add_events(signal: Signal32, onsets: npt.NDArray[np.int64], shapes: Signal32) -> None:
    """Add one shape, (events, length) or (length,), at every onset, in place."""
    shapes = np.broadcast_to(shapes, (len(onsets), shapes.shape[-1]))
    inside = onsets + shapes.shape[1] <= len(signal)
    at = onsets[inside, None] + np.arange(shapes.shape[1])
    np.add.at(signal, at.reshape(-1), shapes[inside].reshape(-1))
