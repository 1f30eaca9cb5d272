"""Simulated EOG, EMG, ECG, breathing, temperature and event marker of a human night.

Sleep-Cassette's muscle signal is a rectified envelope at 1 Hz (high-pass 16 Hz, rectified,
low-pass 0.7 Hz); a chin EMG at 100 Hz is made from the same tone for scorers that need one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.datasets.simulation import waves
from sleeptools.datasets.simulation.traits import (
    ACTIVE_MUSCLE,
    BLINKS_CLOSED,
    BLINKS_OPEN,
    EOG_FLOOR_UV,
    FRONTAL,
    MUSCLE_UV,
    ROLLING,
    SACCADES,
    SACCADES_OPEN,
    TWITCHES,
    Traits,
)
from sleeptools.datasets.simulation.waves import Floats, Signal32, Spectra

SECONDS: Final = 30  # length of an epoch
# Eye leakage and EOG floor, after the one stretch of real wake at hand (the first 300 s of SC4001):
# Fpz-Cz and horizontal EOG are correlated there at 0.04, and the EOG's median rms is 95 uV.
LEAK: Final = 0.08  # fraction of the frontal EEG in the EOG
BLINK_LEAK: Final = 0.03  # fraction of a blink in the horizontal EOG
BLINK_SPREAD, BLINK_MEMORY = 1.0, 0.6  # log spread of the number of blinks, and from epoch to epoch
EYES_IN_EEG: Final = {
    "EEG Fpz-Cz": (0.50, 0.01),
    "EEG Pz-Oz": (0.04, 0.01),
    "EEG C4-M1": (0.08, 0.03),
    "EEG C3-M2": (0.08, 0.03),
    "EEG F3-M2": (0.30, 0.10),
    "EEG F4-M1": (0.30, 0.10),
    "EEG O1-M2": (0.03, 0.02),
    "EEG O2-M1": (0.03, 0.02),
}
"""Share of blinks and of horizontal eye movements that reaches an EEG lead."""
TONE_SPREAD: Final = 0.02  # log spread of muscle tone from second to second; steady in real wake
HIGH_PASS_S: Final = 0.32  # time constant of the recorder's 0.5-Hz high-pass


def simulate_eyes(
    rng: np.random.Generator,
    weights: Floats,
    eyes_open: Floats,
    amplitude: Floats,
    source: Spectra,
    traits: Traits,
) -> tuple[Signal32, Signal32, Signal32]:
    """Simulate the horizontal EOG.

    Parameters
    ----------
    rng
        Random generator.
    weights
        (epochs, 6) share of every stage.
    eyes_open
        (epochs,) 0 or 1.
    amplitude
        (3 regions, frames, 7 rhythms) uV.
    source
        (frames, BINS) spectra that the EEG leads have in common.
    traits
        Traits of the subject.

    Returns
    -------
    eog, movements, blinks
        (samples,) float32, uV, 100 Hz; the latter two also appear in the EEG.
    """
    awake = weights[:, 0] * eyes_open
    saccades = weights @ SACCADES + awake * (SACCADES_OPEN - SACCADES[0])
    phasic = np.exp(0.7 * rng.standard_normal(len(weights)))
    samples = len(weights) * waves.EPOCH
    movements = _saccades(rng, saccades * phasic, samples)
    rolling = waves.draw_events(rng, (weights @ ROLLING) * (1.0 - awake))
    waves.add_events(movements, rolling, _rolling(rng, len(rolling)))
    movements *= np.float32(traits.eyes)
    per_epoch = awake * BLINKS_OPEN + (weights[:, 0] - awake) * BLINKS_CLOSED
    blinks = np.zeros(samples, np.float32)
    onsets = waves.draw_events(rng, per_epoch * _bursts(rng, len(weights)))
    waves.add_events(blinks, onsets, traits.blinks * _blinks(rng, len(onsets)))
    floor = waves.to_frames((weights @ np.log(EOG_FLOOR_UV))[:, None])
    background = _background(rng, amplitude[FRONTAL], np.exp(floor), source, traits)
    return background + movements + np.float32(BLINK_LEAK) * blinks, movements, blinks


def _bursts(rng: np.random.Generator, epochs: int) -> Floats:
    """Draw how much more or less than usual a person blinks: (epochs,) factors of mean one."""
    from scipy import signal

    steps = BLINK_SPREAD * rng.standard_normal(epochs)
    steps[1:] *= np.sqrt(1.0 - BLINK_MEMORY**2)
    drift: Floats = signal.lfilter([1.0], [1.0, -BLINK_MEMORY], steps)
    return np.exp(drift - 0.5 * BLINK_SPREAD**2)


def _background(
    rng: np.random.Generator, amplitude: Floats, floor: Floats, source: Spectra, traits: Traits
) -> Signal32:
    """Simulate the EOG without eye movements: EEG, muscle and electrodes, and drift."""
    from sleeptools.datasets.simulation.eeg import spectra_of

    shapes = spectra_of(traits)
    variances = np.concatenate([LEAK * amplitude, floor], axis=1) ** 2
    power = variances.astype(np.float32) @ shapes.astype(np.float32)
    spectra = np.float32(np.sqrt(0.5)) * waves.white(rng, len(amplitude))
    spectra += np.float32(np.sqrt(0.5)) * source
    drift = 36.0 * waves.normalised(1.0 / (1.0 + waves.FREQUENCIES**4))
    return waves.synthesise(spectra, power + drift.astype(np.float32))


def _saccades(rng: np.random.Generator, per_epoch: Floats, samples: int) -> Signal32:
    """Simulate saccades, steps of gaze after the recorder's high-pass: (samples,)."""
    from scipy import signal

    onsets = waves.draw_events(rng, per_epoch)
    impulses = np.zeros(samples, np.float32)
    sign = rng.choice((-1.0, 1.0), len(onsets))
    size = 110.0 * np.exp(0.45 * rng.standard_normal(len(onsets))) * sign
    rise = 4  # samples; a saccade takes about 40 ms
    waves.add_events(impulses, onsets, np.repeat(size[:, None] / rise, rise, 1).astype(np.float32))
    decay = np.float32(np.exp(-1.0 / (HIGH_PASS_S * waves.RATE)))
    filtered: Signal32 = signal.lfilter(np.ones(1, np.float32), np.array([1, -decay]), impulses)
    return filtered.astype(np.float32)


