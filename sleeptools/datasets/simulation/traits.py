"""Traits of simulated subjects: how they sleep, and the amplitudes and rates of their signals.

Levels of the EEG's rhythms and their spreads are in `calibration`; the size of a single wave is
given with its shape in `eeg` and `body`. Rates and the spreads here were chosen on seeds 100 and
303 so that, on other seeds, YASA stages the nights about as well as real ones and a network
improves with more training subjects (benches/judge_yasa.py, benches/learning_gap.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sleeptools.datasets.simulation.architecture import Habits
from sleeptools.datasets.simulation.calibration import Calibration
from sleeptools.datasets.simulation.waves import Floats

EYES_OPEN: Final = np.array([1.0, 1.2, 1.0, 0.5, 1.2, 1.2, 1.2])  # factor on wake's rhythms
EYES_CLOSED_ASLEEP, EYES_CLOSED_DAY = 0.65, 0.25  # share of wake with eyes closed

# Number of events per epoch, by code: wake, 1, 2, 3, 4, REM.
SPINDLES: Final = np.array([0.0, 0.15, 3.0, 0.9, 0.3, 0.0])
K_COMPLEXES: Final = np.array([0.0, 0.1, 0.9, 0.4, 0.0, 0.0])
AROUSALS: Final = np.array(
    [0.0, 0.35, 0.03, 0.02, 0.02, 0.02]
)  # stage 1: after its upper tail in ten real nights
SAWTOOTHS: Final = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5])
SACCADES: Final = np.array([4.0, 1.0, 0.3, 0.2, 0.2, 7.0])  # wake: eyes closed
SACCADES_OPEN, BLINKS_OPEN, BLINKS_CLOSED = 28.0, 8.0, 0.5
ROLLING: Final = np.array(
    [0.9, 5.0, 0.15, 0.0, 0.0, 0.1]
)  # slow eye movements, of sleep onset; YASA looks for them
TWITCHES: Final = np.array([1.5, 0.3, 0.1, 0.05, 0.05, 0.8])
MUSCLE_UV: Final = np.array([3.2, 2.1, 1.7, 1.5, 1.4, 0.8])  # tone, envelope
EOG_FLOOR_UV: Final = np.array([9.0, 3.0, 2.5, 2.0, 2.0, 2.5])  # muscle and electrodes, 0.5-49.5 Hz
ACTIVE_MUSCLE: Final = 1.3  # factor with eyes open

# Standard deviations of the logarithm; `calibration` has those of the rhythms.
SPREAD_OVERALL, SPREAD_MUSCLE, SPREAD_EVENTS, SPREAD_NOISE = 0.10, 0.22, 0.40, 0.15
SPREAD_STAGE: Final = 0.15  # a subject's rhythm in one stage
SPREAD_HABITS: Final = (0.35, 0.35, 0.30, 0.15)

FRONTAL, POSTERIOR, CENTRAL = range(3)
CENTRAL_GAIN: Final = np.ones((6, 7))  # (codes, rhythms) of leads to the other mastoid
CENTRAL_GAIN[0, 3] = 1.35  # which lies near the alpha of wake; and stage 1 is largest at the vertex
CENTRAL_GAIN[1, :3] = 1.7, 1.7, 1.8  # no such lead was fitted to: chosen so that YASA sees stage 1
_OCTAVES: Final = np.array([0.5, 0.0, 1.0, 2.0, 3.0, 4.0, -1.0])  # place of a rhythm
ALIKE: Final = 0.8  # correlation of a subject's deviations in rhythms an octave apart


@dataclass(frozen=True)
class Traits:
    """The traits of one simulated person.

    Parameters
    ----------
    age, female
        Age in years and sex, for the file's header.
    habits
        How the subject sleeps.
    levels_uv
        (3 regions, 6 codes, 7 rhythms) root mean square, uV.
    overall
        Factor on all EEG, in `levels_uv` already.
    slope
        Exponent of the background's power spectrum, f to the power of -slope.
    alpha_hz, spindle_hz, theta_hz
        Peak frequencies, Hz.
    noise_uv
        (3 regions,) white noise of the electrodes, uV.
    spindles, k_complexes, blinks, eyes
        Factors on the number of spindles and K-complexes and the size of blinks and eye movements.
    muscle, atonia
        Factor on muscle tone, and its factor in REM.
    muscle_floor
        Lowest value of the 1-Hz muscle signal, uV.
    """

    age: int
    female: bool
    habits: Habits
    levels_uv: Floats
    overall: float
    slope: float
    alpha_hz: float
    spindle_hz: float
    theta_hz: float
    noise_uv: Floats
    spindles: float
    k_complexes: float
    blinks: float
    eyes: float
    muscle: float
    atonia: float
    muscle_floor: float


def with_central(values: Floats) -> Floats:
    """Add the central region, half-way between the frontal and the posterior: (3, ...).

    Where there are codes, (2, codes, rhythms), it is in wake as the posterior one: the frontal
    lead's slow waves are then those of the eyes.
    """
    central = values.mean(0, keepdims=True)
    if values.ndim == 3:  # noqa: PLR2004 - regions, codes, rhythms
        central[:, 0] = values[POSTERIOR, 0]
    return np.concatenate([values, central])


def deviations(rng: np.random.Generator, *size: int) -> Floats:
    """Draw deviations of unit variance, alike in neighbouring rhythms: (*size, rhythms)."""
    apart = np.abs(_OCTAVES[:, None] - _OCTAVES)
    mixed: Floats = rng.standard_normal((*size, len(_OCTAVES))) @ np.linalg.cholesky(ALIKE**apart).T
    return mixed


def draw_traits(rng: np.random.Generator, calibration: Calibration) -> Traits:
    """Draw the traits of a person, around the levels of a calibration."""

    def around(spread: float, size: int | tuple[int, ...] | None = None) -> Floats:
        return np.exp(spread * np.asarray(rng.standard_normal(size)))

    overall = float(around(SPREAD_OVERALL))
    spread = with_central(calibration.subject_spread) * deviations(rng, 3)
    levels = with_central(np.log(calibration.levels_uv)) + spread[:, None]
    levels[CENTRAL] += np.log(CENTRAL_GAIN)
    levels += SPREAD_STAGE * rng.standard_normal(levels.shape)
    return Traits(
        age=int(rng.integers(25, 35)),
        female=bool(rng.integers(2)),
        habits=Habits(*np.exp(np.array(SPREAD_HABITS) * rng.standard_normal(4)).tolist()),
        levels_uv=overall * np.exp(levels),
        overall=overall,
        slope=float(np.clip(rng.normal(calibration.background_slope, 0.15), 0.8, 3.0)),
        alpha_hz=float(np.clip(rng.normal(9.9, 0.8), 8.2, 11.8)),
        spindle_hz=float(np.clip(rng.normal(13.1, 0.6), 11.8, 14.6)),
        theta_hz=float(np.clip(rng.normal(5.6, 0.5), 4.6, 6.8)),
        noise_uv=with_central(calibration.noise_uv) * around(SPREAD_NOISE, 3),
        spindles=float(around(SPREAD_EVENTS)),
        k_complexes=float(around(SPREAD_EVENTS)),
        blinks=float(around(0.22)),
        eyes=float(around(0.22)),
        muscle=float(around(SPREAD_MUSCLE)),
        atonia=float(around(0.25)),
        muscle_floor=float(rng.uniform(0.0, 0.6)),
    )
