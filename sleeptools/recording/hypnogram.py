"""The hypnogram: one stage per epoch on a regular grid, and why an epoch has none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError, NoStagesError
from sleeptools.recording.stages import (
    HUMAN,
    REASONS,
    SCORED,
    UNANNOTATED,
    UNKNOWN,
    UNSCORED,
    stage_number,
)

Stages = npt.NDArray[np.int8]
Event = tuple[float, float, str]
"""Onset and duration in seconds from the start of the recording, and the annotation's text."""

GENERATOR_SCORER = "generator"
"""Scorer of a simulated recording's true stages, the stages that generated its signals."""

GRID_TOLERANCE = 0.05  # seconds an annotation may sit beside the epoch grid
DAY = 86400.0  # s
LONGEST = 31 * DAY  # seconds; a larger onset is a damaged one, and would fill the memory


@dataclass(frozen=True)
class Hypnogram:
    """Stages on a regular grid of epochs.

    Parameters
    ----------
    stages
        (epochs,) int8, index into `names`, -1 where unscored.
    names
        The stage list, `stages.HUMAN` or `stages.MOUSE`.
    epoch_seconds
        Length of an epoch, s.
    onset
        Start of the first epoch, s from the start of the recording.
    reasons
        (epochs,) int8, index into `stages.REASONS`: why an epoch is unscored.
    scorer
        Who scored, if known; "simulated" for a simulated one.
    begin
        Clock time of the first epoch where the file gives one, without a day where it gives none.
        Where that is all it gives, the onset is 0 until the hypnogram is placed in its recording.
    """

    stages: Stages
    names: tuple[str, ...] = HUMAN
    epoch_seconds: float = 30.0
    onset: float = 0.0
    reasons: Stages = field(default_factory=lambda: np.empty(0, np.int8))
    scorer: str = ""
    begin: datetime | time | None = None

    def __post_init__(self) -> None:
        """Fill the reasons in where none were given."""
        if len(self.reasons) != len(self.stages):
            assert len(self.reasons) == 0
            unscored = np.where(self.stages < 0, UNKNOWN, SCORED).astype(np.int8)
            object.__setattr__(self, "reasons", unscored)

    def __len__(self) -> int:
        return len(self.stages)

    def counts(self) -> dict[str, int]:
        """Epochs per stage name, then per reason for being unscored; every key always there."""
        per_stage = {n: int((self.stages == i).sum()) for i, n in enumerate(self.names)}
        per_reason = {
            n: int((self.reasons == i).sum()) for i, n in enumerate(REASONS) if i != SCORED
        }
        return per_stage | per_reason

    def clipped(self, seconds: float) -> Hypnogram:
        """Return the part whose epochs lie wholly within a recording of `seconds`."""
        last = int((seconds - self.onset + 1e-6) // self.epoch_seconds)
        first = max(0, int(np.ceil((-self.onset - 1e-6) / self.epoch_seconds)))
        part = slice(first, max(first, min(last, len(self))))
        return replace(
            self,
            stages=self.stages[part],
            reasons=self.reasons[part],
            onset=self.onset + first * self.epoch_seconds,
            begin=later(self.begin, first * self.epoch_seconds),
        )

    def placed(self, start: datetime) -> Hypnogram:
        """Return it with its onset counted by the clock from the start of its recording.

        A clock time without a day is taken within 12 h of the start.
        """
        match self.begin:
            case datetime():
                return replace(self, onset=(self.begin - start).total_seconds())
            case time():
                ahead = (datetime.combine(start, self.begin) - start).total_seconds()
                return replace(self, onset=(ahead + DAY / 2) % DAY - DAY / 2)
        return self

    def recording_start(self) -> datetime | None:
        """When the recording began, if the day and time of the first epoch are known."""
        if not isinstance(self.begin, datetime):
            return None
        return self.begin - timedelta(seconds=self.onset)

    def padded(self, seconds: float) -> Hypnogram:
        """Return the hypnogram with unannotated epochs to the end of a recording of `seconds`."""
        lacking = int((seconds - self.onset + 1e-6) // self.epoch_seconds) - len(self)
        if lacking <= 0:
            return self
        stages = np.full(lacking, UNSCORED, np.int8)
        reasons = np.full(lacking, UNANNOTATED, np.int8)
        return replace(
            self,
            stages=np.concatenate([self.stages, stages]),
            reasons=np.concatenate([self.reasons, reasons]),
        )

    def at(self, onsets: npt.NDArray[np.float64]) -> Stages:
        """Return the stages of the epochs that start at `onsets`, s; -1 where there is none.

        Raises
        ------
        DataError
            If an onset lies beside the epoch grid.
        """
        place = (onsets - self.onset) / self.epoch_seconds
        number = np.rint(place).astype(np.int64)
        if np.any(np.abs(place - number) * self.epoch_seconds > GRID_TOLERANCE):
            raise DataError(
                f"scorer {self.scorer!r}: epochs start at {self.onset:g} s and last "
                f"{self.epoch_seconds:g} s; the other scorer's lie on another grid"
            )
        inside = (number >= 0) & (number < len(self))
        found = np.full(len(onsets), UNSCORED, np.int8)
        found[inside] = self.stages[number[inside]]
        return found

    def events(self, texts: Mapping[str, str] | None = None) -> list[Event]:
        """Join runs of equal stages to (onset, duration, text); unannotated epochs give none.

        Parameters
        ----------
        texts
            Text per stage name or reason; the names themselves where left out.
        """
        codes = np.where(self.reasons == SCORED, self.stages, -self.reasons)
        bounds = np.flatnonzero(np.diff(codes, prepend=99, append=99))
        found: list[Event] = []
        for start, stop in itertools.pairwise(bounds):
            code = int(codes[start])
            name = self.names[code] if code >= 0 else REASONS[-code]
            if code == -UNANNOTATED:
                continue
            onset = self.onset + float(start) * self.epoch_seconds
            duration = float(stop - start) * self.epoch_seconds
            found.append((onset, duration, (texts or {}).get(name, name)))
        return found


def later(begin: datetime | time | None, seconds: float) -> datetime | time | None:
    """Add seconds to a clock time, past midnight where it has no day."""
    match begin:
        case datetime():
            return begin + timedelta(seconds=seconds)
        case time():
            return (
                datetime.combine(datetime(2000, 1, 1), begin) + timedelta(seconds=seconds)
            ).time()
    return None


def from_events(
    events: Iterable[Event],
    scheme: Mapping[str, str],
    *,
    names: Sequence[str] = HUMAN,
    epoch_seconds: float = 30.0,
    source: str = "hypnogram",
) -> Hypnogram:
    """Lay annotations on an epoch grid.

    The grid starts with the recording, or less than an epoch later where the first annotation
    demands it, or with an annotation from before the recording. An epoch gets a stage only where
    one stage covers all of it; epochs before the first and between annotations are unannotated.
    Texts outside the scheme raise, so that no label is lost.

    Parameters
    ----------
    events
        (onset, duration, text), s.
    scheme
        Text to stage name or to one of `stages.REASONS`.
    names
        The stage list.
    epoch_seconds
        Length of an epoch, s.
    source
        File name for messages.

    Raises
    ------
    DataError
        For an unknown text, a negative duration, an annotation off the grid, or two annotations
        of different stages on one epoch.
    """
    events = list(events)
    for onset, duration, text in events:
        if not max(abs(onset), abs(onset + duration)) <= LONGEST:
            raise DataError(f"{source}: {text[:40]!r} lasts from {onset:g} s for {duration:g} s")
    origin = _origin(events, epoch_seconds)
    spans = [_span(event, scheme, origin, epoch_seconds, source) for event in events]
    if not spans:
        raise NoStagesError(
            f"{source}: no sleep stage annotations",
            hint=f"known texts: {', '.join(sorted(scheme))}",
        )
    count = max(stop for _, stop, _ in spans)
    stages = np.full(count, UNSCORED, np.int8)
    reasons = np.full(count, UNANNOTATED, np.int8)
    for start, stop, name in spans:
        stage, reason = stage_number(name, names)
        part = slice(start, stop)
        taken = reasons[part] != UNANNOTATED
        if np.any(taken & ((stages[part] != stage) | (reasons[part] != reason))):
            raise DataError(
                f"{source}: two different stages on the epochs from "
                f"{origin + start * epoch_seconds:g} s to {origin + stop * epoch_seconds:g} s"
            )
        stages[part], reasons[part] = stage, reason
    return Hypnogram(stages, tuple(names), epoch_seconds, origin, reasons)


def _origin(events: Sequence[Event], epoch_seconds: float) -> float:
    """Start of the epoch grid, s: its first annotation's, less the whole epochs before that."""
    first = min((onset for onset, _, _ in events), default=0.0)
    whole = round(first / epoch_seconds)
    if abs(first - whole * epoch_seconds) <= GRID_TOLERANCE:
        return min(whole, 0) * epoch_seconds
    return first - max(first // epoch_seconds, 0) * epoch_seconds


def _span(
    event: Event, scheme: Mapping[str, str], origin: float, epoch_seconds: float, source: str
) -> tuple[int, int, str]:
    onset, duration, text = event
    if text not in scheme:
        raise DataError(
            f"{source}: unknown stage text {text[:40]!r} at {onset:g} s",
            hint=f"known texts: {', '.join(sorted(scheme))}",
        )
    start, length = (onset - origin) / epoch_seconds, duration / epoch_seconds
    off = max(abs(start - round(start)), abs(length - round(length))) * epoch_seconds
    if duration <= 0 or off > GRID_TOLERANCE:
        raise DataError(
            f"{source}: annotation {text!r} at {onset:g} s lasts {duration:g} s, which is not a "
            f"whole number of {epoch_seconds:g}-s epochs on the grid from {origin:g} s on",
            hint="`epoch_seconds` gives another length of an epoch",
        )
    return round(start), round(start) + round(length), scheme[text]
