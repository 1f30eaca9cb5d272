"""Scorings of one night on one grid of epochs, matched by the clock: what `agree` compares.

The grid is that of the first scoring. Where epochs are of different lengths, its step is the
longest that divides all of them. Each step takes the stage of the epoch that covers its middle,
which for epochs of one length is the one that it overlaps most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording import placing, stage_groups
from sleeptools.recording.hypnogram import (
    DAY_SECONDS,
    GRID_TOLERANCE,
    LONGEST_RECORDING,
    Hypnogram,
    Stages,
    add_seconds,
)
from sleeptools.recording.recording import Recording
from sleeptools.recording.stage_groups import StageGroup
from sleeptools.recording.stages import MOUSE_STAGES, UNSCORED, WAKE

TICKS: Final = 1000  # of a second, in which lengths of epochs are whole numbers
MOUSE_EPOCH: Final = 15.0  # s; longest epoch of a mouse, in a list that people's may have as well
SLACK: Final = 1e-6  # of an epoch


@dataclass(frozen=True)
class AlignedScorings:
    """Scorings of a night on one grid.

    Parameters
    ----------
    scorings
        Names of the scorings.
    names
        The stages.
    epoch_seconds
        Step of the grid, s.
    stages
        (scorings, epochs) int8 index into `names`, -1 where unscored.
    onset
        Start of the first epoch, s from the start of the recording.
    begin
        Clock time of the first epoch, if known.
    epoch_numbers
        (scorings, epochs) number of the scoring's own epoch, -1 outside it.
    notes
        What was done to match them, for people.
    """

    scorings: tuple[str, ...]
    names: tuple[str, ...]
    epoch_seconds: float
    stages: Stages = field(repr=False)
    onset: float
    begin: datetime | time | None
    epoch_numbers: npt.NDArray[np.int64] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(epochs,) whether all have a stage."""
        return np.asarray((self.stages != UNSCORED).all(0))


def align(
    scorings: Sequence[Hypnogram],
    names: Sequence[str],
    *,
    recording: Recording | None = None,
    same_start: bool = False,
    from_start: bool = False,
    groups: Sequence[StageGroup] = (),
) -> AlignedScorings:
    """Lay scorings of one night on one grid.

    Parameters
    ----------
    scorings
        Two or more; the first is the reference, whose epochs are the grid.
    names
        Their names, for messages.
    recording
        The recording of that night, on which all are placed.
    same_start
        Let scorings without a clock begin with the recording that the others are of.
    from_start
        Whether the onsets of all are known to count from the recording's start.
    groups
        Groups of stages that count as one; without any, all must have the same stages.

    Raises
    ------
    DataError
        If they are of people and mice, have different stages, no common time, or no clock.
    """
    stages = _common_stages(scorings, names, groups)
    onsets, start, notes = _onsets(
        scorings, names, recording, same_start=same_start, from_start=from_start
    )
    _check_overlap(scorings, onsets, start, names)
    step, grid_notes = _step(scorings, onsets, names)
    first = math.ceil((min(onsets) - onsets[0]) / step - 0.5 - SLACK)
    ends = [o + len(h) * h.epoch_seconds for o, h in zip(onsets, scorings, strict=True)]
    stop = math.ceil((max(ends) - onsets[0]) / step - 0.5 - SLACK)
    middles = onsets[0] + (np.arange(first, stop, dtype=np.float64) + 0.5) * step
    epoch_numbers = np.stack(
        [_epoch_numbers(h, o, middles) for h, o in zip(scorings, onsets, strict=True)]
    )
    laid = [
        np.append(s, np.int8(UNSCORED))[p] for s, p in zip(stages[1], epoch_numbers, strict=True)
    ]
    onset = onsets[0] + first * step
    begin = add_seconds(start, onset)
    return AlignedScorings(
        tuple(names),
        stages[0],
        step,
        np.stack(laid),
        onset,
        begin,
        epoch_numbers,
        (*notes, *grid_notes),
    )


