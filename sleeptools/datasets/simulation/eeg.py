"""Simulated EEG of a human night: rhythms by stage, spindles and other single waves, arousals.

Levels are in `calibration`, rates in `traits`; the shapes follow the AASM manual's definitions
(spindle 0.5-1.5 s, K-complex at least 0.5 s, sawtooth 2-6 Hz, arousal at least 3 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from sleeptools.datasets.simulation import body, waves
from sleeptools.datasets.simulation.calibration import RHYTHMS, Calibration
from sleeptools.datasets.simulation.traits import (
    AROUSALS,
    CENTRAL,
    EYES_OPEN,
    FRONTAL,
    K_COMPLEXES,
    POSTERIOR,
    SAWTOOTHS,
    SPINDLES,
    Traits,
    deviations,
    with_central,
)
from sleeptools.datasets.simulation.waves import Floats, Signal32, Spectra

SHARED: Final = 0.6  # fraction of the EEG's power that all leads have in common
BLUR: Final = (0.12, 0.76, 0.12)  # how far an epoch resembles those before and after it
REGIONAL: Final = 0.4  # fraction of the variance between epochs that a region has alone
MUSCLE: Final = RHYTHMS.index("muscle")
MUSCLE_HZ: Final = 14.0  # from where on scalp muscle is as strong as above
AROUSAL_SPREAD: Final = 0.7  # log standard deviation of the size of an arousal
DRIFT_HZ: Final = 0.2  # width of slow potentials: sweat, electrodes, breath, eyes
SPREAD_FRAME: Final = 0.30  # log standard deviation of a rhythm within an epoch
SPREAD_ELECTRODE: Final = 0.06  # and of a lead's gain from night to night
EVENT_GAIN: Final = {
    "EEG Fpz-Cz": (1.0, 1.0),
    "EEG Pz-Oz": (0.65, 0.35),
    "EEG C4-M1": (1.2, 0.9),
    "EEG C3-M2": (1.2, 0.9),
    "EEG F3-M2": (1.1, 1.1),
    "EEG F4-M1": (1.1, 1.1),
    "EEG O1-M2": (0.6, 0.5),
    "EEG O2-M1": (0.6, 0.5),
}
"""Factors on spindles and on K-complexes."""
REGION: Final = {
    "Fpz": FRONTAL,
    "F3": FRONTAL,
    "F4": FRONTAL,
    "C3": CENTRAL,
    "C4": CENTRAL,
    "Pz": POSTERIOR,
    "O1": POSTERIOR,
    "O2": POSTERIOR,
}
"""Where the first electrode of a lead sits, which decides its share of every rhythm."""
LEADS: Final = tuple(EVENT_GAIN)


class Place(NamedTuple):
    """What a lead sees.

    Parameters
    ----------
    frontal, posterior, central
        Share of each region in its power; they add up to 1.
    spindles, k_complexes
        Factors on these, of `EVENT_GAIN`.
    blinks, movements
        Share of the eyes, of `body.EYES_IN_EEG`.
    muscle
        Factor on the scalp's muscle.
    """

    frontal: float
    posterior: float
    central: float
    spindles: float
    k_complexes: float
    blinks: float
    movements: float
    muscle: float


def _place(lead: str) -> Place:
    region = REGION[lead.removeprefix("EEG ").split("-")[0]]
    shares = [float(region == r) for r in (FRONTAL, POSTERIOR, CENTRAL)]
    return Place._make([*shares, *EVENT_GAIN[lead], *body.EYES_IN_EEG[lead], 1.0])


PLACES: Final = {lead: _place(lead) for lead in LEADS}


def stage_weights(codes: np.ndarray[tuple[int], np.dtype[np.int8]]) -> Floats:
    """Blend each epoch's stage with its neighbours': (epochs, 6) share of every stage."""
    sharp = np.eye(6)[codes]
    padded = np.pad(sharp, ((1, 1), (0, 0)), mode="edge")
    return BLUR[0] * padded[:-2] + BLUR[1] * sharp + BLUR[2] * padded[2:]


def amplitudes(
    rng: np.random.Generator,
    weights: Floats,
    eyes_open: Floats,
    traits: Traits,
    calibration: Calibration,
) -> Floats:
    """Draw the amplitude of every rhythm along the night.

    Parameters
    ----------
    rng
        Random generator.
    weights
        (epochs, 6) share of every stage.
    eyes_open
        (epochs,) 0 or 1.
    traits
        The subject.
    calibration
        How nights and epochs differ.

    Returns
    -------
    amplitudes
        (3 regions, frames, 7 rhythms) uV.
    """
    night = with_central(calibration.night_spread) * deviations(rng, 3)
    level = weights @ (np.log(traits.levels_uv) + night[:, None])
    level += (weights[:, 0] * eyes_open)[:, None] * np.log(EYES_OPEN)
    spread = weights @ with_central(calibration.epoch_spread)
    share = (weights @ calibration.slow_share)[:, None]
    slow = _regional(rng, len(weights), memory=calibration.slow_memory)
    quick = _regional(rng, len(weights), memory=0.0)
    within = SPREAD_FRAME * rng.standard_normal((waves.frames_of(len(weights)), slow.shape[-1]))
    level += spread * np.sqrt(share) * slow
    sudden = spread * np.sqrt(1.0 - share) * quick
    epoch = np.minimum(np.arange(len(within)) // waves.FRAMES_PER_EPOCH, len(weights) - 1)
    frames = [waves.to_frames(level[i]) + sudden[i, epoch] + within for i in range(len(level))]
    amplitude: Floats = np.exp(np.stack(frames))
    return amplitude


def _regional(rng: np.random.Generator, epochs: int, *, memory: float) -> Floats:
    """Draw deviations of unit variance that regions share in part: (3, epochs, rhythms)."""
    from scipy import signal

    together, alone = deviations(rng, 1, epochs), deviations(rng, 3, epochs)
    steps = np.sqrt(1.0 - REGIONAL) * together + np.sqrt(REGIONAL) * alone
    steps[:, 1:] *= np.sqrt(1.0 - memory**2)
    drifting: Floats = signal.lfilter([1.0], [1.0, -memory], steps, axis=1)
    return drifting


def spectra_of(traits: Traits) -> Floats:
    """Return the power spectra of the rhythms and of electrode noise: (8, BINS)."""
    f = np.maximum(waves.FREQUENCIES, 0.25)
    return np.stack(
        [
            waves.normalised(f**-traits.slope),
            waves.normalised(1.0 / (1.0 + (f / 1.6) ** 4)),
            waves.peak(traits.theta_hz, 1.1),
            waves.peak(traits.alpha_hz, 0.8),
            waves.normalised(np.exp(-0.5 * ((f - 20.0) / 6.0) ** 2)),
            waves.normalised(1.0 / (1.0 + (MUSCLE_HZ / f) ** 4)),
            waves.drift(DRIFT_HZ),
            waves.band(0.5, 49.5),
        ]
    )


def simulate_eeg(
    rng: np.random.Generator,
    weights: Floats,
    amplitude: Floats,
    traits: Traits,
    *,
    places: Mapping[str, Place],
) -> tuple[dict[str, Signal32], Spectra]:
    """Simulate the EEG of a night.

    Parameters
    ----------
    rng
        Random generator.
    weights
        (epochs, 6) share of every stage.
    amplitude
        (3 regions, frames, 7 rhythms) uV, from `amplitudes`.
    traits
        Traits of the subject.
    places
        The leads to simulate, by name.

    Returns
    -------
    signals
        By lead: (samples,) float32, uV, 100 Hz.
    source
        (frames, BINS) spectra of unit power that the leads have in common.
    """
    frames = amplitude.shape[1]
    shapes = spectra_of(traits)
    source = waves.white(rng, frames)
    signals = {}
    for lead, place in places.items():
        regions = np.array(place[:3])
        spectra = waves.white(rng, frames)
        spectra *= np.float32(np.sqrt(1.0 - SHARED))
        spectra += np.float32(np.sqrt(SHARED)) * source
        variances = np.full((frames, len(shapes)), regions @ traits.noise_uv**2)
        seen = np.sqrt(np.tensordot(regions, amplitude**2, 1))
        seen[:, MUSCLE] *= place.muscle
        electrode = np.exp(SPREAD_ELECTRODE * rng.standard_normal())
        variances[:, :-1] = (seen * electrode) ** 2
        power = variances.astype(np.float32) @ shapes.astype(np.float32)
        signals[lead] = waves.synthesise(spectra, power)
    _add_sleep_events(rng, signals, places, weights, traits)
    return signals, source


def _add_sleep_events(
    rng: np.random.Generator,
    signals: dict[str, Signal32],
    places: Mapping[str, Place],
    weights: Floats,
    traits: Traits,
) -> None:
    """Add spindles, K-complexes, sawtooth waves and arousals to all leads at the same times."""
    spindles = waves.draw_events(rng, traits.spindles * (weights @ SPINDLES))
    spindle = _spindles(rng, len(spindles), traits)
    complexes = waves.draw_events(rng, traits.k_complexes * (weights @ K_COMPLEXES))
    k_complex = traits.overall * _k_complexes(rng, len(complexes))
    teeth = waves.draw_events(rng, weights @ SAWTOOTHS)
    sawtooth = traits.overall * _sawtooths(rng, len(teeth))
    arousals = waves.draw_events(rng, weights @ AROUSALS)
    arousal = _arousals(rng, len(arousals))
    for lead, signal in signals.items():
        on_spindle, on_k = map(np.float32, (places[lead].spindles, places[lead].k_complexes))
        waves.add_events(signal, spindles, on_spindle * spindle)
        waves.add_events(signal, complexes, on_k * k_complex)
        waves.add_events(signal, teeth, on_k * sawtooth)
        waves.add_events(signal, arousals, arousal)


def _spindles(rng: np.random.Generator, count: int, traits: Traits) -> Signal32:
    """Draw spindles: (count, 1.5 s)."""
    t = np.arange(150) / waves.RATE
    seconds = rng.uniform(0.5, 1.5, (count, 1))
    hertz = traits.spindle_hz + 0.3 * rng.standard_normal((count, 1))
    size = 14.0 * traits.overall * np.exp(0.3 * rng.standard_normal((count, 1)))
    envelope = np.where(t < seconds, np.sin(np.pi * t / seconds), 0.0)
    phase = 2 * np.pi * rng.random((count, 1))
    return (size * envelope * np.sin(2 * np.pi * hertz * t + phase)).astype(np.float32)


def _k_complexes(rng: np.random.Generator, count: int) -> Signal32:
    """Draw K-complexes: (count, 1.2 s), a sharp negative wave and a slower positive one."""
    t = np.arange(120) / waves.RATE
    wave = -np.exp(-(((t - 0.3) / 0.11) ** 2)) + 0.55 * np.exp(-(((t - 0.7) / 0.22) ** 2))
    size = 75.0 * np.exp(0.3 * rng.standard_normal((count, 1)))
    return (size * wave).astype(np.float32)


def _sawtooths(rng: np.random.Generator, count: int) -> Signal32:
    """Draw bursts of sawtooth waves: (count, 3 s) of 2.5 to 4 Hz."""
    t = np.arange(300) / waves.RATE
    hertz = rng.uniform(2.5, 4.0, (count, 1))
    size = 14.0 * np.exp(0.3 * rng.standard_normal((count, 1)))
    ramp = 2.0 * np.mod(hertz * t, 1.0) - 1.0
    return (size * np.hanning(300) * ramp).astype(np.float32)


def _arousals(rng: np.random.Generator, count: int) -> Signal32:
    """Draw the scalp muscle and the sway of short arousals: (count, 8 s).

    Sized after stage 1 of ten real nights, whose 95th percentiles at Pz-Oz are 10 (30-50 Hz), 6
    (0.5-4 Hz) and 13 dB (below 0.5 Hz) above the medians.
    """
    from scipy import signal

    t = np.arange(800) / waves.RATE
    seconds = rng.uniform(3.0, 8.0, (count, 1))
    envelope = np.where(t < seconds, np.sin(np.pi * t / seconds), 0.0)
    high = signal.butter(2, MUSCLE_HZ, "highpass", fs=waves.RATE, output="sos")
    muscle = 6.0 * signal.sosfilt(high, rng.standard_normal((count, len(t))), axis=1)
    hertz = np.exp(rng.uniform(np.log(0.2), np.log(1.5), (count, 1)))
    sway = 25.0 * np.sin(2 * np.pi * (hertz * t + rng.random((count, 1))))
    sizes = np.exp(AROUSAL_SPREAD * rng.standard_normal((2, count, 1)))
    arousals: Signal32 = (envelope * (sizes[0] * muscle + sizes[1] * sway)).astype(np.float32)
    return arousals
