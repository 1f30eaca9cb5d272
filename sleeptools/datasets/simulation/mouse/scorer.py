"""The simulated scorer of a mouse, whose scoring deviates from the true stages.

Scorers of mice agree at a Cohen kappa of 0.9 or a little more on epochs of 4 s; they differ on the
second a bout begins, on awakenings of a few seconds, and on short runs that look like another
stage: drowsy wake like NREM, the passage into REM like NREM, quiet wake like REM.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.datasets.simulation.mouse.architecture import NREM, REM, WAKE, Codes, majority
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import MOUSE_STAGES, MOVEMENT, SCORED, UNSCORED

SHIFT_SECONDS: Final = 1.6  # standard deviation of the scored start of a bout
OVERLOOKED_SECONDS: Final = 4  # a bout this short is overlooked half of the time
# How often per hour of a stage a run is scored as another one, and its median length, s.
SLIPS: Final = {
    (WAKE, NREM): (7.0, 9.0),
    (WAKE, REM): (0.5, 8.0),
    (NREM, WAKE): (4.0, 5.0),
    (NREM, REM): (0.8, 9.0),
    (REM, NREM): (9.0, 9.0),
    (REM, WAKE): (4.0, 6.0),
}
ARTEFACTS_PER_HOUR: Final = 6.0  # of wake
ARTEFACT_SECONDS: Final = (4, 16)


def draw_artefacts(rng: np.random.Generator, truth: Codes) -> list[tuple[int, int]]:
    """Draw artefacts of a scratching or shaking mouse: first and last (exclusive) second."""
    awake = np.flatnonzero(truth == WAKE)
    count = min(rng.poisson(ARTEFACTS_PER_HOUR * len(awake) / 3600), len(awake))
    starts = np.sort(rng.choice(awake, count, replace=False)).tolist()
    lengths = rng.integers(*ARTEFACT_SECONDS, count).tolist()
    return [(a, min(a + n, len(truth))) for a, n in zip(starts, lengths, strict=True)]


def score(
    rng: np.random.Generator, truth: Codes, artefacts: list[tuple[int, int]], epoch_seconds: int
) -> Hypnogram:
    """Score a recording as a human scorer would, with errors.

    Parameters
    ----------
    rng
        Random generator.
    truth
        (seconds,) int8 stages that generated the signals.
    artefacts
        Seconds as from `draw_artefacts`; an epoch mostly of artefacts is unscored.
    epoch_seconds
        Length of an epoch, s.
    """
    written = _slipped(rng, _shifted(rng, truth))
    stages = majority(written, epoch_seconds)
    bad = np.zeros(len(truth), np.int8)
    for start, stop in artefacts:
        bad[start:stop] = 1
    spoilt = majority(bad, epoch_seconds) == 1
    stages[spoilt] = UNSCORED
    reasons = np.where(spoilt, MOVEMENT, SCORED).astype(np.int8)
    return Hypnogram(stages, MOUSE_STAGES, float(epoch_seconds), 0.0, reasons, "simulated")


def _shifted(rng: np.random.Generator, truth: Codes) -> Codes:
    """Shift the starts of bouts, and overlook short bouts."""
    starts = np.r_[0, np.flatnonzero(np.diff(truth)) + 1]
    lengths = np.diff(np.r_[starts, len(truth)])
    noticed = (lengths > OVERLOOKED_SECONDS) | (rng.random(len(starts)) < 0.5)  # noqa: PLR2004
    noticed[0] = True
    moved = starts + np.rint(SHIFT_SECONDS * rng.standard_normal(len(starts))).astype(int)
    moved[0] = 0
    written = np.empty_like(truth)
    for start, stage in zip(moved[noticed].tolist(), truth[starts[noticed]].tolist(), strict=True):
        written[max(start, 0) :] = stage
    return written


def _slipped(rng: np.random.Generator, codes: Codes) -> Codes:
    """Score short runs as another stage."""
    written = codes.copy()
    for (stage, slip), (per_hour, median) in SLIPS.items():
        seconds = np.flatnonzero(codes == stage)
        chosen = seconds[rng.random(len(seconds)) < per_hour / 3600]
        lengths = np.rint(median * np.exp(0.5 * rng.standard_normal(len(chosen)))).astype(int)
        for start, length in zip(chosen.tolist(), lengths.tolist(), strict=True):
            run: npt.NDArray[np.int8] = written[start : start + length]
            run[codes[start : start + length] == stage] = slip
    return written
