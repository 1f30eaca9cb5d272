"""The hypnogram: one sleep stage per epoch on a regular grid, or the reason why there is none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError, NoStagesError, UndecidedError
from sleeptools.recording.stages import (
    EITHER,
    HUMAN_STAGES,
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

Timing = Literal["times", "length", "none"]
"""What a file says of its epochs: when each begins; only how long one is; or neither."""

GRID_TOLERANCE = 0.05  # s; largest distance of an annotation from the epoch grid
DAY_SECONDS = 86400.0  # s
LONGEST_RECORDING = 31 * DAY_SECONDS
"""Longest recording, s; a larger onset is a damaged one, and would fill the memory."""
UNREADABLE, PLACEHOLDER = "cannot be read", "is a placeholder"
"""Why the start that a scoring's times count from is unknown."""
GENERATOR_SCORER = "generator"
"""Scorer of a simulated recording's true stages, the stages that generated its signals."""


@dataclass(frozen=True)
class Hypnogram:
    """Stages on a regular grid of epochs.

    Parameters
    ----------
    stages
        (epochs,) int8, index into `names`, -1 where unscored.
    names
        The stage list, `stages.HUMAN_STAGES` or `stages.MOUSE_STAGES`.
    epoch_seconds
        Length of an epoch, s.
    onset
        Start of the first epoch, s from the start of the recording.
    reasons
        (epochs,) int8, index into `stages.REASONS`: why an epoch is unscored.
    scorer
        Name of the scorer, if known; "simulated" for a simulated hypnogram.
    begin
        Clock time of the first epoch if the file has one: a datetime, or a time if it has no date.
        In a file that has clock times only, `onset` is 0 until `placing.place` sets it.
    timing
        What the file says of its epochs; where it has no times, their number must fit the signals.
    first_epoch
        Number of the first epoch as the file counts them, from 1.
    lost_start
        Why the start that the onsets count from is unknown, `UNREADABLE` or `PLACEHOLDER`, where
        the file should have it; empty otherwise.
    notes
        What the file holds that was not used, or is no whole epoch, for people to read.
    """

    stages: Stages
    names: tuple[str, ...] = HUMAN_STAGES
    epoch_seconds: float = 30.0
    onset: float = 0.0
    reasons: Stages = field(default_factory=lambda: np.empty(0, np.int8))
    scorer: str = ""
    begin: datetime | time | None = None
    timing: Timing = "times"
    first_epoch: int = 1
    lost_start: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the reasons if they are left out: unscored epochs are unknown."""
        if len(self.reasons) != len(self.stages):
            assert len(self.reasons) == 0
            unscored = np.where(self.stages < 0, UNKNOWN, SCORED).astype(np.int8)
            object.__setattr__(self, "reasons", unscored)

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def end(self) -> float:
        """End of the last epoch, s from the start of the recording."""
        return self.onset + len(self) * self.epoch_seconds

    @property
    def is_of_either(self) -> bool:
        """Whether all that is scored is wake or REM, which tells neither people nor mice."""
        present = {self.names[number] for number in np.unique(self.stages) if number >= 0}
        return bool(present) and present <= EITHER

    def annotated_span(self) -> tuple[float, float]:
        """Start of the first and end of the last annotated epoch, s; both the onset if none is."""
        numbers = np.flatnonzero(self.reasons != UNANNOTATED)
        if not len(numbers):
            return self.onset, self.onset
        first, last = int(numbers[0]), int(numbers[-1]) + 1
        return self.onset + first * self.epoch_seconds, self.onset + last * self.epoch_seconds

    def counts(self) -> dict[str, int]:
        """Count epochs per stage name and per reason for being unscored; all keys are present."""
        per_stage = {n: int((self.stages == i).sum()) for i, n in enumerate(self.names)}
        per_reason = {
            n: int((self.reasons == i).sum()) for i, n in enumerate(REASONS) if i != SCORED
        }
        return per_stage | per_reason

    def clipped(self, seconds: float) -> Hypnogram:
        """Return the hypnogram without the epochs that exceed a recording of `seconds`, s."""
        last = int((seconds - self.onset + 1e-6) // self.epoch_seconds)
        first = max(0, int(np.ceil((-self.onset - 1e-6) / self.epoch_seconds)))
        inside = slice(first, max(first, min(last, len(self))))
        return replace(
            self,
            stages=self.stages[inside],
            reasons=self.reasons[inside],
            onset=self.onset + first * self.epoch_seconds,
            begin=add_seconds(self.begin, first * self.epoch_seconds),
        )

    def recording_start(self) -> datetime | None:
        """Compute the start of the recording; None unless `begin` has a date."""
        if not isinstance(self.begin, datetime):
            return None
        return self.begin - timedelta(seconds=self.onset)

    def padded(self, seconds: float) -> Hypnogram:
        """Return the hypnogram, extended by unannotated epochs to a recording's length, s."""
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

    def stages_at(self, onsets: npt.NDArray[np.float64]) -> Stages:
        """Return the stages of the epochs that start at given times.

        Parameters
        ----------
        onsets
            (n,), s from the start of the recording.

        Returns
        -------
        stages
            (n,) int8; -1 outside the hypnogram and where an epoch is unscored.

        Raises
        ------
        DataError
            If a time is not on the epoch grid.
        """
        position = (onsets - self.onset) / self.epoch_seconds
        number = np.rint(position).astype(np.int64)
        if np.any(np.abs(position - number) * self.epoch_seconds > GRID_TOLERANCE):
            raise DataError(
                f"scorer {self.scorer!r}: epochs start at {self.onset:g} s and last "
                f"{self.epoch_seconds:g} s; the other scorer's lie on another grid",
                code="HYP-GRID",
            )
        inside = (number >= 0) & (number < len(self))
        stages = np.full(len(onsets), UNSCORED, np.int8)
        stages[inside] = self.stages[number[inside]]
        return stages

    def events(self, texts: Mapping[str, str] | None = None) -> list[Event]:
        """Join consecutive epochs of a stage to events; unannotated epochs give none.

        Parameters
        ----------
        texts
            Text by stage name or reason; the name itself if left out.

        Returns
        -------
        events
            (onset, duration, text), s.
        """
        codes = np.where(self.reasons == SCORED, self.stages, -self.reasons)
        bounds = np.flatnonzero(np.diff(codes, prepend=99, append=99))
        events: list[Event] = []
        for start, stop in itertools.pairwise(bounds):
            code = int(codes[start])
            name = self.names[code] if code >= 0 else REASONS[-code]
            if code == -UNANNOTATED:
                continue
            onset = self.onset + float(start) * self.epoch_seconds
            duration = float(stop - start) * self.epoch_seconds
            events.append((onset, duration, (texts or {}).get(name, name)))
        return events


