"""The time axis of a recording that may have been interrupted: gaps, and the stretches between.

Samples lie one after the other in memory and in files, and nothing is stored for a gap, however
long it is; the gaps say when each stretch of samples was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording.hypnogram import LONGEST_RECORDING

Gap = tuple[float, float]
"""Begin and end of an interruption, s from the start of the recording."""
Onsets = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SLACK: Final = 1e-6  # of a sample or of a second: what arithmetic may be off by
SHOWN: Final = 3  # gaps in a text


class Stretches(NamedTuple):
    """The stretches of a signal without interruption, in order.

    Parameters
    ----------
    begins
        (stretches,) s from the start of the recording.
    firsts
        (stretches,) number of the first sample of each.
    sizes
        (stretches,) number of samples of each.
    """

    begins: Onsets
    firsts: Counts
    sizes: Counts

    def holding(self, onsets: Onsets) -> Counts:
        """Return the number of the last stretch that begins no later than each time: (n,)."""
        return np.maximum(np.searchsorted(self.begins, onsets + SLACK, "right") - 1, 0)


def split(gaps: Sequence[Gap], size: int, rate: float) -> Stretches:
    """Divide a signal at the gaps of its recording.

    Parameters
    ----------
    gaps
        As `check_gaps` accepts them.
    size
        Number of samples.
    rate
        Sample rate, Hz.
    """
    stops, restarts = np.array(gaps, np.float64).reshape(-1, 2).T
    lost = np.cumsum(restarts - stops)
    recorded = stops - np.concatenate([[0.0], lost[:-1]])[: len(stops)]
    bounds = np.concatenate([[0.0], np.rint(recorded * rate), [size]]).astype(np.int64)
    bounds = np.minimum(bounds, size)
    return Stretches(np.concatenate([[0.0], restarts]), bounds[:-1], np.diff(bounds))


def sample_numbers(onsets: Onsets, rate: float) -> Counts:
    """Return the first sample not before each time, s from the first sample at a rate in Hz."""
    return np.ceil(onsets * rate - SLACK).astype(np.int64)


def check_gaps(gaps: Sequence[Gap], recorded: float, source: str) -> None:
    """Check that gaps lie between signals, and make no recording longer than one may be.

    Parameters
    ----------
    recorded
        Duration of the signals without the gaps, s.
    source
        File or recording, for the message.

    Raises
    ------
    DataError
        Naming the first gap that is not so.
    """
    stop = lost = 0.0
    for begin, end in gaps:
        if not (stop < begin < min(end, recorded + lost)):
            raise DataError(
                f"{source}: a gap from {begin:g} s to {end:g} s follows {stop:g} s, in "
                f"{recorded:g} s of signals; expected gaps in order of time, with signals between",
                code="EDF-GAP",
            )
        if end > LONGEST_RECORDING:
            raise DataError(
                f"{source}: has a gap of {text_of(end - begin)} s at {text_of(begin)} s; a "
                f"recording may last {LONGEST_RECORDING:.0f} s with its gaps",
                hint="split it at this gap",
                code="EDF-GAP",
            )
        stop = end
        lost += end - begin


def gaps_text(gaps: Sequence[Gap]) -> str:
    """List gaps for people: "2 gaps: 30 s at 120 s, 5 s at 300 s"; "" if there are none."""
    if not gaps:
        return ""
    listed = [f"{text_of(end - begin)} s at {text_of(begin)} s" for begin, end in gaps[:SHOWN]]
    count = f"{len(gaps)} gap{'s' * (len(gaps) != 1)}"
    return f"{count}: {', '.join([*listed, *['...'] * (len(gaps) > SHOWN)])}"


def text_of(seconds: float) -> str:
    """Write seconds with up to six decimals."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
