"""Traits of simulated subjects: how they sleep, and the amplitudes and rates of their signals.

Amplitudes are root-mean-square microvolts at Fpz-Cz before a subject's gains; the size of a single
wave is given with its shape in `eeg` and `body`. They were chosen on seed 100 so that, on other
seeds, YASA stages the nights about as well as real ones and a network improves with more training
subjects (benches/judge_yasa.py, benches/learning_gap.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.datasets.simulation.architecture import Habits

Floats = npt.NDArray[np.float64]

RHYTHMS: Final = ("background", "delta", "theta", "alpha", "beta")
STAGE_UV: Final = np.array(
    [
        [9.0, 3.5, 2.5, 8.5, 4.0],  # wake with eyes closed
        [8.0, 5.0, 6.0, 3.2, 2.6],  # stage 1
        [9.0, 10.5, 6.0, 2.5, 1.7],  # stage 2
        [9.0, 25.0, 7.0, 2.5, 1.4],  # stage 3
        [9.0, 40.0, 7.0, 2.5, 1.3],  # stage 4
        [7.5, 5.0, 5.5, 2.1, 2.1],  # REM
    ]
)
"""(6 codes, rhythms): uV."""
EYES_OPEN: Final = np.array([1.0, 1.2, 1.0, 0.4, 1.2])  # factor on wake's rhythms
EYES_CLOSED_ASLEEP, EYES_CLOSED_DAY = 0.65, 0.25  # share of wake with eyes closed

# Number of events per epoch, by code: wake, 1, 2, 3, 4, REM.
SPINDLES: Final = np.array([0.0, 0.15, 3.0, 0.9, 0.3, 0.0])
K_COMPLEXES: Final = np.array([0.0, 0.1, 0.9, 0.4, 0.0, 0.0])
SAWTOOTHS: Final = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5])
SACCADES: Final = np.array([4.0, 1.0, 0.3, 0.2, 0.2, 7.0])  # wake: eyes closed
SACCADES_OPEN, BLINKS_OPEN, BLINKS_CLOSED = 28.0, 8.0, 0.5
ROLLING: Final = np.array([0.9, 3.5, 0.15, 0.0, 0.0, 0.1])  # slow eye movements
TWITCHES: Final = np.array([1.5, 0.3, 0.1, 0.05, 0.05, 0.8])
MUSCLE_UV: Final = np.array([3.2, 2.1, 1.7, 1.5, 1.4, 0.8])  # tone, envelope
ACTIVE_MUSCLE: Final = 1.3  # factor with eyes open

# Standard deviations of the logarithm.
SPREAD_RHYTHM, SPREAD_OVERALL, SPREAD_MUSCLE, SPREAD_EVENTS = 0.13, 0.12, 0.22, 0.22
SPREAD_STAGE: Final = 0.06  # a subject's rhythm in one stage
SPREAD_NIGHT: Final = 0.06  # electrodes put on anew
SPREAD_EPOCH: Final = 0.20  # a rhythm from epoch to epoch
SPREAD_FRAME: Final = 0.30  # and within an epoch
SPREAD_HABITS: Final = (0.35, 0.35, 0.30, 0.15)


@dataclass(frozen=True)
class Traits:
    """The traits of one simulated person.

    Parameters
    ----------
    age, female
        Age in years and sex, for the file's header.
    habits
        How the subject sleeps.
    rhythms
        (6, 5) factor on `STAGE_UV`.
    overall
        Factor on all EEG.
    slope
        Exponent of the background's power spectrum, f to the power of -slope.
    alpha_hz, spindle_hz, theta_hz
        Peak frequencies, Hz.
    noise_uv
        (3,) white noise of the electrodes at Fpz-Cz, Pz-Oz and C4-M1, uV.
    posterior, central
        (5,) factors on the rhythms at Pz-Oz and C4-M1.
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
    rhythms: Floats
    overall: float
    slope: float
    alpha_hz: float
    spindle_hz: float
    theta_hz: float
    noise_uv: Floats
    posterior: Floats
    central: Floats
    spindles: float
    k_complexes: float
    blinks: float
    eyes: float
    muscle: float
    atonia: float
    muscle_floor: float


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw the traits of a person."""

    def around(spread: float, size: int | tuple[int, ...] | None = None) -> Floats:
        return np.exp(spread * np.asarray(rng.standard_normal(size)))

    rhythms = around(SPREAD_RHYTHM, 5) * around(SPREAD_STAGE, (6, 5))
    return Traits(
        age=int(rng.integers(25, 35)),
        female=bool(rng.integers(2)),
        habits=Habits(*np.exp(np.array(SPREAD_HABITS) * rng.standard_normal(4)).tolist()),
        rhythms=rhythms,
        overall=float(around(SPREAD_OVERALL)),
        slope=float(np.clip(rng.normal(1.4, 0.15), 0.8, 2.2)),
        alpha_hz=float(np.clip(rng.normal(9.9, 0.8), 8.2, 11.8)),
        spindle_hz=float(np.clip(rng.normal(13.1, 0.6), 11.8, 14.6)),
        theta_hz=float(np.clip(rng.normal(5.6, 0.5), 4.6, 6.8)),
        noise_uv=1.2 * around(0.3, 3),
        posterior=np.array([0.75, 0.50, 0.75, 1.15, 0.75]) * around(0.11, 5),
        central=np.array([0.85, 0.85, 0.95, 0.90, 0.90]) * around(0.08, 5),
        spindles=float(around(SPREAD_EVENTS)),
        k_complexes=float(around(SPREAD_EVENTS)),
        blinks=float(around(0.22)),
        eyes=float(around(0.22)),
        muscle=float(around(SPREAD_MUSCLE)),
        atonia=float(around(0.25)),
        muscle_floor=float(rng.uniform(0.0, 0.6)),
    )