def _rolling(rng: np.random.Generator, count: int) -> Signal32:
    """Draw slow rolling eye movements: (count, 8 s) of 0.2 to 0.45 Hz."""
    t = np.arange(800) / waves.RATE
    hertz = rng.uniform(0.2, 0.45, (count, 1))
    size = 75.0 * np.exp(0.35 * rng.standard_normal((count, 1)))
    phase = 2 * np.pi * rng.random((count, 1))
    return (size * np.hanning(800) * np.sin(2 * np.pi * hertz * t + phase)).astype(np.float32)


def _blinks(rng: np.random.Generator, count: int) -> Signal32:
    """Draw blinks: (count, 0.8 s), 0.3 s up and down, and the high-pass filter's undershoot."""
    t = np.arange(80) / waves.RATE
    wave = np.exp(-(((t - 0.2) / 0.08) ** 2)) - 0.25 * np.exp(-(((t - 0.5) / 0.15) ** 2))
    return (150.0 * np.exp(0.3 * rng.standard_normal((count, 1))) * wave).astype(np.float32)


def simulate_tone(
    rng: np.random.Generator, weights: Floats, eyes_open: Floats, traits: Traits
) -> Floats:
    """Draw the envelope of the chin muscle at 1 Hz: (seconds,), uV."""
    stage = np.log(MUSCLE_UV)
    stage[5] += np.log(traits.atonia)
    level: Floats = weights @ stage + weights[:, 0] * eyes_open * np.log(ACTIVE_MUSCLE)
    level += 0.15 * rng.standard_normal(len(level))
    epoch_position = (np.arange(len(level) * SECONDS) + 0.5) / SECONDS - 0.5
    tone = traits.muscle * np.exp(np.interp(epoch_position, np.arange(len(level)), level))
    tone *= np.exp(TONE_SPREAD * rng.standard_normal(len(tone)))
    onsets = waves.draw_events(rng, weights @ TWITCHES, 1)
    size = 0.3 * traits.muscle * rng.gamma(1.5, 1.0, (len(onsets), 1))
    burst = tone.astype(np.float32)
    waves.add_events(burst, onsets, (size * np.array([0.4, 1.0, 0.5, 0.15])).astype(np.float32))
    return np.asarray(burst, np.float64)