def seconds_of_day(moment: datetime | time) -> float:
    """Return the time since midnight, s."""
    whole = moment.hour * 3600 + moment.minute * 60 + moment.second
    return whole + moment.microsecond / 1e6


def add_seconds(begin: datetime | time | None, seconds: float) -> datetime | time | None:
    """Add seconds to a clock time; one without a date wraps around at midnight."""
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
    names: Sequence[str] = HUMAN_STAGES,
    epoch_seconds: float = 30.0,
    source: str = "hypnogram",
) -> Hypnogram:
    """Turn annotations into a hypnogram.

    The epoch grid starts with the recording, or less than an epoch later if the first annotation
    requires it, or with an annotation from before the recording. Every annotation must cover whole
    epochs, except that the first may begin and the last may end within one: such an epoch has no
    stage and is noted. Epochs that none covers are unannotated. A text that the scheme does not
    know is an error, so that no label is lost.

    Parameters
    ----------
    events
        (onset, duration, text), s.
    scheme
        Stage name, or one of `stages.REASONS`, by text.
    names
        The stage list.
    epoch_seconds
        Length of an epoch, s.
    source
        File name for messages.

    Raises
    ------
    DataError
        For an unknown text, an annotation that does not cover whole epochs of the grid, or two
        different stages on one epoch.
    NoStagesError
        If there are no annotations.
    """
    events = list(events)
    for onset, duration, text in events:
        if not max(abs(onset), abs(onset + duration)) <= LONGEST_RECORDING:
            raise DataError(
                f"{source}: {text[:40]!r} lasts from {onset:g} s for {duration:g} s", code="HYP-ROW"
            )
    if not events:
        raise NoStagesError(
            f"{source}: no sleep stage annotations",
            hint=f"known texts: {', '.join(sorted(scheme))}",
        )
    origin = _origin(events, epoch_seconds, source)
    ends = min(events, key=lambda e: e[0]), max(events, key=lambda e: e[0] + e[1])
    spans = [_span(event, scheme, origin, epoch_seconds, source, ends) for event in events]
    count = max(last for _, _, last, _ in spans)
    stages = np.full(count, UNSCORED, np.int8)
    reasons = np.full(count, UNANNOTATED, np.int8)
    for start, stop, _, name in spans:
        stage, reason = stage_number(name, names)
        span = slice(start, stop)
        annotated = reasons[span] != UNANNOTATED
        if np.any(annotated & ((stages[span] != stage) | (reasons[span] != reason))):
            raise DataError(
                f"{source}: two different stages on the epochs from "
                f"{origin + start * epoch_seconds:g} s to {origin + stop * epoch_seconds:g} s",
                code="HYP-TWO",
            )
        stages[span], reasons[span] = stage, reason
    partial = [e for e in dict.fromkeys(ends) if _is_partial(e, origin, epoch_seconds)]
    notes = tuple(_partial_note(e, epoch_seconds) for e in partial)
    return Hypnogram(stages, tuple(names), epoch_seconds, origin, reasons, notes=notes)


