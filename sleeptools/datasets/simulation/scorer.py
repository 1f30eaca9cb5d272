"""The simulated human scorer, whose scoring deviates from the true stages of a night.

Two scorers agree at a Cohen kappa of about 0.76 to 0.8 and least on N1 (Danker-Hopfe et al. 2009,
J Sleep Res 18:74; Rosenberg & Van Hout 2013, J Clin Sleep Med 9:81); each agrees better with the
truth. They differ on where a bout begins and, for short runs, between neighbouring stages: W-N1,
N1-N2, N2-N3, N1-REM. How often each, follows how well one epoch's spectrum tells two stages apart
in ten real nights (area under the curve: N1-N2 0.95, N2-N3 0.95, W-N1 0.87, N1-REM 0.77).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sleeptools.datasets.simulation.architecture import (
    HUMAN_OF_CODE,
    REM,
    S1,
    S2,
    S3,
    S4,
    WAKE,
    Codes,
)
from sleeptools.recording.hypnogram import Event, Hypnogram
from sleeptools.recording.stages import MOVEMENT, SCORED, UNKNOWN, UNSCORED

EPOCH_SECONDS: Final = 30.0
UNKNOWN_CODE, MOVEMENT_CODE = 6, 7
TEXTS: Final = (
    "Sleep stage W",
    "Sleep stage 1",
    "Sleep stage 2",
    "Sleep stage 3",
    "Sleep stage 4",
    "Sleep stage R",
    "Sleep stage ?",
    "Movement time",
)
"""Annotation text per written code."""

# Standard deviation of where a bout is scored to begin, in epochs, by the stages that it separates.
BOUNDARY_SPREAD: Final = 1.6  # of all others
BOUNDARIES: Final = {
    (WAKE, S1): 0.9,
    (WAKE, S2): 0.7,
    (WAKE, REM): 0.7,
    (S1, S2): 1.0,
    (S2, S3): 0.9,
    (S1, REM): 1.6,
}

# Probability per epoch that a run scored as another stage begins.
SLIPS: Final = {
    WAKE: {S1: 0.025},
    S1: {WAKE: 0.03, S2: 0.05, REM: 0.03},
    S2: {S1: 0.007, S3: 0.007, REM: 0.001},
    S3: {S2: 0.03, S4: 0.10},
    S4: {S3: 0.10, S2: 0.006},
    REM: {S1: 0.010, S2: 0.001, WAKE: 0.002},
}
SLIP_LENGTHS: Final = ((1, 2, 3, 5), (0.45, 0.25, 0.15, 0.15))
MOVEMENTS: Final = 0.9  # movement epochs per night, on average
DAY_SECONDS: Final = 86400.0  # the written scoring of a whole recording ends after 24 h


@dataclass(frozen=True)
class SimulatedScoring:
    """The scoring of a night by the simulated scorer.

    Parameters
    ----------
    codes
        (epochs,) int8 index into `TEXTS`.
    tail_seconds
        Time by which the last "Sleep stage ?" outlasts the signals, s.
    """

    codes: Codes
    tail_seconds: float

    def hypnogram(self) -> Hypnogram:
        """Return the scoring on the epochs of the recording."""
        scored = self.codes < UNKNOWN_CODE
        stages = np.where(scored, HUMAN_OF_CODE[np.minimum(self.codes, REM)], UNSCORED)
        reasons = np.where(scored, SCORED, UNKNOWN)
        reasons[self.codes == MOVEMENT_CODE] = MOVEMENT
        return Hypnogram(
            stages.astype(np.int8), reasons=reasons.astype(np.int8), scorer="simulated"
        )

    def events(self) -> list[Event]:
        """Return the annotations as in the files, the last of which outlasts the signals."""
        tail = round(self.tail_seconds / EPOCH_SECONDS)
        codes = np.append(self.codes, np.full(tail, UNKNOWN_CODE, np.int8))
        bounds = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
        return [
            (start * EPOCH_SECONDS, (stop - start) * EPOCH_SECONDS, TEXTS[codes[start]])
            for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]


def score(rng: np.random.Generator, truth: Codes) -> SimulatedScoring:
    """Score a night as a human scorer would, with errors.

    Parameters
    ----------
    rng
        Random generator.
    truth
        (epochs,) int8 Rechtschaffen & Kales codes that generate the signals.

    Returns
    -------
    scoring
        The scoring; wake before and after the night is scored without error.
    """
    asleep = np.flatnonzero(truth != WAKE)
    codes = truth.copy()
    if len(asleep):
        night = slice(int(asleep[0]), int(asleep[-1]) + 1)
        codes[night] = _slipped(rng, _shifted(rng, truth[night]))
        inside = np.arange(night.start + 1, night.stop - 1)
        movements = min(int(rng.poisson(MOVEMENTS)), len(inside))
        codes[rng.choice(inside, movements, replace=False)] = MOVEMENT_CODE
    unknown = int(rng.integers(0, 3))  # the last epochs are sometimes unscored
    codes[len(codes) - unknown :] = UNKNOWN_CODE
    rest_of_day = DAY_SECONDS - len(codes) * EPOCH_SECONDS
    whole_day = 0 < rest_of_day < DAY_SECONDS / 4
    tail = rest_of_day if whole_day else EPOCH_SECONDS * int(rng.integers(20, 200))
    return SimulatedScoring(codes, tail)


def _shifted(rng: np.random.Generator, codes: Codes) -> Codes:
    """Shift the starts of bouts; a bout may vanish between two shifted ones."""
    starts = np.flatnonzero(np.diff(codes)) + 1
    pairs = np.sort(np.stack([codes[starts - 1], codes[starts]], 1), axis=1).tolist()
    spread = [BOUNDARIES.get((low, high), BOUNDARY_SPREAD) for low, high in pairs]
    shifts = np.rint(spread * rng.standard_normal(len(starts))).astype(int)
    written = codes.copy()
    for start, shift in zip(starts.tolist(), shifts.tolist(), strict=True):
        moved = min(max(start + shift, 1), len(codes))
        if shift < 0:
            written[moved:start] = codes[start]
        else:
            written[start:moved] = codes[start - 1]
    return written


def _slipped(rng: np.random.Generator, codes: Codes) -> Codes:
    """Score short runs as a neighbouring stage."""
    written = codes.copy()
    chance = rng.random(len(codes))
    lengths = rng.choice(SLIP_LENGTHS[0], size=len(codes), p=SLIP_LENGTHS[1])
    for stage, slips in SLIPS.items():
        below = 0.0
        for slip, p in slips.items():
            hit = (codes == stage) & (chance >= below) & (chance < below + p)
            below += p
            for start in np.flatnonzero(hit).tolist():
                run = slice(start, start + int(lengths[start]))
                written[run] = np.where(codes[run] == stage, slip, written[run])
    return written
