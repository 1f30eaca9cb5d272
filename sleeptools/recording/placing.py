"""Where a scoring lies on its recording: the one place that decides when its first epoch begins.

A scoring has dates and clock times, a time of day alone, epoch numbers, or only an order; a
recording has a start, or only the time of day of it, or neither. Where what is known of both does
not say where the scoring lies, it is refused: no missing fact becomes second 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Final, Literal

from sleeptools.errors import DataError
from sleeptools.recording import timeline
from sleeptools.recording.hypnogram import DAY_SECONDS, PLACEHOLDER, Hypnogram, seconds_of_day
from sleeptools.recording.recording import Recording, before_fact, past_fact

Way = Literal["clock", "start", "number"]
"""How a scoring is placed: by the clock, as it stands from the recording's start, or by the
numbers of its epochs."""
START_TIME: Final = "time_of_day"
"""Fact of a recording of whose start only the time of day is known: "22:00:00"."""
ANONYMISED: Final = "anonymised"
"""Fact of a recording whose file has a placeholder for its start: true."""
SPARE_EPOCHS: Final = 2  # labels without times may differ from the signals by so many epochs
LONGEST_SCORING: Final = 20.0  # times as long as the signals: a night that has an hour of them
EPOCHS_OF_THE_FIELD: Final = (1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0, 15.0, 16.0, 20.0, 30.0, 60.0)  # s


def start_of(recording: Recording) -> datetime | time | None:
    """Return what is known of a recording's start: date and time, a time of day, or nothing."""
    text = recording.facts.get(START_TIME)
    return time.fromisoformat(text) if isinstance(text, str) and text else recording.start


def place(
    recording: Recording,
    hypnogram: Hypnogram,
    *,
    way: Way = "clock",
    source: str = "the scoring",
    any_length: bool = False,
) -> Hypnogram:
    """Place a scoring on its recording.

    Parameters
    ----------
    recording
        The signals, with their start if it is known, and their length.
    hypnogram
        The scoring as its file has it.
    way
        "clock": dates and clock times count where the scoring has them, and a time of day without
        a date lies within 12 h of the recording's start; "start": the times of day are passed
        over, and the scoring lies as it stands from the recording's start; "number": the epochs
        are counted from the recording's first one.
    source
        Name of the scoring's file, for messages.
    any_length
        A published data set, whose scorings are longer or shorter than their signals, and of
        which the user can set nothing.

    Returns
    -------
    placed
        The scoring with its onset in s from the recording's start; it may reach beyond the signals.

    Raises
    ------
    DataError
        If the start of only one of the two is known, unless the other is a placeholder and the
        scoring as long as the signals; if the two do not overlap, the scoring lasts more than 20
        times as long, or labels without times do not fit the length of the signals.
    """
    placed = hypnogram
    if way == "number":
        placed = replace(hypnogram, onset=(hypnogram.first_epoch - 1) * hypnogram.epoch_seconds)
    elif way == "clock" and (doubt := _lost_clock(recording, hypnogram)):
        placed = _by_length(recording, hypnogram, doubt, source, movable=not any_length)
    elif way == "clock" and hypnogram.begin is not None:
        placed = replace(hypnogram, onset=_by_clock(recording, hypnogram, hypnogram.begin))
    if not any_length:
        _check_length(recording, placed, source)
        _check_unit(recording, placed, source)
    if _overlap(recording, placed) <= 0:
        raise DataError(
            f"{source}: covers 0% of the signals, from {placed.onset:g} s on: they do not overlap: "
            f"{span_text(recording, placed)}",
            hint="is it the recording of that night?"
            + ("" if any_length else " `start` gives another place"),
            code="HYP-SPAN",
        )
    return placed if any_length else _noting_what_lacks(recording, placed)


