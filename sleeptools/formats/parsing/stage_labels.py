"""Read hypnograms: turn the labels or events of a file into one stage per epoch."""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from typing import Final

import numpy as np

from sleeptools.errors import DataError, NoStagesError, UndecidedError
from sleeptools.formats.parsing import text_files
from sleeptools.recording import hypnogram, label_schemes, stages
from sleeptools.recording.hypnogram import (
    GRID_TOLERANCE,
    LONGEST_RECORDING,
    Event,
    Hypnogram,
)
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
    stray = label_schemes.stray_labels(labels, scheme)
    meaning, names = label_schemes.translate_labels(
        [t for t in labels if t not in stray], by=scheme, source=source
    )
    meaning |= dict.fromkeys(stray, "unknown")
    if epoch_seconds is None and names != stages.HUMAN_STAGES:
        raise DataError(
            f"{source}: does not tell how long an epoch is",
            hint="give the length of an epoch, such as `epoch_seconds=4`",
            code="HYP-EPOCH",
        )
    seconds = check_epoch(HUMAN_EPOCH if epoch_seconds is None else epoch_seconds, source)
    code = {label: stages.stage_number(name, names) for label, name in meaning.items()}
    numbers = np.array([code[label] for label in labels], np.int8).reshape(-1, 2)
    return Hypnogram(
        np.ascontiguousarray(numbers[:, 0]),
        names,
        seconds,
        0.0,
        np.ascontiguousarray(numbers[:, 1]),
        timing="none" if epoch_seconds is None else "length",
        notes=tuple(f"unknown label {t[:40]!r}: {n} epochs are unscored" for t, n in stray.items()),
    )


def numbered(hypnogram: Hypnogram, numbers: Sequence[str | float], source: str) -> Hypnogram:
    """Place labels by the numbers of their epochs, which count from 1, or from 0 if one is 0.

    Epochs whose numbers are left out are unannotated.

    Raises
    ------
    DataError
        If a number is not whole, or not above the one before it.
    """
    counted = [text_files.parse_number(f"{n}", f"{source}: epoch") for n in numbers]
    for i, number in enumerate(counted):
        if number < 0 or number != int(number):
            raise DataError(f"{source}: {number:g} is no number of an epoch", code="HYP-NUMBER")
        if i and number <= counted[i - 1]:
            raise DataError(
                f"{source}: epoch {number:g} follows {counted[i - 1]:g}", code="HYP-NUMBER"
            )
    first = counted[0]
    spaced = with_holes(hypnogram, [int(n - first) for n in counted], source)
    if first <= 1:
        return spaced
    onset = (first - 1) * hypnogram.epoch_seconds
    note = f"the first epoch is number {first:.0f}, counted from 1: it begins at {onset:g} s"
    return replace(spaced, onset=onset, first_epoch=int(first), notes=(*spaced.notes, note))


def with_holes(hypnogram: Hypnogram, places: Sequence[int], source: str) -> Hypnogram:
    """Put each label at its place, in epochs from the first; epochs between are unannotated.

    Parameters
    ----------
    places
        Ascending, the first one 0.

    Raises
    ------
    DataError
        If the last one lies beyond the longest recording.
    """
    count = places[-1] + 1
    if count == len(hypnogram):
        return hypnogram
    if count * hypnogram.epoch_seconds > LONGEST_RECORDING:
        raise DataError(
            f"{source}: the last epoch begins {places[-1] * hypnogram.epoch_seconds:g} s after the "
            f"first; expected at most {LONGEST_RECORDING:g} s",
            code="HYP-ROW",
        )
    values = np.full(count, stages.UNSCORED, np.int8)
    reasons = np.full(count, stages.UNANNOTATED, np.int8)
    values[places], reasons[places] = hypnogram.stages, hypnogram.reasons
    note = f"{count - len(hypnogram)} epochs between the rows have none and are unscored"
    return replace(hypnogram, stages=values, reasons=reasons, notes=(*hypnogram.notes, note))


