"""Simulated sleep architecture: the true stage of each 30-s epoch of a human night.

A semi-Markov walk within NREM-REM cycles, deep sleep early and REM late. The constants were
estimated from the 39 scored nights of 20 subjects of Sleep-EDF Expanded (Sleep Cassette;
Kemp et al. 2000, ODC-By 1.0); no data of that set are included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]
"""Rechtschaffen & Kales codes per epoch: 0 wake, 1-4 the NREM stages, 5 REM."""

WAKE, S1, S2, S3, S4, REM = range(6)
HUMAN_OF_CODE: Final = np.array([0, 1, 2, 3, 3, 4], np.int8)
"""Code to index into `stages.HUMAN_STAGES`."""

EPOCHS_PER_HOUR: Final = 120

# Measured on the 39 nights, first to last epoch of sleep; simulated nights are compared to them.
REAL_SHARES: Final = {"W": 0.096, "N1": 0.075, "N2": 0.473, "N3": 0.152, "REM": 0.205}
REAL_BOUTS: Final = {"W": 7.4, "N1": 2.85, "N2": 10.96, "N3": 6.93, "REM": 19.4}
"""Mean number of epochs of an unbroken bout."""
REAL_DEEP_BY_HOUR: Final = (0.285, 0.258, 0.227, 0.156, 0.089, 0.073, 0.074, 0.038)
REAL_REM_BY_HOUR: Final = (0.013, 0.157, 0.194, 0.220, 0.237, 0.274, 0.272, 0.283)

RECORDING_EPOCHS: Final = (2600, 2800)  # a whole recording, about 22 h
SLEEP_EPOCHS: Final = (908.0, 0.17)  # median and log spread of the sleep period
CYCLE_EPOCHS: Final = 190.0  # median distance between starts of REM episodes
MARGIN: Final = 0.05  # least share of wake before and after sleep in a short recording

# Bouts of true stages in epochs: mean and standard deviation of the logarithm. Longer than scored
# bouts, because a scorer breaks bouts up.
BOUTS: Final = {
    WAKE: (1.45, 1.15),
    S1: (1.15, 0.65),
    S2: (2.55, 0.90),
    S3: (1.30, 0.60),
    S4: (1.80, 0.70),
    REM: (3.75, 0.80),
}
DEEP_BY_HOUR: Final = (3.0, 3.4)  # deep pressure at sleep onset, and its time constant in hours
DEEP_PHASE: Final = (0.1, 0.9)  # range of the NREM part of a cycle
OPENING_PARTS: Final = 6  # a bout while falling asleep takes at most a sixth of the first NREM
# After the scored transitions of ten of the nights: W to N2 is rare, REM ends in wake or N1.
AFTER_REM: Final = {WAKE: 0.35, S1: 0.40, S2: 0.25}  # what follows an episode of REM
AFTER_WAKE: Final = {S1: 0.4, REM: 0.6}  # what follows wake within such an episode
REM_SHARE: Final = (0.12, 0.23, 0.25, 0.27, 0.28)  # share of a cycle spent in its REM episode


@dataclass(frozen=True)
class Habits:
    """How a subject sleeps: factors around 1 on the probabilities of the walk.

    Parameters
    ----------
    deep
        Factor on the pressure for stages 3 and 4.
    restless
        Factor on the probability and length of awakenings.
    light
        Factor on the probability and length of stage 1.
    rem
        Factor on the share of REM.
    """

    deep: float = 1.0
    restless: float = 1.0
    light: float = 1.0
    rem: float = 1.0


def recording_epochs(rng: np.random.Generator, hours: float | None) -> int:
    """Return the length of a recording in epochs: `hours`, or a drawn one of about 22 h."""
    if hours is not None:
        return max(1, round(hours * EPOCHS_PER_HOUR))
    return int(rng.integers(*RECORDING_EPOCHS))


def simulate_codes(rng: np.random.Generator, epochs: int, habits: Habits) -> Codes:
    """Draw the true stages of one recording: wake, a night of sleep in cycles, wake.

    Parameters
    ----------
    rng
        Random generator.
    epochs
        Length of the recording in 30-s epochs. Below about 8 h the wake before and after sleep
        shrinks to `MARGIN`, and below about 3 h the cycles shrink, so that every stage occurs.
    habits
        How the subject sleeps.

    Returns
    -------
    codes
        (epochs,) int8, Rechtschaffen & Kales codes.
    """
    margin = max(1, round(MARGIN * epochs))
    median, spread = SLEEP_EPOCHS
    sleep = int(min(median * np.exp(spread * rng.standard_normal()), epochs - 2 * margin))
    share = float(np.clip(rng.normal(0.5, 0.1), 0.2, 0.8))
    before = margin + round((epochs - 2 * margin - sleep) * share)
    codes = np.zeros(epochs, np.int8)
    codes[before : before + sleep] = _sleep(rng, sleep, habits)
    return codes


def _sleep(rng: np.random.Generator, epochs: int, habits: Habits) -> Codes:
    """Draw the sleep period, cycle after cycle: (epochs,) int8."""
    cycles = max(1, round(epochs / CYCLE_EPOCHS))
    lengths = np.exp(0.28 * rng.standard_normal(cycles))
    edges = np.rint(np.cumsum(lengths / lengths.sum()) * epochs).astype(int)
    scale = min(1.0, epochs / cycles / CYCLE_EPOCHS)
    codes: list[int] = []
    for cycle, stop in enumerate(edges):
        length = int(stop) - len(codes)
        hour = len(codes) / EPOCHS_PER_HOUR
        share = REM_SHARE[min(cycle, len(REM_SHARE) - 1)] if cycles > 1 else 0.22
        share *= habits.rem * float(np.exp(0.25 * rng.standard_normal()))
        rem = round(length * min(0.6, share))
        pressure = habits.deep * DEEP_BY_HOUR[0] * float(np.exp(-hour / DEEP_BY_HOUR[1]))
        codes += _nrem(rng, length - rem, pressure, habits, scale, first=cycle == 0)
        codes += _rem(rng, rem, habits, scale)
    return np.array(codes, np.int8)


def _nrem(
    rng: np.random.Generator,
    epochs: int,
    pressure: float,
    habits: Habits,
    scale: float,
    *,
    first: bool,
) -> list[int]:
    """Draw the NREM part of a cycle; the first one passes through the stages in order."""
    opening = _falling_asleep(rng, habits, scale) if first else [_draw(rng, AFTER_REM)]
    walk: list[int] = []
    state = WAKE
    while len(walk) < epochs:
        phase = len(walk) / epochs
        state = opening.pop(0) if opening else _next_nrem(rng, state, phase, pressure, habits)
        longest = max(3, epochs // OPENING_PARTS) if opening else epochs
        walk += [state] * min(longest, _bout(rng, state, habits, scale))
    return walk[:epochs]


def _falling_asleep(rng: np.random.Generator, habits: Habits, scale: float) -> list[int]:
    """Draw the stages from wake to the first deep sleep, in long nights with false starts."""
    if scale < 1.0:
        return [S1, S2, S3, S4]
    starts = int(rng.poisson(1.6 * habits.restless))
    dozes = int(rng.poisson(1.2 * habits.light))
    return [S1, WAKE] * starts + [S1, S2] * (1 + dozes) + [S3, S4]


def _next_nrem(
    rng: np.random.Generator, state: int, phase: float, pressure: float, habits: Habits
) -> int:
    """Draw the stage after a bout; deep sleep lies in the middle of a cycle."""
    deep = pressure * (1.0 if DEEP_PHASE[0] < phase < DEEP_PHASE[1] else 0.15)
    wake, light = 0.20 * habits.restless, 0.30 * habits.light
    chances: Mapping[int, Mapping[int, float]] = {
        WAKE: {S1: 0.98, S2: 0.02},
        S1: {S2: 0.82, WAKE: 0.16 * habits.restless},
        S2: {S3: deep, S1: light, WAKE: wake},
        S3: {S4: 0.62 * min(1.3, deep), S2: 1.0, WAKE: 0.02 * habits.restless, S1: 0.02},
        S4: {S3: 0.55, S2: 0.39, WAKE: 0.03, S1: 0.02},
    }
    return _draw(rng, chances[state])


def _rem(rng: np.random.Generator, epochs: int, habits: Habits, scale: float) -> list[int]:
    """Draw the REM part of a cycle: REM, interrupted by short bouts of stage 1, 2 and wake."""
    walk: list[int] = []
    state = S1
    while len(walk) < epochs:
        breaks = {S1: 0.40 * habits.light, WAKE: 0.35 * habits.restless, S2: 0.06}
        state = _draw(rng, {REM: breaks, WAKE: AFTER_WAKE}.get(state, {REM: 1.0}))
        length = _bout(rng, state, habits, scale)
        walk += [state] * (length if state == REM else min(length, 8))
    return walk[:epochs]


def _bout(rng: np.random.Generator, state: int, habits: Habits, scale: float) -> int:
    """Draw the length of a bout, at least one epoch."""
    mean, spread = BOUTS[state]
    factor = {WAKE: habits.restless, S1: habits.light, S4: habits.deep}.get(state, 1.0)
    return max(1, round(scale * factor * float(np.exp(mean + spread * rng.standard_normal()))))


def _draw(rng: np.random.Generator, chances: Mapping[int, float]) -> int:
    """Draw a key by its unnormalised probability."""
    weights = np.fromiter(chances.values(), float)
    return int(rng.choice(list(chances), p=weights / weights.sum()))