def _noting_what_lacks(recording: Recording, hypnogram: Hypnogram) -> Hypnogram:
    """Note where labels without times end before the signals do."""
    lacking = int((recording.seconds - hypnogram.end + 1e-6) // hypnogram.epoch_seconds)
    if hypnogram.timing == "times" or lacking <= SPARE_EPOCHS:
        return hypnogram
    note = (
        f"{len(hypnogram)} labels x {hypnogram.epoch_seconds:g} s end {lacking} epochs before the "
        f"signals of {recording.seconds:g} s"
    )
    return replace(hypnogram, notes=(*hypnogram.notes, note))


def _lost_clock(recording: Recording, hypnogram: Hypnogram) -> str:
    """Say why the clocks of scoring and recording cannot be compared; "" if they can, or need not.

    Where both have a placeholder for their start, they agree on it.
    """
    start = start_of(recording)
    if hypnogram.begin is not None:
        begins = f"begins at {_clock_text(hypnogram.begin)}"
        return "" if start else f"{begins}, and {recording.id} does not say when it began"
    lost = hypnogram.lost_start
    if lost and (start or lost != PLACEHOLDER):
        return f"its start {lost}, and its times count from there"
    return ""


def _by_length(
    recording: Recording, hypnogram: Hypnogram, doubt: str, source: str, *, movable: bool
) -> Hypnogram:
    """Lay a scoring at the recording's start if one of the two is anonymised and they are as long.

    Raises
    ------
    DataError
        If it covers less or more, or the lost start is no placeholder; the message has both
        spans.
    """
    start, seconds = start_of(recording), recording.seconds
    begin, end = hypnogram.annotated_span()
    spare = SPARE_EPOCHS * hypnogram.epoch_seconds + 1e-6
    anonymised = hypnogram.lost_start == PLACEHOLDER
    if hypnogram.begin is not None:
        anonymised = bool(recording.facts.get(ANONYMISED))
    if anonymised and abs(begin) <= spare and abs(end - seconds) <= spare:
        note = f"placed by its length: {doubt}"
        return replace(hypnogram, notes=(*hypnogram.notes, note))
    known = f" from {_clock_text(start)} on" if start else ""
    raise DataError(
        f"{source}: {doubt}: nothing says where its {begin:.10g}-{end:.10g} s lie on the signals' "
        f"0-{seconds:.10g} s{known}",
        hint="`start=0` lays it at the start of the signals" if movable else None,
        code="HYP-START",
    )


def _by_clock(recording: Recording, hypnogram: Hypnogram, begin: datetime | time) -> float:
    """Compute the onset, s, from the clock times of both.

    A scoring a day off the signals is taken as of the other day that a time of day allows.
    """
    start = start_of(recording)
    assert start is not None
    near = clock_onset(start, begin)
    if isinstance(start, datetime) and isinstance(begin, datetime):
        return near
    other = near - DAY_SECONDS if near >= 0 else near + DAY_SECONDS
    overlaps = [_overlap(recording, replace(hypnogram, onset=onset)) for onset in (near, other)]
    return near if overlaps[0] > 0 or overlaps[1] <= 0 else other


def clock_onset(start: datetime | time, begin: datetime | time) -> float:
    """Seconds from a start to a begin; within 12 h of it if either is a time of day alone."""
    if isinstance(start, datetime) and isinstance(begin, datetime):
        return (begin - start).total_seconds()
    ahead = (seconds_of_day(begin) - seconds_of_day(start)) % DAY_SECONDS
    return ahead if ahead < DAY_SECONDS / 2 else ahead - DAY_SECONDS


def _overlap(recording: Recording, hypnogram: Hypnogram) -> float:
    """Length of the part that both cover, s; not above 0 if there is none.

    Epochs that nobody annotated, which fill the grid up to its ends, do not count.
    """
    begin, end = hypnogram.annotated_span()
    return min(end, recording.seconds) - max(begin, 0.0)


def _check_length(recording: Recording, hypnogram: Hypnogram, source: str) -> None:
    """Refuse labels without times whose number does not fit the signals."""
    length, seconds = hypnogram.epoch_seconds, recording.seconds
    spare = SPARE_EPOCHS * length + 1e-6
    too_long = hypnogram.timing != "times" and hypnogram.end > seconds + spare
    dense = hypnogram.timing == "none" or (hypnogram.timing == "length" and recording.gaps)
    too_short = dense and hypnogram.end < seconds - spare
    if not too_long and not too_short:
        return
    if recording.gaps:
        raise DataError(
            f"{source}: {len(hypnogram)} labels x {length:g} s without times, and signals of "
            f"{seconds:g} s that were interrupted by {timeline.gaps_text(recording.gaps)}: nothing "
            f"says whether the labels count the epochs in gaps ({span_text(recording, hypnogram)})",
            hint="export the scoring with the time of each epoch",
            code="HYP-LENGTH",
        )
    fitting = fitting_lengths(recording, hypnogram)
    hints = [f"`epoch_seconds={e:g}`" for e in fitting if e != length]
    if too_short:
        hints.append(f"`epoch_seconds={length:g}` if only a part is scored")
    raise DataError(
        f"{source}: {len(hypnogram)} labels x {length:g} s = {len(hypnogram) * length:g} s"
        + (f" from {hypnogram.onset:g} s on" if hypnogram.onset else "")
        + f", but the signals last {seconds:g} s"
        + (f"; {fitting[0]:g} s an epoch would fit" if fitting else "")
        + f" ({span_text(recording, hypnogram)})",
        hint=f"give {' or '.join(hints)}" if hints else "is it the scoring of that night?",
        code="HYP-LENGTH",
    )


def fitting_lengths(recording: Recording, hypnogram: Hypnogram) -> list[float]:
    """List the lengths of an epoch, s, with which labels without times end as the signals do."""
    count = hypnogram.onset / hypnogram.epoch_seconds + len(hypnogram)
    return [e for e in EPOCHS_OF_THE_FIELD if abs(count * e - recording.seconds) <= 2 * e]


def _check_unit(recording: Recording, hypnogram: Hypnogram, source: str) -> None:
    """Refuse a scoring that lasts many times as long as its signals: its unit is no second."""
    begin, end = hypnogram.annotated_span()
    if end - begin > LONGEST_SCORING * recording.seconds:
        raise DataError(
            f"{source}: lasts {end - begin:.10g} s, and the signals {recording.seconds:.10g} s: "
            f"{span_text(recording, hypnogram)}",
            hint="are its times in samples or milliseconds? write them in seconds",
            code="HYP-SPAN",
        )


# --- the two spans, for people --------------------------------------------------------------------


def span_text(recording: Recording, hypnogram: Hypnogram | None = None) -> str:
    """Say where a scoring lies: "scoring 22:20-05:58 on signals 22:00-06:00".

    Without a scoring, the text is "signals 22:00-06:00"; see `spans`.
    """
    scoring, signals = spans(recording, hypnogram)
    return f"scoring {scoring} on signals {signals}" if scoring else f"signals {signals}"


def spans(recording: Recording, hypnogram: Hypnogram | None = None) -> tuple[str, str]:
    """Write the times that a scoring and the signals cover: "22:20-05:58" and "22:00-06:00".

    Parameters
    ----------
    recording
        The signals.
    hypnogram
        The scoring; the recording's own, with the epochs that were cut off, if left out.

    Returns
    -------
    scoring, signals
        Clock times, with dates where scoring and signals lie more than a day apart; seconds from
        the start of the signals where their start is unknown; empty for a scoring that is not
        there.
    """
    scoring = hypnogram or recording.hypnogram
    begin, end = scoring.annotated_span() if scoring else (0.0, recording.seconds)
    if scoring is not None and hypnogram is None:
        if before := float(recording.facts.get(before_fact(1), 0)):
            begin = scoring.onset - before * scoring.epoch_seconds
        if past := float(recording.facts.get(past_fact(1), 0)):
            end = scoring.end + past * scoring.epoch_seconds
    times = (begin, end, 0.0, recording.seconds)
    texts, unit = _time_texts(start_of(recording), times)
    signals = f"{texts[2]}-{texts[3]}{unit}"
    return (f"{texts[0]}-{texts[1]}{unit}" if scoring else ""), signals


def _time_texts(start: datetime | time | None, times: Sequence[float]) -> tuple[list[str], str]:
    """Write times, s from a start, by the clock, or as they are with their unit."""
    if start is None:
        return [f"{t:.10g}" for t in times], " s"
    first = start if isinstance(start, datetime) else datetime.combine(datetime(2000, 1, 1), start)
    moments = [first + timedelta(seconds=t) for t in times]
    dated = isinstance(start, datetime) and max(map(abs, times)) > 2 * DAY_SECONDS
    form = "%F " * dated + ("%H:%M:%S" if any(m.second for m in moments) else "%H:%M")
    return [f"{m:{form}}" for m in moments], ""


def _clock_text(moment: datetime | time) -> str:
    return f"{moment:%F %T}" if isinstance(moment, datetime) else f"{moment:%T}"
