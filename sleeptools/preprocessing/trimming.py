"""Which epochs of a night are kept: trimming of wake around sleep, dropping of unscored epochs.

The order of dropping and trimming decides how many wake epochs a data set has, and with them every
published figure; both orders in use are here, and what each dropped is counted.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from sleeptools.preprocessing import presets
from sleeptools.recording import stages
from sleeptools.recording.hypnogram import Hypnogram

Index = npt.NDArray[np.int64]


def select_epochs(
    hypnogram: Hypnogram, trim: presets.Trim, past: int = 0
) -> tuple[Index, dict[str, int]]:
    """Choose the epochs of a hypnogram that are kept, and count why the others are not.

    Under "drop-then-trim" the margin counts epochs that are left after dropping, so that it
    reaches further where unscored epochs lie in it; under "trim-then-drop" everything that is not
    scored wake, unscored epochs among it, counts as sleep when the margin is laid. A recording
    without any sleep is kept whole. "drop-last" counts from the end of what the scorer wrote.

    Parameters
    ----------
    hypnogram
        Already cut to the length of the signals; its first stage is wake.
    trim
        Rule and margin.
    past
        How many epochs were scored past the end of the signals.

    Returns
    -------
    kept
        Numbers of the kept epochs, ascending.
    excluded
        Epochs per reason; with the kept ones they add up to all.
    """
    scored = np.flatnonzero(hypnogram.stages >= 0)
    margin = round(trim.margin_minutes * 60 / hypnogram.epoch_seconds)
    reason = "wake beyond the margin"
    if trim.rule == "none":
        kept = scored
    elif trim.rule == "drop-last":
        written = np.flatnonzero(hypnogram.reasons != stages.UNANNOTATED)
        end = int(written.max(initial=-1)) + 1 + past - trim.last_epochs
        kept, reason = scored[scored < end], "the last epochs"
    elif trim.rule == "drop-then-trim":
        kept = scored[_around_sleep(hypnogram.stages[scored] != 0, margin)]
    else:
        near = np.zeros(len(hypnogram), bool)
        near[_around_sleep(hypnogram.stages != 0, margin)] = True
        kept = scored[near[scored]]
    reasons = Counter(stages.REASONS[r] for r in hypnogram.reasons[hypnogram.stages < 0])
    excluded = {name: reasons.get(name, 0) for name in stages.REASONS[1:]}
    excluded[reason] = len(scored) - len(kept)
    return kept, excluded


def _around_sleep(asleep: npt.NDArray[np.bool_], margin: int) -> slice:
    where = np.flatnonzero(asleep)
    if len(where) == 0:
        return slice(0, len(asleep))
    return slice(max(0, int(where[0]) - margin), int(where[-1]) + margin + 1)
