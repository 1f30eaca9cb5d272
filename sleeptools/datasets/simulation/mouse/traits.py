"""Traits of simulated mice: how they sleep, and the amplitudes of their EEG and EMG.

Amplitudes are root-mean-square microvolts of a frontal-parietal screw electrode pair and of neck
muscle wires, before an animal's own factors: slow waves of 1 to 4 Hz in NREM, a theta rhythm of 6
to 9 Hz in REM and weaker in active wake, low-voltage mixed activity otherwise (Franken et al.
1998, Am J Physiol 275:R1127).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sleeptools.datasets.simulation.mouse.architecture import MouseHabits
from sleeptools.datasets.simulation.randomisation import Randomisation
from sleeptools.datasets.simulation.waves import Floats

RHYTHMS: Final = ("background", "delta", "theta", "sigma", "gamma")
DELTA: Final = RHYTHMS.index("delta")
STAGE_UV: Final = np.array(
    [
        [22.0, 9.0, 15.0, 12.0, 10.0],  # wake
        [34.0, 44.0, 26.0, 29.0, 8.0],  # NREM
        [15.0, 8.0, 28.0, 12.0, 8.0],  # REM
    ]
)
"""(stages, rhythms): uV."""
ACTIVE_UV: Final = np.array([1.05, 0.8, 1.5, 1.0, 1.2])
"""(rhythms,): factor for each unit of activity on the logarithm, in wake."""
MUSCLE_UV: Final = np.array([45.0, 11.0, 6.5])  # tone, by stage
ACTIVE_MUSCLE: Final = 2.0  # factor for each unit of activity, in wake
BURSTS: Final = np.array([0.35, 0.015, 0.12])  # phasic bursts and twitches a second, by stage

# Standard deviations of the logarithm.
SPREAD_OVERALL, SPREAD_RHYTHM, SPREAD_STAGE, SPREAD_MUSCLE = 0.20, 0.12, 0.06, 0.25
SPREAD_NIGHT: Final = 0.05
SPREAD_SLOW: Final = 0.18  # a rhythm from minute to minute
SPREAD_FRAME: Final = 0.28  # and from second to second
SPREAD_HABITS: Final = (0.15, 0.15, 0.12)


@dataclass(frozen=True)
class MouseTraits:
    """The traits of one simulated mouse.

    Parameters
    ----------
    habits
        How it sleeps.
    rhythms
        (stages, rhythms) factor on `STAGE_UV`.
    slope
        Exponent of the background's power spectrum, f to the power of -slope.
    delta_hz, theta_hz
        Peak frequencies, Hz.
    noise_uv
        White noise of the EEG and the EMG electrodes, uV.
    muscle, atonia
        Factor on muscle tone, and a further one in REM.
    """

    habits: MouseHabits
    rhythms: Floats
    slope: float
    delta_hz: float
    theta_hz: float
    noise_uv: tuple[float, float]
    muscle: float
    atonia: float


def draw_traits(rng: np.random.Generator) -> MouseTraits:
    """Draw the traits of a mouse."""

    def around(spread: float, size: int | tuple[int, ...] | None = None) -> Floats:
        return np.exp(spread * np.asarray(rng.standard_normal(size)))

    rhythms = around(SPREAD_OVERALL) * around(SPREAD_RHYTHM, 5) * around(SPREAD_STAGE, (3, 5))
    return MouseTraits(
        habits=MouseHabits(*np.exp(np.array(SPREAD_HABITS) * rng.standard_normal(3)).tolist()),
        rhythms=rhythms,
        slope=float(np.clip(rng.normal(1.0, 0.12), 0.7, 1.4)),
        delta_hz=float(np.clip(rng.normal(2.4, 0.25), 1.8, 3.2)),
        theta_hz=float(np.clip(rng.normal(7.2, 0.35), 6.2, 8.2)),
        noise_uv=(2.0 * float(around(0.3)), 2.5 * float(around(0.3))),
        muscle=float(around(SPREAD_MUSCLE)),
        atonia=float(around(0.15)),
    )


def randomised(traits: MouseTraits, drawn: Randomisation) -> MouseTraits:
    """Return a mouse's traits as a randomised recording has them; how it sleeps stays."""
    eeg_uv, emg_uv = traits.noise_uv
    return replace(
        traits,
        rhythms=drawn.gain * traits.rhythms * drawn.rhythms[: len(RHYTHMS)],
        slope=traits.slope + drawn.slope,
        noise_uv=(drawn.noise * eeg_uv, drawn.noise * emg_uv),
        muscle=drawn.muscle * traits.muscle,
        atonia=drawn.atonia * traits.atonia,
    )
