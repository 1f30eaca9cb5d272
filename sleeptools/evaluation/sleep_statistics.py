"""Sleep statistics of a night, from its stages and the time line of its recording.

Truth and prediction are measured on the same epochs: those that were scored and predicted. Each
epoch keeps its time in the recording, so that a gap (an unscored epoch, wake that trimming left
out) is neither sleep nor wake, and no latency is counted from the first epoch after trimming.
Where lights-off is known, the night begins there, and epochs before it (a nap, in a recording of a
whole day) do not count; where it is not, statistics that need it are undefined, not guessed.
Definitions as in the AASM manual; sleep onset is the first epoch of any sleep stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MINUTE: Final = 60.0  # s
WAKE: Final = 0
UNITS: Final = {
    "tib": "min",
    "spt": "min",
    "tst": "min",
    "se": "fraction",
    "sme": "fraction",
    "sol": "min",
    "rem_latency_from_sleep_onset": "min",
    "rem_latency_from_lights_off": "min",
    "waso": "min",
    "transitions": "count",
    "minutes": "min",
    "share": "fraction",
}
"""Statistic to unit; `minutes` and `share` are given for each stage."""
DEFINITIONS: Final = {
    "tib": "time in bed: lights off to lights on",
    "spt": "sleep period time: start of the first to end of the last sleep epoch",
    "tst": "total sleep time: all sleep epochs",
    "se": "sleep efficiency: TST / TIB",
    "sme": "sleep maintenance efficiency: TST / SPT",
    "sol": "sleep onset latency: lights off to the first sleep epoch",
    "rem_latency_from_sleep_onset": "first sleep epoch to first REM epoch",
    "rem_latency_from_lights_off": "lights off to first REM epoch",
    "waso": "wake after sleep onset: wake epochs between the first and the last sleep epoch",
    "transitions": "changes of stage between epochs that follow each other",
    "minutes": "minutes of the stage",
    "share": "of total sleep time; in mice, of the scored time",
}
"""Statistic to definition."""
Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Clock:
    """The time line of a recording.

    Parameters
    ----------
    epoch_seconds
        Length of an epoch, s.
    lights_off, lights_on
        s from the start of the recording; None where the data set does not say.
    """

    epoch_seconds: float
    lights_off: float | None = None
    lights_on: float | None = None

    def in_bed(self, onset: Numbers) -> npt.NDArray[np.bool_]:
        """Tell which epochs count: those that start between lights off and lights on."""
        slack = 1e-6 * self.epoch_seconds
        start = -np.inf if self.lights_off is None else self.lights_off - slack
        stop = np.inf if self.lights_on is None else self.lights_on - slack
        return (onset >= start) & (onset < stop)

    def begins(self, onset: Numbers) -> float:
        """Lights off, s, if the epochs cover the time from then on; NaN if not, or if not known."""
        if self.lights_off is None or not len(onset):
            return float("nan")
        # sleep between lights off and a later first epoch would go unnoticed
        covered = onset[0] <= self.lights_off + self.epoch_seconds
        return self.lights_off if covered else float("nan")


StatisticKey = tuple[str, str | None]
"""Statistic and stage."""


def measure_night(
    stages: Numbers, onset: npt.NDArray[np.float64], names: Sequence[str], clock: Clock
) -> dict[StatisticKey, float]:
    """Measure one night.

    Parameters
    ----------
    stages
        (epochs,) index into `names`.
    onset
        (epochs,) s from the start of the recording, ascending; there may be gaps.
    names
        Stage names, wake first.
    clock
        Time line of the recording.

    Returns
    -------
    statistics
        Values in minutes, fractions and counts (`UNITS`), NaN where undefined. For mice, which
        sleep around the clock, only transitions, and minutes and share of each stage.
    """
    inside = clock.in_bed(onset)
    stages, onset = stages[inside], onset[inside]
    minutes = np.bincount(stages, minlength=len(names)) * clock.epoch_seconds / MINUTE
    statistics: dict[StatisticKey, float] = {}
    if "NREM" not in names:
        statistics = _sleep_period(stages, onset, names, clock)
    statistics["transitions", None] = float(_transitions(stages, onset, clock.epoch_seconds))
    total = minutes.sum() if "NREM" in names else minutes[1:].sum()
    for i, name in enumerate(names):
        statistics["minutes", name] = float(minutes[i])
        if "NREM" in names or i != WAKE:
            statistics["share", name] = _ratio(float(minutes[i]), float(total))
    return statistics


def _sleep_period(
    stages: Numbers, onset: Numbers, names: Sequence[str], clock: Clock
) -> dict[StatisticKey, float]:
    asleep, nan = np.flatnonzero(stages != WAKE), float("nan")
    epoch = clock.epoch_seconds / MINUTE
    bed = nan
    if clock.lights_off is not None and clock.lights_on is not None:
        bed = (clock.lights_on - clock.lights_off) / MINUTE
    slept = len(asleep) * epoch
    period = wake = first = rem = nan
    if len(asleep):
        first, last = onset[asleep[0]], onset[asleep[-1]]
        period = float(last - first) / MINUTE + epoch
        wake = float((stages[asleep[0] : asleep[-1]] == WAKE).sum()) * epoch
    if "REM" in names and len(epochs := np.flatnonzero(stages == list(names).index("REM"))):
        rem = onset[epochs[0]]
    off = clock.begins(onset)
    values = {
        "tib": bed,
        "spt": period,
        "tst": slept,
        "se": _ratio(slept, bed),
        "sme": _ratio(slept, period),
        "sol": (first - off) / MINUTE,
        "rem_latency_from_sleep_onset": (rem - first) / MINUTE,
        "rem_latency_from_lights_off": (rem - off) / MINUTE,
        "waso": wake,
    }
    return {(name, None): float(value) for name, value in values.items()}


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")


def _transitions(stages: Numbers, onset: Numbers, epoch_seconds: float) -> int:
    follows = np.abs(np.diff(onset) - epoch_seconds) < epoch_seconds / 10
    return int(np.count_nonzero(follows & (np.diff(stages) != 0)))


def minutes_in_bins(
    stages: Numbers, onset: npt.NDArray[np.float64], count: int, epoch_seconds: float, hours: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Add up minutes per stage in bins of equal width from the start of the recording.

    Parameters
    ----------
    stages
        (epochs,) index of the stage.
    onset
        (epochs,) s from the start of the recording.
    count
        Number of stages.
    epoch_seconds
        Length of an epoch, s.
    hours
        Width of a bin, h.

    Returns
    -------
    numbers
        (bins,) indices of the bins that hold any epoch, from 0.
    minutes
        (bins, count) minutes of each stage.
    """
    index = (onset // (hours * 3600)).astype(np.int64)
    numbers, row = np.unique(index, return_inverse=True)
    flat = np.bincount(row * count + stages, minlength=len(numbers) * count)
    minutes = flat.reshape(-1, count) * (epoch_seconds / MINUTE)
    return numbers, minutes.astype(np.float64)