def _origin(events: Sequence[Event], epoch_seconds: float, source: str) -> float:
    """Start of the epoch grid, s: less than an epoch after the recording's, or before it.

    The first annotation that lasts whole epochs has its onset on the grid.
    """
    ordered = sorted(events, key=lambda e: e[0])
    whole = next((e for e in ordered if e[1] > 0 and _is_whole(e[1], epoch_seconds)), None)
    if whole is None:
        raise _off_grid(ordered[0], 0.0, epoch_seconds, source)
    ahead = (whole[0] - ordered[0][0] + GRID_TOLERANCE) // epoch_seconds
    begin = whole[0] - ahead * epoch_seconds
    if _is_whole(begin, epoch_seconds):
        return min(round(begin / epoch_seconds), 0) * epoch_seconds
    return begin - max(begin // epoch_seconds, 0) * epoch_seconds


def _off_grid(event: Event, origin: float, epoch_seconds: float, source: str) -> DataError:
    onset, duration, text = event
    return DataError(
        f"{source}: annotation {text[:40]!r} at {onset:g} s lasts {duration:g} s, which is not a "
        f"whole number of {epoch_seconds:g}-s epochs on the grid from {origin:g} s on",
        hint="`epoch_seconds` gives another length of an epoch",
        code="HYP-GRID",
    )


def _is_whole(seconds: float, epoch_seconds: float) -> bool:
    off = seconds - round(seconds / epoch_seconds) * epoch_seconds
    return abs(off) <= GRID_TOLERANCE


def _is_partial(event: Event, origin: float, epoch_seconds: float) -> bool:
    """Tell whether an annotation begins or ends within an epoch."""
    bounds = (event[0] - origin, event[0] + event[1] - origin)
    return not all(_is_whole(t, epoch_seconds) for t in bounds)


def _partial_note(event: Event, epoch_seconds: float) -> str:
    onset, duration, text = event
    return (
        f"1 partial epoch has no stage: {text[:40]!r} at {onset:g} s lasts {duration:g} s, no "
        f"whole number of {epoch_seconds:g}-s epochs"
    )


def _span(
    event: Event,
    scheme: Mapping[str, str],
    origin: float,
    epoch_seconds: float,
    source: str,
    ends: Sequence[Event],
) -> tuple[int, int, int, str]:
    """First and last whole epoch of an annotation, the last that it touches, and its meaning."""
    onset, duration, text = event
    if text not in scheme:
        raise UndecidedError(
            f"{source}: unknown stage text {text[:40]!r} at {onset:g} s",
            hint=f"known texts: {', '.join(sorted(scheme))}",
            code="HYP-TEXT",
            texts=[text],
        )
    start, stop = onset - origin, onset + duration - origin
    begins, stops = _is_whole(start, epoch_seconds), _is_whole(stop, epoch_seconds)
    if (not begins and event != ends[0]) or (not stops and event != ends[1]) or duration <= 0:
        raise _off_grid(event, origin, epoch_seconds, source)
    start, stop = start / epoch_seconds, stop / epoch_seconds
    first = max(round(start) if begins else math.ceil(start), 0)
    last = round(stop) if stops else math.floor(stop)
    return first, max(first, last), round(stop) if stops else math.ceil(stop), scheme[text]
