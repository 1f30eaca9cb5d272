"""Simulated sleep architecture of a mouse: the true stage of every second of a recording.

A semi-Markov walk without a main sleep period: bouts of NREM of a few minutes broken by short
awakenings, REM only out of NREM and rarely in the evening, long wake mostly in the dark. Shares,
numbers and lengths of bouts follow what is published of C57BL/6 mice (`realism`); over 24 h 45 to
50 % wake, 42 to 47 % NREM, about 6 % REM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]
"""Stage per second, index into `stages.MOUSE_STAGES`."""

WAKE, NREM, REM = range(3)
LIGHT_SECONDS: Final = 12 * 3600  # light, then as long dark

# Bouts in seconds: median, and standard deviation of the logarithm.
BRIEF: Final = (9.0, 0.8)  # an awakening between two bouts of sleep
ACTIVE: Final = (420.0, 0.8)  # wake in the light
NREM_BOUT: Final = (84.0, 1.15)
REM_BOUT: Final = (72.0, 0.5)
SHORTEST: Final = 3  # s

# By sixths of the day, from the light's going on: light, light, light, dark, dark, dark.
PART_SECONDS: Final = 4 * 3600
MORE_ACTIVE: Final = (1.0, 1.0, 1.0, 3.0, 2.4, 2.1)  # factor on active bouts
STAY_AWAKE: Final = (0.15, 0.15, 0.15, 0.25, 0.22, 0.21)  # that an awakening becomes an active bout
TO_REM: Final = (0.30, 0.41, 0.41, 0.10, 0.31, 0.33)  # chance that NREM goes on to REM
REM_NEEDS: Final = 30  # s of NREM before it
REM_ENDS_AWAKE: Final = 0.9
LONGEST_PART: Final = 10  # a bout is at most this part of a recording: short ones show all stages


@dataclass(frozen=True)
class MouseHabits:
    """How a mouse sleeps: factors around 1.

    Parameters
    ----------
    active
        Factor on the length of active wake.
    restless
        Divisor of the length of NREM bouts.
    rem
        Factor on the probability of REM.
    """

    active: float = 1.0
    restless: float = 1.0
    rem: float = 1.0


def simulate_codes(rng: np.random.Generator, seconds: int, habits: MouseHabits) -> Codes:
    """Draw the true stages of a recording that begins when the light goes on.

    Parameters
    ----------
    rng
        Random generator.
    seconds
        Length of the recording, s.
    habits
        How the mouse sleeps.

    Returns
    -------
    codes
        (seconds,) int8 index into `stages.MOUSE`.
    """
    codes = np.empty(seconds, np.int8)
    state, second, active = WAKE, 0, True
    while second < seconds:
        part = second // PART_SECONDS % len(TO_REM)
        bout = min(_bout(rng, state, habits, part, active=active), seconds // LONGEST_PART)
        codes[second : second + bout] = state
        second += bout
        state = _next(rng, state, bout, habits, part)
        active = bool(rng.random() < STAY_AWAKE[part])
    return codes


def _bout(
    rng: np.random.Generator, state: int, habits: MouseHabits, part: int, *, active: bool
) -> int:
    """Draw the length of a bout, s."""
    median, spread = {WAKE: ACTIVE if active else BRIEF, NREM: NREM_BOUT, REM: REM_BOUT}[state]
    if state == NREM:
        median /= habits.restless
    elif state == WAKE and active:
        median *= habits.active * MORE_ACTIVE[part]
    return max(SHORTEST, round(median * float(np.exp(spread * rng.standard_normal()))))


def _next(rng: np.random.Generator, state: int, bout: int, habits: MouseHabits, part: int) -> int:
    """Draw the stage after a bout."""
    chance = float(rng.random())
    if state == WAKE:
        return NREM
    if state == REM:
        return WAKE if chance < REM_ENDS_AWAKE else NREM
    return REM if bout >= REM_NEEDS and chance < habits.rem * TO_REM[part] else WAKE


def majority(codes: Codes, epoch_seconds: int) -> Codes:
    """Return the most frequent stage of the seconds of each complete epoch: (epochs,)."""
    epochs = len(codes) // epoch_seconds
    per_epoch = codes[: epochs * epoch_seconds].reshape(epochs, epoch_seconds)
    counts = np.stack([(per_epoch == stage).sum(1) for stage in range(3)], axis=1)
    stages: Codes = counts.argmax(1).astype(np.int8)
    return stages
