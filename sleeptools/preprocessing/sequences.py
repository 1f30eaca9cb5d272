"""Windows of consecutive epochs, for models that look at more than one.

Epochs are consecutive if they follow each other in one recording without anything left out; no
window crosses the end of a recording or a deleted epoch. Each epoch is scored in one window only.
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
    """What a model is given, and what its outputs are for.

    Parameters
    ----------
    inputs
        Numbers of epochs: (n,) for a model of single epochs, otherwise (n, epochs).
    targets
        Number of the epoch that an output scores, `NONE` for an output to be thrown away: (n,), or
        (n, epochs) for a sequence model.
    """

    inputs: Numbers
    targets: Numbers

    def __len__(self) -> int:
        return len(self.inputs)

    def pick(self, which: Numbers | slice) -> Windows:
        """Take some of the windows."""
        return Windows(self.inputs[which], self.targets[which])


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


def segments(
    numbers: Numbers, recordings: Numbers, onsets: npt.NDArray[np.float64], seconds: float
) -> list[Numbers]:
    """Split epochs where one does not follow the other.

    Parameters
    ----------
    numbers
        (n,) of the epochs, ascending.
    recordings
        (n,) number of the recording of each.
    onsets
        (n,) s in the recording.
    seconds
        Length of an epoch, s.
    """
    apart = np.abs(np.diff(onsets) - seconds) > SLACK * seconds
    ends = np.flatnonzero(apart | (np.diff(recordings) != 0)) + 1
    return [part for part in np.split(numbers, ends) if len(part)]


def arrange(parts: list[Numbers], *, sequence: int = 1, context: int = 0) -> Windows:
    """Arrange segments of epochs for a model.

    Parameters
    ----------
    parts
        Numbers of consecutive epochs each, as `segments` gives them.
    sequence
        Epochs that the model takes and scores at once.
    context
        Epochs on either side that it takes to score one.
    """
    if context:
        return around(parts, context)
    return tiled(parts, sequence) if sequence > 1 else single(parts)


def single(parts: list[Numbers]) -> Windows:
    """Every epoch for itself."""
    numbers = np.concatenate([np.empty(0, np.int64), *parts])
    return Windows(numbers, numbers)


def tiled(parts: list[Numbers], length: int) -> Windows:
    """Sequences side by side.

    The last one of a segment reaches back over epochs that have their score already; a segment
    shorter than a sequence repeats its last epoch.
    """
    inputs, targets = [], []
    for part in parts:
        for first in range(0, len(part), length):
            start = max(0, min(first, len(part) - length))
            place = np.minimum(np.arange(start, start + length), len(part) - 1)
            new = (np.arange(start, start + length) >= first) & (place > np.r_[-1, place[:-1]])
            inputs.append(part[place])
            targets.append(np.where(new, part[place], NONE))
    shape = (-1, length)
    return Windows(*(np.array(a, np.int64).reshape(shape) for a in (inputs, targets)))


def around(parts: list[Numbers], reach: int) -> Windows:
    """Every epoch with `reach` neighbours on either side; the ends of a segment are repeated."""
    found = []
    for part in parts:
        place = np.arange(len(part))[:, None] + np.arange(-reach, reach + 1)
        found.append(part[place.clip(0, len(part) - 1)])
    inputs = np.concatenate([np.empty((0, 2 * reach + 1), np.int64), *found])
    return Windows(inputs, inputs[:, reach])
