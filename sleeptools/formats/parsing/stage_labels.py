"""Reading hypnograms: labels or events, as a file has them, to stages on epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time

import numpy as np

from sleeptools.errors import DataError, NoStagesError
from sleeptools.recording import hypnogram, label_schemes, stages
from sleeptools.recording.hypnogram import GRID_TOLERANCE, Event, Hypnogram
from sleeptools.recording.label_schemes import Scheme

HUMAN_EPOCH = 30.0  # s, AASM manual
SHORTEST_EPOCH, LONGEST_EPOCH = 1.0, 60.0  # s


def from_labels(
    labels: Sequence[str], *, scheme: str | Scheme | None, epoch_seconds: float | None, source: str
) -> Hypnogram:
    """Take one label an epoch, the first at the recording's start.

    Parameters
    ----------
    scheme, epoch_seconds
        As `formats.read_hypnogram` has them.
    source
        File name for messages.

    Raises
    ------
    DataError
        For an unknown label, or an animal's stages without a length of an epoch.
    """
    meaning, names = label_schemes.translate_labels(labels, by=scheme, source=source)
    if epoch_seconds is None and names != stages.HUMAN_STAGES:
        raise DataError(
            f"{source}: does not tell how long an epoch is", hint="give `epoch_seconds`, such as 4"
        )
    seconds = check_epoch(HUMAN_EPOCH if epoch_seconds is None else epoch_seconds, source)
    code = {label: stages.stage_number(name, names) for label, name in meaning.items()}
    numbers = np.array([code[label] for label in labels], np.int8).reshape(-1, 2)
    reasons = np.ascontiguousarray(numbers[:, 1])
    return Hypnogram(np.ascontiguousarray(numbers[:, 0]), names, seconds, 0.0, reasons)


def from_events(
    events: Sequence[Event],
    *,
    scheme: str | Scheme | None,
    epoch_seconds: float | None,
    source: str,
    begin: datetime | time | None = None,
) -> Hypnogram:
    """Take stages with onset and duration.

    Parameters
    ----------
    scheme, epoch_seconds
        As `formats.read_hypnogram` has them.
    source
        File name for messages.
    begin
        Clock time of onset 0, where it is known.

    Raises
    ------
    DataError
        As `hypnogram.from_events`; if the length of an epoch cannot be told.
    NoStagesError
        If there are no events.
    """
    if not events:
        meanings = ", ".join(dict.fromkeys(label_schemes.STAGE_WORDS.values()))
        raise NoStagesError(f"{source}: holds no sleep stages", hint=f"there are: {meanings}")
    meaning, names = label_schemes.translate_labels(
        (t for _, _, t in events), by=scheme, source=source
    )
    if epoch_seconds is None:
        epoch_seconds = _epoch_seconds(events, names, source)
    length = check_epoch(epoch_seconds, source)
    scoring = hypnogram.from_events(
        events, meaning, names=names, epoch_seconds=length, source=source
    )
    return replace(scoring, begin=hypnogram.add_seconds(begin, scoring.onset))


def from_mixed(
    events: Sequence[Event],
    *,
    scheme: str | Scheme | None,
    epoch_seconds: float | None,
    source: str,
    begin: datetime | time | None = None,
    words: Mapping[str, str] = label_schemes.STAGE_WORDS,
) -> Hypnogram:
    """Take the stages among events of every kind, as `from_events`.

    An event is no stage if its text is none, or if it is a movement that does not fill epochs. An
    event of another text that fills epochs which nothing else does is refused: it may be a stage
    in a language that is not known here, and would be lost.

    Parameters
    ----------
    words
        The texts of stages, in lower case.
    """
    if scheme is None and any(label_schemes.is_number(t) for _, _, t in events):
        label_schemes.translate_labels(
            (t for _, _, t in events if label_schemes.is_number(t)), by=None, source=source
        )
    meanings = label_schemes.label_scheme(scheme).labels if scheme else {}
    named = [(o, d, meanings.get(t) or words.get(t.lower(), "")) for o, d, t in events]
    staged = [e for e in named if e[2]]
    sure = [e for e in staged if e[2] != "movement"] or staged
    length = epoch_seconds
    if length is None:
        length = _epoch_seconds(sure, (), source) if sure else HUMAN_EPOCH
    check_epoch(length, source)
    scoring = from_events(
        [e for e in staged if e[2] != "movement" or _fills(e, sure, length)],
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=source,
        begin=begin,
    )
    for event, (_, _, name) in zip(events, named, strict=True):
        if not name:
            _refuse_lost(event, scoring, words, source)
    return scoring


def _fills(event: Event, grid: Sequence[Event], length: float) -> bool:
    """Tell whether an event covers whole epochs of the grid that the first of `grid` is on."""
    start, count = (event[0] - grid[0][0]) / length, event[1] / length
    off = max(abs(start - round(start)), abs(count - round(count)))
    return round(count) > 0 and off * length < GRID_TOLERANCE


def _refuse_lost(event: Event, scoring: Hypnogram, words: Mapping[str, str], source: str) -> None:
    onset, duration, text = event
    if not _fills(event, [(scoring.onset, 0.0, "")], scoring.epoch_seconds):
        return
    first = round((onset - scoring.onset) / scoring.epoch_seconds)
    stop = first + round(duration / scoring.epoch_seconds)
    if np.all(scoring.reasons[max(first, 0) : max(stop, 0)] == stages.UNANNOTATED):
        raise DataError(
            f"{source}: event {text[:40]!r} at {onset:g} s fills whole epochs without a stage; "
            "it may be a stage of an unknown name",
            hint=f"known names: {', '.join(words)}; if it is no stage, take its rows out",
        )


def check_epoch(seconds: float, source: str) -> float:
    """Return the length of an epoch, s, if it is one that anybody scores."""
    if not SHORTEST_EPOCH <= seconds <= LONGEST_EPOCH:
        raise DataError(
            f"{source}: an epoch of {seconds:g} s; expected {SHORTEST_EPOCH:g} to {LONGEST_EPOCH:g}"
        )
    return seconds


def _epoch_seconds(events: Sequence[Event], names: Sequence[str], source: str) -> float:
    """Length of an epoch: 30 s for people where that fits, else of every event if they agree."""
    durations = {round(d, 3) for _, d, _ in events}
    human = tuple(names) == stages.HUMAN_STAGES or not names
    if human and all(
        abs(d - HUMAN_EPOCH * round(d / HUMAN_EPOCH)) < GRID_TOLERANCE for d in durations
    ):
        return HUMAN_EPOCH
    if (
        len(durations) == 1
        and len(events) > 1
        and SHORTEST_EPOCH <= max(durations) <= LONGEST_EPOCH
    ):
        return durations.pop()
    lengths = ", ".join(f"{d:g}" for d in sorted(durations)[:5])
    raise DataError(
        f"{source}: does not tell how long an epoch is; its stages last {lengths} s",
        hint="give `epoch_seconds`, such as 4",
    )