def _common_stages(
    scorings: Sequence[Hypnogram], names: Sequence[str], groups: Sequence[StageGroup]
) -> tuple[tuple[str, ...], list[Stages]]:
    """Stage list, and each scoring's stages as its numbers."""
    mice = [h.names == MOUSE_STAGES and h.epoch_seconds <= MOUSE_EPOCH for h in scorings]
    people = [h.names != MOUSE_STAGES for h in scorings]
    if any(mice) and any(people):
        raise DataError(
            f"{names[people.index(True)]} is of a person, {names[mice.index(True)]} of a mouse "
            f"({scorings[mice.index(True)].epoch_seconds:g}-s epochs of {', '.join(MOUSE_STAGES)})",
            hint=_of_one_species(scorings, names, people.index(True), mice.index(True)),
            code="HYP-STAGES",
        )
    if groups:
        merged = [
            stage_groups.merge(h.stages, h.names, groups, name)
            for h, name in zip(scorings, names, strict=True)
        ]
        return tuple(group.name for group in groups), merged
    lists = [tuple("W" if n in WAKE else n for n in h.names) for h in scorings]
    for number, listed in enumerate(lists):
        if listed != lists[0]:
            raise DataError(
                f"{names[0]} has the stages {', '.join(scorings[0].names)}, {names[number]} has "
                f"{', '.join(scorings[number].names)}",
                hint=_merging(lists),
                code="HYP-STAGES",
            )
    return scorings[0].names, [h.stages for h in scorings]


def _of_one_species(
    scorings: Sequence[Hypnogram], names: Sequence[str], person: int, mouse: int
) -> str:
    """Hint for scorings of people and mice: one of wake and REM alone may be of either."""
    for number, scheme in ((person, "mouse"), (mouse, "human")):
        if scorings[number].is_of_either:
            return (
                f"all that {names[number]} has is wake and REM: `scheme={names[number]}={scheme}` "
                f"if it is of a {scheme}"
            )
    return "compare scorings of one night"


def _merging(lists: Sequence[tuple[str, ...]]) -> str:
    """Hint for lists of stages that differ: the most stages into which all can be merged."""
    if any("NREM" in listed for listed in lists):
        return "`stages=3` merges N1, N2 and N3 into NREM, if both are of one person"
    return "`stages=4` merges N1 and N2 into light sleep"


# --- when each begins -----------------------------------------------------------------------------


def _onsets(
    scorings: Sequence[Hypnogram],
    names: Sequence[str],
    recording: Recording | None,
    *,
    same_start: bool,
    from_start: bool,
) -> tuple[list[float], datetime | time | None, list[str]]:
    """Onset of each scoring, s from the start of the recording; that start; and notes."""
    if recording is not None:
        placed = [
            placing.place(recording, h, source=name)
            for h, name in zip(scorings, names, strict=True)
        ]
        return [h.onset for h in placed], placing.start_of(recording), []
    clocked = [number for number, h in enumerate(scorings) if h.begin is not None]
    timeless = [name for h, name in zip(scorings, names, strict=True) if h.begin is None]
    if timeless and not (same_start or from_start):
        raise DataError(_no_clock(scorings, names), hint=_cure(timeless), code="HYP-START")
    if not clocked:
        note = f"no clock: {', '.join(timeless)} are taken to count from one start, as asked"
        return [h.onset for h in scorings], None, [note] * (not from_start)
    first = scorings[clocked[0]]
    dated = next((h for h in scorings if isinstance(h.begin, datetime)), first)
    start = add_seconds(dated.begin, -dated.onset)
    onsets = [h.onset if h.begin is None else _by_clock(h, dated) for h in scorings]
    notes = []
    if timeless:
        began = f"{start:%H:%M:%S}" if start else "the same time"
        asked = "as their files say" if from_start else "as asked"
        notes = [f"no clock: {', '.join(timeless)} taken to count from {began} on, {asked}"]
    return onsets, start, notes


def _no_clock(scorings: Sequence[Hypnogram], names: Sequence[str]) -> str:
    lacking = [
        f"{name} ({f'its start {h.lost_start}' if h.lost_start else 'has no clock time'})"
        for h, name in zip(scorings, names, strict=True)
        if h.begin is None
    ]
    return f"nothing says when {' and '.join(lacking)} began, or that all began together"


