"""Sequences of consecutive epochs, for models that take more than one epoch at once.

Epochs are consecutive if they follow each other in one recording without a gap; no sequence crosses
the end of a recording or an excluded epoch. Each epoch is scored in one sequence only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
NONE = -1
SLACK = 0.1  # of an epoch's length, by which onsets may be off


@dataclass(frozen=True)
class Windows:
    """The epochs that a model takes at once, and the epochs that its outputs score.

    Parameters
    ----------
    inputs
        Numbers of epochs in the set: (n,) for a model of single epochs, otherwise (n, epochs).
    targets
        Number of the epoch that each output scores, `NONE` where the output is not used: (n,), or
        (n, epochs) for a sequence model.
    """

    inputs: Numbers
    targets: Numbers

    def __len__(self) -> int:
        return len(self.inputs)

    def pick(self, index: Numbers | slice) -> Windows:
        """Return the windows at `index`, in that order."""
        return Windows(self.inputs[index], self.targets[index])


class InputSpan(NamedTuple):
    """Epochs that a model takes at once.

    Parameters
    ----------
    sequence
        Consecutive epochs that it takes and scores together, 1 for single epochs.
    context
        Epochs on either side that it takes to score one.
    """

    sequence: int = 1
    context: int = 0

    @property
    def several(self) -> bool:
        """Whether the model takes more than one epoch."""
        return self.sequence > 1 or self.context > 0


def split_segments(
    numbers: Numbers, recordings: Numbers, onsets: npt.NDArray[np.float64], seconds: float
) -> list[Numbers]:
    """Split epochs into segments of consecutive ones.

    Parameters
    ----------
    numbers
        (n,) numbers of the epochs, ascending.
    recordings
        (n,) number of the recording that each epoch belongs to.
    onsets
        (n,) s from the start of the recording.
    seconds
        Length of an epoch, s.
    """
    has_gap = np.abs(np.diff(onsets) - seconds) > SLACK * seconds
    ends = np.flatnonzero(has_gap | (np.diff(recordings) != 0)) + 1
    return [segment for segment in np.split(numbers, ends) if len(segment)]


def arrange_windows(segments: list[Numbers], *, sequence: int = 1, context: int = 0) -> Windows:
    """Arrange segments of epochs for a model.

    Parameters
    ----------
    segments
        Numbers of consecutive epochs, as `split_segments` returns them.
    sequence
        Number of epochs that the model takes and scores at once.
    context
        Number of epochs on either side that the model takes to score one.
    """
    if context:
        return epochs_in_context(segments, context)
    return tiled_sequences(segments, sequence) if sequence > 1 else single_epochs(segments)


def single_epochs(segments: list[Numbers]) -> Windows:
    """Make a window of every single epoch."""
    numbers = np.concatenate([np.empty(0, np.int64), *segments])
    return Windows(numbers, numbers)


def tiled_sequences(segments: list[Numbers], length: int) -> Windows:
    """Divide segments into sequences of `length` epochs, side by side.

    The last sequence of a segment reaches back over epochs that the one before has scored; a
    segment shorter than a sequence repeats its last epoch.
    """
    inputs, targets = [], []
    for segment in segments:
        for first in range(0, len(segment), length):
            start = max(0, min(first, len(segment) - length))
            index = np.minimum(np.arange(start, start + length), len(segment) - 1)
            new = (np.arange(start, start + length) >= first) & (index > np.r_[-1, index[:-1]])
            inputs.append(segment[index])
            targets.append(np.where(new, segment[index], NONE))
    shape = (-1, length)
    return Windows(*(np.array(a, np.int64).reshape(shape) for a in (inputs, targets)))


def epochs_in_context(segments: list[Numbers], reach: int) -> Windows:
    """Take every epoch with `reach` neighbours on either side; ends of a segment are repeated."""
    windows = []
    for segment in segments:
        index = np.arange(len(segment))[:, None] + np.arange(-reach, reach + 1)
        windows.append(segment[index.clip(0, len(segment) - 1)])
    inputs = np.concatenate([np.empty((0, 2 * reach + 1), np.int64), *windows])
    return Windows(inputs, inputs[:, reach])
