"""Simulated EEG and neck EMG of a mouse, in frames of 2 s every second.

A rate need not be a whole number: a frame begins every `round(rate)` samples, and takes the stage
of the time that this is, so that nothing drifts over a day.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sleeptools.datasets.simulation import waves
from sleeptools.datasets.simulation.mouse.architecture import NREM, WAKE, Codes
from sleeptools.datasets.simulation.mouse.traits import (
    ACTIVE_MUSCLE,
    ACTIVE_UV,
    BURSTS,
    DELTA,
    MUSCLE_UV,
    SPREAD_FRAME,
    SPREAD_NIGHT,
    SPREAD_SLOW,
    STAGE_UV,
    MouseTraits,
)
from sleeptools.datasets.simulation.waves import Floats, Framing, Signal32

GAMMA_HZ: Final = (30.0, 80.0)
MUSCLE_HZ: Final = (25.0, 240.0)  # up to what the rate allows
STEPS_PER_SECOND: Final = 32  # of the EMG's envelope
MINUTE: Final = 60
ACTIVITY_SECONDS: Final = 15.0  # time constant of activity in wake
NEED_RISES, NEED_FALLS = 8 * 60.0, 2.5 * 60.0  # min; time constants of the need for sleep
NEED_AT_FIRST, USUAL_NEED = 0.6, 0.45  # when the light goes on, and over the day
ARTEFACTS: Final = {"EEG": (350.0, 0.05), "EMG": (250.0, 0.004)}  # uV, and smoothness in s
Span = tuple[int, int]


def framing_of(rate: float) -> Framing:
    """Return frames of 2 s every second for a sample rate in Hz."""
    return Framing(rate, round(rate))


def stage_weights(codes: Codes, frames: int, framing: Framing) -> Floats:
    """Return the share of each stage in each frame, half of it from each second: (frames, 3)."""
    second = np.arange(frames) * framing.hop / framing.rate
    after = np.clip(np.floor(second + 0.5), 0, len(codes) - 1).astype(int)
    before = np.maximum(after - 1, 0)
    shares: Floats = 0.5 * (np.eye(3)[codes[before]] + np.eye(3)[codes[after]])
    return shares


def activity(rng: np.random.Generator, frames: int) -> Floats:
    """Draw how active the mouse would be if awake: (frames,), mean 0, standard deviation 1."""
    from scipy import signal

    keep = np.exp(-1.0 / ACTIVITY_SECONDS)
    drive = np.sqrt(1 - keep**2) * rng.standard_normal(frames)
    return np.asarray(signal.lfilter([1.0], [1.0, -keep], drive))


def sleep_need(weights: Floats) -> Floats:
    """Return the need for sleep relative to its usual size: (frames,).

    It rises in wake and REM and falls in NREM, whose slow waves follow it (the two-process model;
    of mice, Franken et al. 2001, J Neurosci 21:2610).
    """
    minutes = np.add.reduceat(weights[:, NREM], np.arange(0, len(weights), MINUTE)) / MINUTE
    need, along = NEED_AT_FIRST, []
    for asleep in minutes.tolist():
        along.append(need)
        need += (1 - asleep) * (1 - need) / NEED_RISES - asleep * need / NEED_FALLS
    return np.interp(np.arange(len(weights)) / MINUTE, np.arange(len(along)), along) / USUAL_NEED


def simulate_eeg(
    rng: np.random.Generator, weights: Floats, active: Floats, traits: MouseTraits, framing: Framing
) -> Signal32:
    """Simulate the EEG: ((frames - 1) * hop,) float32, uV."""
    frames = len(weights)
    level = weights @ np.log(STAGE_UV * traits.rhythms)
    level += (weights[:, WAKE] * active)[:, None] * np.log(ACTIVE_UV)
    level[:, DELTA] += 0.5 * np.log(sleep_need(weights))  # power is proportional to it
    level += SPREAD_NIGHT * rng.standard_normal(5)
    minutes = SPREAD_SLOW * rng.standard_normal((frames // MINUTE + 2, 5))
    minute = np.arange(frames) / MINUTE
    level += np.stack([np.interp(minute, np.arange(len(minutes)), m) for m in minutes.T], 1)
    level += SPREAD_FRAME * rng.standard_normal(level.shape)
    white = np.full((frames, 1), traits.noise_uv[0] ** 2)
    power = np.concatenate([np.exp(2 * level), white], axis=1)
    return waves.noise(rng, power, _eeg_shapes(traits, framing), framing)


def _eeg_shapes(traits: MouseTraits, framing: Framing) -> Floats:
    """Power spectrum of every rhythm and of electrode noise: (6, bins)."""
    f = np.maximum(framing.frequencies, 0.5)
    return np.stack(
        [
            waves.normalised(f**-traits.slope, framing),
            waves.peak(traits.delta_hz, 0.9, framing),
            waves.peak(traits.theta_hz, 0.7, framing),
            waves.peak(11.5, 1.8, framing),
            waves.band(*GAMMA_HZ, framing),
            waves.band(0.5, framing.rate / 2, framing),
        ]
    )


def simulate_emg(
    rng: np.random.Generator, weights: Floats, active: Floats, traits: MouseTraits, framing: Framing
) -> Signal32:
    """Simulate the EMG: ((frames - 1) * hop,) float32, uV; bursts in wake, twitches in REM."""
    stage = np.log(MUSCLE_UV * traits.muscle)
    stage[2] += np.log(traits.atonia)
    level = weights @ stage + weights[:, WAKE] * active * np.log(ACTIVE_MUSCLE)
    level += 0.15 * rng.standard_normal(len(level))
    steps = (len(weights) - 1) * STEPS_PER_SECOND
    tone = np.interp(np.arange(steps) / STEPS_PER_SECOND, np.arange(len(level)), level)
    envelope = np.exp(tone) * _bursts(rng, weights, steps)
    muscle = waves.band(MUSCLE_HZ[0], min(MUSCLE_HZ[1], 0.47 * framing.rate), framing)
    emg = waves.noise(rng, np.ones((len(weights), 1)), muscle[None], framing)
    edges = np.linspace(0, framing.hop, STEPS_PER_SECOND + 1).round().astype(int)
    second = emg.reshape(-1, framing.hop)
    second *= np.repeat(
        envelope.astype(np.float32).reshape(-1, STEPS_PER_SECOND), np.diff(edges), axis=1
    )
    emg += np.float32(traits.noise_uv[1]) * rng.standard_normal(len(emg), dtype=np.float32)
    return emg


def _bursts(rng: np.random.Generator, weights: Floats, steps: int) -> Floats:
    """Draw phasic bursts of 0.1 to 0.6 s: factor on the envelope, (steps,)."""
    counts = rng.poisson(weights[:-1] @ BURSTS)
    second = np.repeat(np.arange(len(counts)), counts)
    onsets = ((second + rng.random(len(second))) * STEPS_PER_SECOND).astype(np.int64)
    t = np.arange(round(0.6 * STEPS_PER_SECOND))
    length = rng.uniform(0.1, 0.6, (len(onsets), 1)) * STEPS_PER_SECOND
    shapes = np.where(t < length, np.sin(np.pi * (t + 0.5) / length), 0.0)
    shapes *= rng.gamma(2.0, 0.8, (len(onsets), 1))
    factor = np.ones(steps, np.float32)
    waves.add_events(factor, np.sort(onsets), shapes.astype(np.float32))
    return np.asarray(factor, np.float64)


def add_artefacts(
    rng: np.random.Generator, signals: dict[str, Signal32], spans: list[Span], rate: float
) -> None:
    """Add the artefacts of a mouse that scratches or shakes to EEG and EMG, in place.

    Parameters
    ----------
    rng
        Random generator.
    signals
        EEG and EMG by name: (samples,) float32, uV.
    spans
        First second and last second, exclusive, of each artefact.
    rate
        Sample rate, Hz.
    """
    from scipy import ndimage

    for start, stop in spans:
        first, last = (int(np.ceil(s * rate)) for s in (start, stop))
        for name, signal in signals.items():
            size, smooth = ARTEFACTS[name]
            stretch = signal[first:last]
            sway = ndimage.gaussian_filter1d(rng.standard_normal(len(stretch)), smooth * rate)
            stretch += (size * sway / sway.std() * np.hanning(len(stretch))).astype(np.float32)
