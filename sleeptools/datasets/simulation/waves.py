"""Building blocks of simulated signals: noise with a changing spectrum, and single events.

Noise is made in 4-s frames every 2 s, each with its own spectrum, and overlap-added under a sine
window, whose squares add up to one: the variance follows the spectra smoothly (Griffin & Lim
1984, IEEE Trans ASSP 32:236, run in the direction of synthesis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Signal32 = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Framing:
    """How a signal is divided into overlapping frames.

    Parameters
    ----------
    rate
        Sample rate, Hz.
    hop
        Number of samples from one frame to the next; a frame has twice as many.
    """

    rate: float
    hop: int

    @property
    def bins(self) -> int:
        """Number of frequencies in a frame's spectrum."""
        return self.hop + 1

    @property
    def frequencies(self) -> Floats:
        """Frequencies of a frame's spectrum: (bins,), Hz."""
        return np.arange(self.bins) * self.rate / (2 * self.hop)


RATE: Final = 100  # Hz
EPOCH: Final = 30 * RATE  # samples
HOP: Final = 2 * RATE
FRAMES_PER_EPOCH: Final = EPOCH // HOP
HUMAN: Final = Framing(RATE, HOP)
BINS: Final = HUMAN.bins
FREQUENCIES: Final = HUMAN.frequencies
BLOCK: Final = 2048  # frames made at a time


def frames_of(epochs: int) -> int:
    """Return the number of frames of some epochs; the first and last extend beyond by half."""
    return epochs * FRAMES_PER_EPOCH + 1


def normalised(power: Floats, framing: Framing = HUMAN) -> Floats:
    """High-pass a power spectrum (bins,) at about 0.5 Hz and scale it to a variance of one."""
    high_pass = 1.0 + (0.4 / np.maximum(framing.frequencies, 1e-3)) ** 8  # the recorder's
    shaped = power / high_pass
    shaped[0] = shaped[-1] = 0.0
    scaled: Floats = shaped / shaped.sum()
    return scaled


def peak(centre: float, width: float, framing: Framing = HUMAN) -> Floats:
    """Return the power spectrum of a rhythm: (bins,), a bell of standard deviation `width` Hz."""
    return normalised(np.exp(-0.5 * ((framing.frequencies - centre) / width) ** 2), framing)


def drift(width: float, framing: Framing = HUMAN) -> Floats:
    """Return the power spectrum of slow drift: (bins,), half a bell at 0 Hz, without its mean."""
    power = np.exp(-0.5 * (framing.frequencies / width) ** 2)
    power[0] = 0.0
    scaled: Floats = power / power.sum()
    return scaled


def band(low: float, high: float, framing: Framing = HUMAN) -> Floats:
    """Return a power spectrum that is flat between two frequencies in Hz: (bins,)."""
    inside = (low <= framing.frequencies) & (high >= framing.frequencies)
    return normalised(inside.astype(float), framing)


def white(rng: np.random.Generator, frames: int, framing: Framing = HUMAN) -> Spectra:
    """Draw complex normal spectra of unit power: (frames, bins)."""
    normal = rng.standard_normal((frames, 2 * framing.bins), dtype=np.float32)
    normal *= np.float32(np.sqrt(0.5))
    return normal.view(np.complex64)


def synthesise(spectra: Spectra, power: Signal32) -> Signal32:
    """Make a signal of overlapping frames of noise.

    Parameters
    ----------
    spectra
        (frames, bins) complex spectra of unit power.
    power
        (frames, bins) power of each frequency, uV squared.

    Returns
    -------
    signal
        ((frames - 1) * hop,) float32, uV.
    """
    hop = spectra.shape[1] - 1
    pieces = _pieces(spectra, power)
    blocks: Signal32 = pieces[1:, :hop] + pieces[:-1, hop:]
    return blocks.reshape(-1)


def noise(rng: np.random.Generator, power: Floats, shapes: Floats, framing: Framing) -> Signal32:
    """Make noise of rhythms of changing power, a block of frames at a time to save memory.

    Parameters
    ----------
    rng
        Random generator.
    power
        (frames, rhythms) power of each rhythm, uV squared.
    shapes
        (rhythms, bins) normalised power spectrum of each rhythm.
    framing
        Sample rate and frames.

    Returns
    -------
    signal
        ((frames - 1) * hop,) float32, uV.
    """
    frames, hop = len(power), framing.hop
    sums = np.zeros((frames + 1, hop), np.float32)
    for start in range(0, frames, BLOCK):
        block = power[start : start + BLOCK].astype(np.float32) @ shapes.astype(np.float32)
        pieces = _pieces(white(rng, len(block), framing), block)
        sums[start : start + len(block)] += pieces[:, :hop]
        sums[start + 1 : start + 1 + len(block)] += pieces[:, hop:]
    return sums[1:-1].reshape(-1)


def _pieces(spectra: Spectra, power: Signal32) -> Signal32:
    """Turn spectra into windowed frames: (frames, 2 * hop)."""
    from scipy import fft

    frame = 2 * (spectra.shape[1] - 1)
    window = np.sin(np.pi * (np.arange(frame, dtype=np.float32) + 0.5) / frame)
    scale = np.float32(frame / np.sqrt(2.0))
    pieces: Signal32 = fft.irfft(spectra * (scale * np.sqrt(power)), frame, axis=1)
    pieces *= window
    return pieces


def to_frames(per_epoch: Floats) -> Floats:
    """Interpolate values at the middles of epochs, (epochs, k), to the frames: (frames, k)."""
    epochs = len(per_epoch)
    position = np.arange(frames_of(epochs)) / FRAMES_PER_EPOCH - 0.5
    before = np.clip(np.floor(position).astype(int), 0, epochs - 1)
    after = np.minimum(before + 1, epochs - 1)
    share = np.clip(position - before, 0.0, 1.0)[:, None]
    values: Floats = per_epoch[before] * (1.0 - share) + per_epoch[after] * share
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
    index = onsets[inside, None] + np.arange(shapes.shape[1])
    np.add.at(signal, index.reshape(-1), shapes[inside].reshape(-1))