def envelope(tone: Floats, traits: Traits) -> Signal32:
    """Return the recorder's 1-Hz muscle signal: (seconds,) float32, uV."""
    return (0.8 * tone + traits.muscle_floor).astype(np.float32)


def simulate_chin(rng: np.random.Generator, tone: Floats) -> Signal32:
    """Simulate a chin EMG of that tone, 10 to 49 Hz: (samples,) float32, uV, at 100 Hz."""
    frames = waves.frames_of(len(tone) // SECONDS)
    second = np.minimum(np.arange(frames) * (waves.HOP // waves.RATE), len(tone) - 1)
    power = (2.0 * tone[second, None]) ** 2 * waves.band(10.0, 49.0)
    return waves.synthesise(waves.white(rng, frames), power.astype(np.float32))


def simulate_heart(rng: np.random.Generator, samples: int) -> Signal32:
    """Simulate an ECG of about 62 beats a minute: (samples,) float32, uV, at 100 Hz."""
    t = np.arange(60) / waves.RATE
    beat = 800.0 * np.exp(-(((t - 0.1) / 0.012) ** 2)) - 150.0 * np.exp(
        -(((t - 0.14) / 0.015) ** 2)
    )
    beat += 180.0 * np.exp(-(((t - 0.38) / 0.05) ** 2))
    seconds = rng.normal(0.97, 0.05, int(samples / waves.RATE / 0.7)).clip(0.7)
    onsets = (np.cumsum(seconds) * waves.RATE).astype(np.int64)
    ecg = (5.0 * rng.standard_normal(samples)).astype(np.float32)
    waves.add_events(ecg, onsets, beat.astype(np.float32))
    return ecg


def simulate_breath(rng: np.random.Generator, weights: Floats) -> Signal32:
    """Simulate the oro-nasal thermistor: (seconds,) float32 without a unit, at 1 Hz."""
    irregular = weights @ np.array([0.10, 0.06, 0.04, 0.02, 0.02, 0.09])
    per_second = np.repeat(irregular, SECONDS)
    hertz = 0.25 * np.exp(per_second * rng.standard_normal(len(per_second)))
    size = 450.0 * np.exp(0.5 * per_second * rng.standard_normal(len(per_second)))
    noise = 25.0 * rng.standard_normal(len(per_second))
    return (size * np.sin(2 * np.pi * np.cumsum(hertz)) + noise).astype(np.float32)


def simulate_temperature(rng: np.random.Generator, codes: npt.NDArray[np.int8]) -> Signal32:
    """Simulate rectal temperature, lower in sleep: (seconds,) float32, degrees Celsius, at 1 Hz."""
    from scipy import ndimage

    asleep = ndimage.gaussian_filter1d((codes != 0).astype(float), 60.0, mode="nearest")
    slow = np.interp(
        np.arange(len(codes) * SECONDS) / SECONDS, np.arange(len(codes)), 37.25 - 0.6 * asleep
    )
    slow += rng.normal(0.0, 0.1) + 0.01 * rng.standard_normal(len(slow))
    return np.asarray(slow, np.float32)


def simulate_marker(rng: np.random.Generator, seconds: int) -> Signal32:
    """Simulate the event marker, a noisy level with 2-s presses: (seconds,) float32, at 1 Hz."""
    level = 900.0 + 25.0 * rng.standard_normal(seconds)
    for press in rng.integers(0, max(1, seconds - 2), rng.poisson(2)).tolist():
        level[press : press + 2] = 140.0
    return level.astype(np.float32)
