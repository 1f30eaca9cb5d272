"""A consensus of several scorings: the stage that most of them give an epoch.

Ties go to the stage with the highest sum of probabilities over the scorings. One that has the
probability of every stage, as a model's, counts with these; one that has the probability of its own
stage alone, with that; one without any counts as certain. What is tied even so goes to the stage of
the scoring named first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.recording.stages import UNSCORED

Values = npt.NDArray[np.float64]
EXACT = 1e-9  # a smaller difference of probabilities is rounding


@dataclass(frozen=True)
class Consensus:
    """The consensus of a night.

    Parameters
    ----------
    stages
        (epochs,) int8, -1 where nobody scored.
    unanimous, majority, by_probability, by_order
        Number of epochs in which all that scored agree, more agree than on any other stage, and
        in which a tie was broken by probability, and by the order of the scorings.
    """

    stages: npt.NDArray[np.int8] = field(repr=False)
    unanimous: int
    majority: int
    by_probability: int
    by_order: int


def consensus(
    stages: npt.NDArray[Any], count: int, probabilities: Sequence[Values | None]
) -> Consensus:
    """Find the consensus.

    Parameters
    ----------
    stages
        (scorings, epochs) index of the stage, -1 where unscored.
    count
        Number of stages.
    probabilities
        For each scoring (epochs, count) the probability of each stage, NaN where not known, or
        None if it has none.
    """
    votes = np.eye(count + 1)[stages][..., :count]  # -1 is the last row, which is cut off
    weights = votes.copy()
    for number, density in enumerate(probabilities):
        if density is not None:
            scored = (stages[number] != UNSCORED) & ~np.isnan(density).any(1)
            weights[number, scored] = density[scored]
    number_of_votes, weight = votes.sum(0), weights.sum(0)
    highest = number_of_votes.max(1, keepdims=True)
    tied = (number_of_votes == highest) & (highest > 0)
    heaviest = np.where(tied, weight, -np.inf)
    winning = tied & (heaviest >= heaviest.max(1, keepdims=True) - EXACT)
    winner = np.full(stages.shape[1], UNSCORED, np.int8)
    for row in stages[::-1]:  # the first scoring has the last word
        epochs = np.flatnonzero(row != UNSCORED)
        decided = epochs[winning[epochs, row[epochs]]]
        winner[decided] = row[decided]
    voters = number_of_votes.sum(1)
    ties, winners = tied.sum(1), winning.sum(1)
    return Consensus(
        winner,
        int(np.count_nonzero((voters > 0) & (highest[:, 0] == voters))),
        int(np.count_nonzero((ties == 1) & (highest[:, 0] < voters))),
        int(np.count_nonzero((ties > 1) & (winners == 1))),
        int(np.count_nonzero((ties > 1) & (winners > 1))),
    )
