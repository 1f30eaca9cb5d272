"""Read hypnograms: turn the labels or events of a file into one stage per epoch."""

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
    """Make a hypnogram of one label per epoch; the first epoch begins with the recording.

    Parameters
    ----------
    scheme, epoch_seconds
        As in `formats.read_hypnogram`.
    source
        File name for messages.

    Raises
    ------
    DataError
        For an unknown label, or stages of mice without `epoch_seconds`.
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
    """Make a hypnogram of stages with onset and duration.

    Parameters
    ----------
    events
        (onset, duration, label), s.
    scheme, epoch_seconds
        As in `formats.read_hypnogram`.
    source
        File name for messages.
    begin
        Clock time of onset 0, if known.

    Raises
    ------
    DataError
        As `hypnogram.from_events`, and if the length of an epoch cannot be determined.
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
    """Make a hypnogram of the stages among events of other kinds.

    Movements that do not cover whole epochs are not stages. An event of unknown text is an error
    if it covers whole epochs that have no stage: it may be a stage in a language that is not known
    here, and would be lost.

    Parameters
    ----------
    words
        Stage by text in lower case.
    scheme, epoch_seconds, source, begin
        As in `from_events`.

    Raises
    ------
    DataError
        As `from_events`, and for an unknown event that may be a stage.
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
    """Tell whether an event covers whole epochs of the grid on which `grid[0]` lies."""
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
    """Return the length of an epoch, s, if it is between 1 and 60 s; else raise DataError."""
    if not SHORTEST_EPOCH <= seconds <= LONGEST_EPOCH:
        raise DataError(
            f"{source}: an epoch of {seconds:g} s; expected {SHORTEST_EPOCH:g} to {LONGEST_EPOCH:g}"
        )
    return seconds


def _epoch_seconds(events: Sequence[Event], names: Sequence[str], source: str) -> float:
    """Length of an epoch: 30 s for humans if the durations allow it, else the common duration."""
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
