"""Trimming of wake around sleep and dropping of unscored epochs: which epochs of a night are kept.

The order of dropping and trimming decides how many wake epochs a data set has, and so changes every
published figure; both orders in use are here, and the epochs that each excludes are counted.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from sleeptools.preprocessing import presets
from sleeptools.recording import stages
from sleeptools.recording.hypnogram import Hypnogram

EpochNumbers = npt.NDArray[np.int64]


def select_epochs(
    hypnogram: Hypnogram, trim: presets.Trim, past: int = 0
) -> tuple[EpochNumbers, dict[str, int]]:
    """Select the epochs of a hypnogram that are kept, and count the excluded ones by reason.

    Under "drop-then-trim" the margin counts the epochs that remain after dropping, so it reaches
    further where it contains unscored epochs; under "trim-then-drop" every epoch that is not scored
    wake, unscored ones included, counts as sleep when the margin is placed. A recording without
    sleep is kept whole. "drop-last" counts back from the last epoch that the scorer wrote.

    Parameters
    ----------
    hypnogram
        Cut to the length of the signals; the first of its stage names is wake.
    trim
        Rule and margin.
    past
        Number of epochs that were scored past the end of the signals.

    Returns
    -------
    selected
        Indices of the kept epochs, ascending.
    excluded
        Number of epochs per reason; together with the kept ones they add up to all epochs.
    """
    scored = np.flatnonzero(hypnogram.stages >= 0)
    margin = round(trim.margin_minutes * 60 / hypnogram.epoch_seconds)
    reason = "wake beyond the margin"
    if trim.rule == "none":
        selected = scored
    elif trim.rule == "drop-last":
        written = np.flatnonzero(hypnogram.reasons != stages.UNANNOTATED)
        end = int(written.max(initial=-1)) + 1 + past - trim.last_epochs
        selected, reason = scored[scored < end], "the last epochs"
    elif trim.rule == "drop-then-trim":
        selected = scored[_around_sleep(hypnogram.stages[scored] != 0, margin)]
    else:
        near = np.zeros(len(hypnogram), bool)
        near[_around_sleep(hypnogram.stages != 0, margin)] = True
        selected = scored[near[scored]]
    reasons = Counter(stages.REASONS[r] for r in hypnogram.reasons[hypnogram.stages < 0])
    excluded = {name: reasons.get(name, 0) for name in stages.REASONS[1:]}
    excluded[reason] = len(scored) - len(selected)
    return selected, excluded


def _around_sleep(asleep: npt.NDArray[np.bool_], margin: int) -> slice:
    """Return the epochs from `margin` before the first to `margin` after the last one asleep."""
    sleep_epochs = np.flatnonzero(asleep)
    if len(sleep_epochs) == 0:
        return slice(0, len(asleep))
    return slice(max(0, int(sleep_epochs[0]) - margin), int(sleep_epochs[-1]) + margin + 1)