def from_events(
    events: Sequence[Event],
    *,
    scheme: str | Scheme | None,
    epoch_seconds: float | None,
    source: str,
    begin: datetime | time | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Make a hypnogram of stages with onset and duration.

    Parameters
    ----------
    events
        (onset, duration, label), s; the duration is 0 where the file has none.
    scheme, epoch_seconds, epoch_from_onsets
        As in `formats.read_hypnogram`.
    source
        File name for messages.
    begin
        Clock time of onset 0, if known.

    Raises
    ------
    DataError
        As `hypnogram.from_events`, if the length of an epoch cannot be determined, and if stages
        have no durations.
    NoStagesError
        If there are no events.
    """
    if not events:
        meanings = ", ".join(dict.fromkeys(label_schemes.STAGE_WORDS.values()))
        raise NoStagesError(f"{source}: holds no sleep stages", hint=f"there are: {meanings}")
    meaning, names = label_schemes.translate_labels(
        (t for _, _, t in events), by=scheme, source=source
    )
    events, notes = _lasting(events, epoch_seconds, source, from_onsets=epoch_from_onsets)
    if epoch_seconds is None:
        epoch_seconds = _epoch_seconds(events, names, source)
    length = check_epoch(epoch_seconds, source)
    scoring = hypnogram.from_events(
        events, meaning, names=names, epoch_seconds=length, source=source
    )
    return replace(
        scoring,
        begin=hypnogram.add_seconds(begin, scoring.onset),
        notes=(*notes, *scoring.notes),
    )


def _lasting(
    events: Sequence[Event], epoch_seconds: float | None, source: str, *, from_onsets: bool
) -> tuple[list[Event], list[str]]:
    """Return the events that last, and notes; where asked, let those without duration last."""
    lasting = [e for e in events if e[1] != 0]
    if len(lasting) == len(events):
        return lasting, []
    latest = max(onset for onset, _, _ in events)
    brief = [e for e in events if e[1] == 0]
    if from_onsets:
        onsets = sorted({onset for onset, _, _ in events})
        steps = [round(b - a, 3) for a, b in itertools.pairwise(onsets)]
        last = epoch_seconds or (min(steps) if steps else HUMAN_EPOCH)
        following = dict(zip(onsets, [*onsets[1:], onsets[-1] + last], strict=True))
        made = [(o, d or following[o] - o, t) for o, d, t in events]
        note = f"{len(brief)} stages without a duration last to the next one, the last {last:g} s"
        return made, [note]
    if lasting and len(brief) == 1 and brief[0][0] >= latest:
        text = f"the last stage, {brief[0][2][:40]!r} at {latest:g} s, has no duration: 1 partial "
        return lasting, [text + "epoch has no stage"]
    raise _no_durations(brief, len(events), source)


def _no_durations(brief: Sequence[Event], count: int, source: str) -> DataError:
    onset, _, text = brief[0]
    return DataError(
        f"{source}: {len(brief)} of {count} stages have no duration (the first: {text[:40]!r} at "
        f"{onset:g} s)",
        hint="`epoch_from_onsets` lets each last to the next",
        code="HYP-DURATION",
    )


def from_mixed(
    events: Sequence[Event],
    *,
    scheme: str | Scheme | None,
    epoch_seconds: float | None,
    source: str,
    begin: datetime | time | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Make a hypnogram of the stages among events of other kinds.

    Movements that do not cover whole epochs are not stages, nor is a short word without a duration
    ("R", "wake") within an epoch that has a stage. An event of unknown text is an error if it
    covers whole epochs that have no stage: it may be a stage in a language that is not known here,
    and would be lost. The notes name the texts that are not used.

    Parameters
    ----------
    events, scheme, epoch_seconds, source, begin, epoch_from_onsets
        As in `from_events`.

    Raises
    ------
    DataError
        As `from_events`, and for an unknown event that may be a stage.
    """
    meanings = label_schemes.label_scheme(scheme).labels if scheme else {}
    named = [(o, d, meanings.get(t) or label_schemes.word_meaning(t)) for o, d, t in events]
    staged = [
        e
        for e, (_, _, name) in zip(events, named, strict=True)
        if name or e[2].lower().startswith("sleep stage")
    ]
    if not staged and any(label_schemes.is_number(t) for _, _, t in events):
        label_schemes.translate_labels(
            (t for _, _, t in events if label_schemes.is_number(t)), by=scheme, source=source
        )
    used = staged if epoch_from_onsets else _without_marks(staged)
    reasons = {t for (_, _, t), (_, _, n) in zip(events, named, strict=True) if n in stages.REASONS}
    movement = {t for (_, _, t), (_, _, n) in zip(events, named, strict=True) if n == "movement"}
    used = _without_movements(used, movement, epoch_seconds, source)
    scoring = from_events(
        used,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=source,
        begin=begin,
        epoch_from_onsets=epoch_from_onsets,
    )
    rest = Counter(events) - Counter(used)
    words = set(staged)
    marks = [e for e in rest if e in words and e[1] == 0 and e[2] not in reasons]
    _refuse_unstaged_marks(marks, len(used), scoring, source)
    _refuse_lost([e for e in rest if e not in words], scoring, source)
    unused = Counter(text for (_, _, text), n in rest.items() for _ in range(n))
    shown = [f"{text[:40]!r} {n}" for text, n in unused.most_common(SHOWN)]
    more = [f"and {len(unused) - SHOWN} more"] if len(unused) > SHOWN else []
    notes = [f"texts that are no stages: {', '.join([*shown, *more])}"] if shown else []
    return replace(scoring, notes=(*scoring.notes, *notes))


SHOWN = 8  # texts in a note


def _without_marks(staged: Sequence[Event]) -> list[Event]:
    """Leave out short words without duration, unless no stage has one or it is the last."""
    if not any(d > 0 for _, d, _ in staged):
        return list(staged)
    latest = max(o for o, _, _ in staged)
    return [e for e in staged if e[1] != 0 or _is_formal(e[2]) or e[0] >= latest]


def _without_movements(
    staged: Sequence[Event], movement: Collection[str], epoch_seconds: float | None, source: str
) -> list[Event]:
    """Leave out movements that do not fill epochs of their own."""
    if not movement:
        return list(staged)
    sure = [e for e in staged if e[2] not in movement] or list(staged)
    lasting = [e for e in sure if e[1] > 0]
    if not lasting:
        return list(staged)
    length = epoch_seconds or _epoch_seconds(lasting, (), source)
    check_epoch(length, source)
    grid = next((o for o, d, _ in lasting if _is_whole(d, length)), lasting[0][0])
    taken = _merged([_numbers(e, grid, length) for e in sure if e[2] not in movement])
    return [
        e
        for e in staged
        if e[2] not in movement
        or (
            _fills(e, grid, length)
            and (_is_formal(e[2]) or not _covered(_numbers(e, grid, length), taken))
        )
    ]


Span = tuple[int, int]
"""Numbers of the first epoch and of the first one after the last."""


def _numbers(event: Event, grid: float, length: float) -> Span:
    """Return the epochs that an event covers, counted from the grid's begin."""
    first = round((event[0] - grid) / length)
    return first, first + round(event[1] / length)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Join spans that touch or overlap, in order."""
    joined: list[Span] = []
    for first, stop in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((first, stop))
    return joined


def _covered(span: Span, merged: Sequence[Span]) -> bool:
    """Tell whether one of the merged spans holds all of a span."""
    k = bisect.bisect_right(merged, span[0], key=lambda m: m[0]) - 1
    return span[0] == span[1] or (k >= 0 and merged[k][1] >= span[1])


def hold_stages(events: Sequence[Event], known: Collection[str], *, from_onsets: bool) -> bool:
    """Tell whether some annotations are stages, and not only a remark such as "awake" or "M".

    Parameters
    ----------
    events
        (onset, duration, text), s.
    known
        Texts that the user has defined.
    from_onsets
        Whether words without a duration are stages; else only many of them are.
    """
    brief = 0
    for _, duration, text in events:
        is_stage = label_schemes.word_meaning(text) not in ("", *stages.REASONS)
        if text in known or _is_formal(text) or (is_stage and (duration > 0 or from_onsets)):
            return True
        brief += is_stage
    return brief >= FEW


def _is_formal(text: str) -> bool:
    """Tell whether a text can be nothing but a stage of EDF+."""
    plain = text.lower()
    return plain.startswith("sleep stage") or (
        ("stage" in plain or text in label_schemes.EDF_TEXTS)
        and bool(label_schemes.word_meaning(text))
    )


def _is_whole(seconds: float, length: float) -> bool:
    return abs(seconds - round(seconds / length) * length) < GRID_TOLERANCE


def _fills(event: Event, grid: float, length: float) -> bool:
    """Tell whether an event covers whole epochs of the grid on which `grid` lies, s."""
    return (
        round(event[1] / length) > 0
        and _is_whole(event[0] - grid, length)
        and _is_whole(event[1], length)
    )


def _refuse_unstaged_marks(
    marks: Sequence[Event], count: int, scoring: Hypnogram, source: str
) -> None:
    """Refuse words of stages without duration in epochs without a stage, unless they are few."""
    lost = []
    for event in marks:
        number = int((event[0] - scoring.onset) // scoring.epoch_seconds)
        inside = 0 <= number < len(scoring)
        if not inside or scoring.reasons[number] == stages.UNANNOTATED:
            lost.append(event)
    if len(lost) > label_schemes.STRAY * count:
        raise _no_durations(lost, count + len(lost), source)


def _refuse_lost(events: Sequence[Event], scoring: Hypnogram, source: str) -> None:
    """Refuse a text that fills whole epochs which no stage fills, or marks a row of such epochs."""
    texts: dict[str, list[Event]] = {}
    for event in events:
        texts.setdefault(event[2], []).append(event)
    staged = [0, *np.cumsum(scoring.reasons != stages.UNANNOTATED).tolist()]
    for text, of_text in texts.items():
        filled = _lost_on_grid(of_text, scoring, staged) or _lost_in_holes(of_text, scoring, staged)
        lost = filled or _lost_in_row(of_text, scoring, staged)
        if not lost:
            continue
        does = "fills whole epochs" if filled else "stands in a row of epochs"
        raise UndecidedError(
            f"{source}: event {text[:40]!r} at {lost[0][0]:g} s {does} without a stage, "
            f"{sum(epochs for _, epochs in lost)} in all; it may be a stage of an unknown name",
            hint="`scheme` or [labels] of edf.toml can define it; if it is no stage, take its "
            f"rows out; known names: {', '.join(label_schemes.EDF_TEXTS)} and more",
            code="HYP-TEXT",
            texts=[text],
        )


Lost = list[tuple[float, int]]
"""Onset, s, and number of epochs of events that may be stages."""
Counts = Sequence[int]
"""Number of staged epochs before each epoch, and in all."""


def _staged(counts: Counts, first: int, stop: int) -> int:
    """Count the staged epochs from `first` to before `stop`; there is none outside the scoring."""
    last = len(counts) - 1  # not np.clip, which takes ten times as long for two numbers
    return counts[min(max(stop, 0), last)] - counts[min(max(first, 0), last)]


def _lost_on_grid(events: Sequence[Event], scoring: Hypnogram, staged: Counts) -> Lost:
    """Return the events that cover epochs of the grid, none of which has a stage."""
    length = scoring.epoch_seconds
    lost: Lost = []
    for onset, duration, text in events:
        first = round((onset - scoring.onset) / length)
        epochs = round(duration / length)
        if _fills((onset, duration, text), scoring.onset, length) and not _staged(
            staged, first, first + epochs
        ):
            lost.append((onset, epochs))
    return lost


def _lost_in_holes(events: Sequence[Event], scoring: Hypnogram, staged: Counts) -> Lost:
    """Return the events that lie off the grid between stages, if most of theirs has no stage."""
    length = scoring.epoch_seconds
    begin, end = scoring.annotated_span()
    lost: Lost = []
    with_stage = 0
    for onset, duration, _ in events:
        first = math.ceil((onset - scoring.onset) / length - SLIP)
        stop = math.floor((onset + duration - scoring.onset) / length + SLIP)
        if stop <= first or onset < begin or onset + duration > end:
            continue
        taken = _staged(staged, first, stop)
        with_stage += taken
        if stop - first > taken:
            lost.append((onset, stop - first - taken))
    return lost if sum(epochs for _, epochs in lost) > with_stage else []


def _lost_in_row(events: Sequence[Event], scoring: Hypnogram, staged: Counts) -> Lost:
    """Return the events that follow each other an epoch apart where no epoch has a stage."""
    length = scoring.epoch_seconds
    row: Lost = []
    for onset, _, _ in sorted(events):
        number = math.floor((onset - scoring.onset) / length + SLIP)
        if _staged(staged, number, number + 1):
            continue
        if row and abs(onset - row[-1][0] - length) > GRID_TOLERANCE:
            if len(row) >= FEW:
                break
            row = []
        row.append((onset, 1))
    return row if len(row) >= FEW else []


SLIP: Final = 0.05  # of an epoch, that an event may lack to fill it


def check_clock(events: Sequence[Event], source: str) -> None:
    """Refuse stages by the clock in a night in which the clock was changed.

    Forward, it leaves a hole of an hour, or one row that is an hour longer than its neighbours;
    back, it lets two rows overlap.

    Parameters
    ----------
    events
        (onset, duration, text) of the stages, s, by the clock.

    Raises
    ------
    DataError
        If a stage is far longer than all others, two overlap, or an hour has no row.
    """
    ordered = sorted(e for e in events if e[1] > 0)
    durations = Counter(round(d, 3) for _, d, _ in ordered)
    common, count = durations.most_common(1)[0] if durations else (0.0, 0)
    single = count >= MOSTLY * len(ordered) and len(ordered) > FEW
    for onset, duration, text in ordered:
        if single and duration >= common + HALF_HOUR:
            raise _clock_error(
                f"{text[:40]!r} at {onset:g} s from the first row lasts {duration:g} s by the "
                f"clock, where rows last {common:g} s",
                source,
            )
    for before, after in itertools.pairwise(ordered):
        hole = after[0] - before[0] - before[1]
        if hole < -GRID_TOLERANCE:
            raise _clock_error(
                f"{after[2][:40]!r} at {after[0]:g} s from the first row begins {-hole:g} s before "
                f"{before[2][:40]!r} ends",
                source,
            )
        if abs(hole - CLOCK_CHANGE) <= GRID_TOLERANCE and len(ordered) > FEW:
            raise _clock_error(
                f"no row for {hole:g} s, one hour, from {before[0] + before[1]:g} s after the "
                "first row on",
                source,
            )


MOSTLY, FEW = 0.9, 10  # share and number of rows that show how long one lasts
HALF_HOUR, CLOCK_CHANGE = 1800.0, 3600.0  # s


def _clock_error(what: str, source: str) -> DataError:
    return DataError(
        f"{source}: {what}: was the clock changed that night?",
        hint="export it with times from the recording's start, or in a time without summer time; "
        "epochs that nobody scored can be written as '?'",
        code="HYP-CLOCK",
    )


def check_epoch(seconds: float, source: str) -> float:
    """Return the length of an epoch, s, if it is between 1 and 60 s; else raise DataError."""
    if not SHORTEST_EPOCH <= seconds <= LONGEST_EPOCH:
        raise DataError(
            f"{source}: an epoch of {seconds:g} s; expected {SHORTEST_EPOCH:g} to "
            f"{LONGEST_EPOCH:g}",
            code="HYP-EPOCH",
        )
    return seconds


def choose_scorer(
    rows: Sequence[Mapping[str, str]], scorer: str | None, source: str
) -> tuple[list[Mapping[str, str]], str]:
    """Take the rows of one scorer from a table that may have a column of scorers.

    Parameters
    ----------
    rows
        The table's rows by column name.
    scorer
        The scorer whose rows are taken; if left out, the table must have one only.

    Returns
    -------
    rows, scorer
        The rows of that scorer and those of nobody, and the scorer's name, "" if there is none.

    Raises
    ------
    DataError
        If there are several scorers and none is chosen, or the chosen one is not there.
    """
    columns = sorted(c for c in (rows[0] if rows else ()) if SCORER_COLUMN.fullmatch(c))
    column = next((c for c in columns if c == "scorer"), columns[0] if columns else "scorer")
    names = list(dict.fromkeys(r.get(column, "") for r in rows))
    named = [n for n in names if n.lower() not in NOBODY]
    if scorer is None and len(named) > 1:
        raise UndecidedError(
            f"{source}: rows of {len(named)} scorers: {', '.join(n[:40] for n in named[:8])}",
            hint=f"choose one, for example `scorer={named[0]}`",
            code="HYP-SCORER",
            texts=named,
        )
    if scorer is not None and scorer not in named:
        raise DataError(
            f"{source}: no rows of a scorer {scorer!r}",
            hint=f"there are: {', '.join(named) or 'no named ones'}",
            code="HYP-SCORER",
        )
    chosen = scorer or "".join(named)
    return [r for r in rows if r.get(column, "") in (chosen, *set(names) - {*named})], chosen


NOBODY: Final = ("", "n/a")
SCORER_COLUMN: Final = re.compile(
    "(scorer|annotator|rater|reader|expert|coder|observer|technician|(scored|rated|annotated) by)"
    "( (id|name))?".replace(" ", "[ _]")
)
"""What tables call the column that says who scored a row."""


def _epoch_seconds(events: Sequence[Event], names: Sequence[str], source: str) -> float:
    """Length of an epoch: 30 s for humans if the durations allow it, else the common duration.

    A first and a last stage that do not fit are partial epochs, where most rows are single ones.
    """
    durations = {round(d, 3) for _, d, _ in events}
    human = tuple(names) == stages.HUMAN_STAGES or not names
    if human and all(_is_whole(d, HUMAN_EPOCH) for d in durations):
        return HUMAN_EPOCH
    if (
        len(durations) == 1
        and len(events) > 1
        and SHORTEST_EPOCH <= max(durations) <= LONGEST_EPOCH
    ):
        return durations.pop()
    ordered = sorted(events)
    inner = Counter(round(d, 3) for _, d, _ in ordered[1:-1])
    common, count = inner.most_common(1)[0] if inner else (0.0, 0)
    single = 2 * count > len(events) and all(_is_whole(d, common) for d in inner)
    if single and SHORTEST_EPOCH <= common <= LONGEST_EPOCH:
        return common
    lengths = ", ".join(f"{d:g}" for d in sorted(durations)[:5])
    likely = HUMAN_EPOCH if human else common or 4
    raise DataError(
        f"{source}: does not tell how long an epoch is; its stages last {lengths} s",
        hint=f"give `epoch_seconds`, such as `epoch_seconds={likely:g}`",
        code="HYP-EPOCH",
    )