def _cure(timeless: Sequence[str]) -> str:
    noun = "it counts" if len(timeless) == 1 else "they count"
    return (
        f"`same_start` if {noun} from the same start as the others; `recording` names the file "
        "that has the start"
    )


def _by_clock(hypnogram: Hypnogram, dated: Hypnogram) -> float:
    """Onset, s from the start of the recording of `dated`, of a scoring with a clock.

    A time of day without a date is of the day on which it overlaps the other.
    """
    assert hypnogram.begin is not None
    assert dated.begin is not None
    near = placing.clock_onset(dated.begin, hypnogram.begin)
    if not (isinstance(hypnogram.begin, datetime) and isinstance(dated.begin, datetime)):
        days = (near, near - math.copysign(DAY_SECONDS, near))
        near = max(days, key=lambda ahead: (_shared(hypnogram, dated, ahead) > 0, -abs(ahead)))
    return dated.onset + near


def _shared(hypnogram: Hypnogram, dated: Hypnogram, ahead: float) -> float:
    """Length of the overlap, s, if the first begins so many seconds after the other."""
    length = len(hypnogram) * hypnogram.epoch_seconds
    return min(ahead + length, len(dated) * dated.epoch_seconds) - max(ahead, 0.0)


def _check_overlap(
    scorings: Sequence[Hypnogram],
    onsets: Sequence[float],
    start: datetime | time | None,
    names: Sequence[str],
) -> None:
    """Refuse scorings without a time that all cover."""
    spans = [
        tuple(onset - h.onset + t for t in h.annotated_span())
        for h, onset in zip(scorings, onsets, strict=True)
    ]
    for (a, first), (b, second) in itertools.combinations(zip(names, spans, strict=True), 2):
        if min(first[1], second[1]) - max(first[0], second[0]) <= 0:
            raise DataError(
                f"{a} lasts {_span_text(first, start)}, {b} {_span_text(second, start)}: they do "
                "not overlap",
                hint="are both of that night?",
                code="HYP-SPAN",
            )
    last = max(end for _, end in spans) - min(begin for begin, _ in spans)
    if last > LONGEST_RECORDING:
        raise DataError(
            f"{', '.join(names)}: last {last / DAY_SECONDS:.0f} days together",
            hint="are both of that night?",
            code="HYP-SPAN",
        )


def _span_text(span: Sequence[float], start: datetime | time | None) -> str:
    if start is None:
        return f"from {span[0]:g} s to {span[1]:g} s"
    if isinstance(start, time):
        begin, end = (add_seconds(start, seconds) for seconds in span)
        return f"from {begin:%H:%M:%S} to {end:%H:%M:%S}"
    first, last = (start + timedelta(seconds=seconds) for seconds in span)
    return f"from {first:%F %T} to {last:%F %T}"


# --- the grid -------------------------------------------------------------------------------------


def _step(
    scorings: Sequence[Hypnogram], onsets: Sequence[float], names: Sequence[str]
) -> tuple[float, list[str]]:
    """Step of the grid, s, and what is to be said of it."""
    lengths = [h.epoch_seconds for h in scorings]
    step = math.gcd(*(round(length * TICKS) for length in lengths)) / TICKS
    notes = []
    if len({*lengths}) > 1:
        listed = ", ".join(f"{n} {e:g} s" for n, e in zip(names, lengths, strict=True))
        notes.append(f"epochs of different lengths ({listed}): on a common grid of {step:g} s")
    else:
        step = lengths[0]
    for name, onset in zip(names[1:], onsets[1:], strict=True):
        off = (onset - onsets[0]) % step
        if GRID_TOLERANCE < off < step - GRID_TOLERANCE:
            notes.append(
                f"{name}'s epochs begin {off:.3g} s after those of {names[0]}: each is compared "
                "with the one that it overlaps most"
            )
    return step, notes


def _epoch_numbers(
    hypnogram: Hypnogram, onset: float, middles: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """(epochs,) number of the scoring's epoch at each time, s; -1 outside."""
    numbers = np.floor((middles - onset) / hypnogram.epoch_seconds + SLACK).astype(np.int64)
    return np.where((numbers >= 0) & (numbers < len(hypnogram)), numbers, -1)
