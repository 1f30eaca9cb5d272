"""A scoring lies where clocks, numbers and lengths say, or is refused with both spans."""

from dataclasses import replace
from datetime import datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sleeptools.errors import DataError
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import PLACEHOLDER, UNREADABLE, Hypnogram
from sleeptools.recording.recording import Recording, Signal
from sleeptools.recording.stages import SCORED, UNANNOTATED

START = datetime(2024, 3, 30, 22, 0)


def night(start: datetime | time | None = START, seconds: int = 28800) -> Recording:
    samples = np.zeros(seconds, np.float32)
    signal = Signal("EEG", 1.0, "uV", "eeg", seconds, lambda: samples)
    facts = {placing.START_TIME: start.isoformat()} if isinstance(start, time) else {}
    known = start if isinstance(start, datetime) else None
    return Recording("p", "p", 1, {"EEG": signal}, None, known, facts)


def scoring(epochs: int = 80, **fields: object) -> Hypnogram:
    return Hypnogram(np.zeros(epochs, np.int8), **fields)


MOMENTS = some.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1))
SHIFTS = some.integers(-4 * 3600, 4 * 3600)
DATED = some.sampled_from(["both", "signals", "scoring", "neither"])


@given(MOMENTS, SHIFTS, DATED)
def test_the_clock_places_with_and_without_dates(start: datetime, late: int, dated: str) -> None:
    """Over midnight, before the signals and after their start: only the difference counts."""
    begin = start + timedelta(seconds=late)
    known = start if dated in ("both", "signals") else start.time()
    told = begin if dated in ("both", "scoring") else begin.time()
    placed = placing.place(night(known), scoring(600, begin=told))
    assert placed.onset == pytest.approx(late)


@given(MOMENTS, SHIFTS, some.timedeltas(timedelta(days=-900), timedelta(days=900)))
def test_shifting_both_changes_nothing(start: datetime, late: int, shift: timedelta) -> None:
    begin = start + timedelta(seconds=late)
    one = placing.place(night(start), scoring(600, begin=begin))
    two = placing.place(night(start + shift), scoring(600, begin=begin + shift))
    assert one.onset == two.onset == late


def test_a_time_of_day_reaches_the_end_of_a_long_recording() -> None:
    """13 h after the start of 23 h of signals is not 11 h before it."""
    placed = placing.place(night(seconds=23 * 3600), scoring(60, begin=time(11, 0)))
    assert placed.onset == 13 * 3600


def test_an_unknown_start_is_no_zero() -> None:
    for begin in (time(22, 20), datetime(2024, 3, 30, 22, 20)):
        with pytest.raises(DataError, match="does not say when it began") as caught:
            placing.place(night(None), scoring(begin=begin), source="a.csv")
        assert caught.value.code == "HYP-START"
        placed = placing.place(night(None), scoring(begin=begin), way="start")
        assert placed.onset == 0
    assert placing.place(night(None), scoring(onset=60.0)).onset == 60


@pytest.mark.parametrize("any_length", [False, True])
@pytest.mark.parametrize("told", ["recording", "scoring"])
@given(first=some.integers(-5, 5), lacking=some.integers(-5, 5))
def test_a_placeholder_is_placed_by_length_or_not_at_all(
    told: str, any_length: bool, first: int, lacking: int
) -> None:
    """An anonymised file has no clock: it lies on the other where it covers all of it."""
    epochs = 100 - first - lacking
    if told == "recording":
        anonymous = replace(night(None, 3000), facts={placing.ANONYMISED: True})
        pair = anonymous, scoring(epochs, onset=30.0 * first, begin=START)
        reason = "does not say when it began"
    else:
        pair = night(seconds=3000), scoring(epochs, onset=30.0 * first, lost_start=PLACEHOLDER)
        reason = "its start is a placeholder"
    if abs(first) <= 2 and abs(lacking) <= 2:
        placed = placing.place(*pair, any_length=any_length)
        assert placed.onset == 30 * first
        assert "placed by its length" in placed.notes[0]
        return
    spans = f"its {30 * first}-{3000 - 30 * lacking} s lie on the signals' 0-3000 s"
    with pytest.raises(DataError, match=f"{reason}.*{spans}") as caught:
        placing.place(*pair, source="a.edf", any_length=any_length)
    assert caught.value.code == "HYP-START"
    assert caught.value.hint == (
        None if any_length else "`start=0` lays it at the start of the signals"
    )
    assert placing.place(*pair, way="start").onset == 30 * first


def test_two_placeholders_agree() -> None:
    anonymous = replace(night(None), facts={placing.ANONYMISED: True})
    assert placing.place(anonymous, scoring(onset=600, lost_start=PLACEHOLDER)).onset == 600
    for recording in (night(), anonymous):
        with pytest.raises(DataError, match="its start cannot be read"):
            placing.place(recording, scoring(960, lost_start=UNREADABLE))


@pytest.mark.parametrize("timing", ["none", "length"])
def test_labels_without_times_count_the_epochs_in_gaps(timing: str) -> None:
    """A program that joined what was recorded has labels for that only."""
    whole = night(seconds=2400)
    gaps = ((1200.0, 1800.0),)
    interrupted = replace(whole, signals={"EEG": replace(whole.signals["EEG"], gaps=gaps)})
    assert interrupted.seconds == 3000
    assert placing.place(interrupted, scoring(100, timing=timing)).onset == 0
    with pytest.raises(DataError, match="interrupted by 1 gap: 600 s at 1200 s") as caught:
        placing.place(interrupted, scoring(80, timing=timing))
    assert caught.value.code == "HYP-LENGTH"
    assert placing.place(interrupted, scoring(80)).onset == 0


def test_no_overlap_names_both_spans() -> None:
    with pytest.raises(DataError, match=r"scoring 07:00-07:40 on signals 22:00-06:00") as caught:
        placing.place(night(), scoring(begin=datetime(2024, 3, 31, 7, 0)), source="a.csv")
    assert caught.value.code == "HYP-SPAN"
    with pytest.raises(DataError, match="scoring 2025-03-30 22:00-2025-03-30 22:40 on signals"):
        placing.place(night(), scoring(begin=START.replace(year=2025)))


def test_numbers_place() -> None:
    placed = placing.place(night(None), scoring(first_epoch=5), way="number")
    assert placed.onset == 120


@pytest.mark.parametrize(
    ("epochs", "timing", "fits"),
    [
        (240, "none", True),
        (238, "none", True),
        (242, "none", True),
        (237, "none", False),
        (243, "none", False),
        (360, "none", False),
        (120, "none", False),
        (120, "length", True),
        (243, "length", False),
        (120, "times", True),
        (400, "times", True),
    ],
)
def test_labels_without_times_fit_the_signals(epochs: int, timing: str, fits: bool) -> None:
    recording, labels = night(seconds=7200), scoring(epochs, timing=timing)
    assert placing.place(recording, labels, any_length=True).onset == 0
    if fits:
        placed = placing.place(recording, labels)
        assert placed.onset == 0
        assert len(placed.notes) == (timing == "length")
        return
    with pytest.raises(
        DataError, match=rf"{epochs} labels x 30 s .* signals last 7200 s"
    ) as caught:
        placing.place(recording, labels)
    assert caught.value.code == "HYP-LENGTH"


@pytest.mark.parametrize(("epochs", "length"), [(360, 20), (120, 60), (720, 10), (1800, 4)])
def test_the_length_that_would_fit_is_named(epochs: int, length: int) -> None:
    with pytest.raises(DataError, match=f"{length} s an epoch would fit") as caught:
        placing.place(night(seconds=7200), scoring(epochs, timing="none"))
    assert f"`epoch_seconds={length}`" in str(caught.value.hint)


def test_spans_for_people() -> None:
    scored = scoring(916, onset=1200.0)
    assert placing.span_text(night(), scored) == "scoring 22:20-05:58 on signals 22:00-06:00"
    assert placing.span_text(night(None), scored) == "scoring 1200-28680 s on signals 0-28800 s"
    assert placing.span_text(night(time(22, 0)), scored).startswith("scoring 22:20-")
    half = replace(scored, onset=1200.5)
    assert placing.span_text(night(), half).startswith("scoring 22:20")
    assert placing.span_text(night()) == "signals 22:00-06:00"
    cut = night().scored([scoring(1000, onset=-60.0)])
    assert placing.span_text(cut) == "scoring 21:59-06:19 on signals 22:00-06:00"


@pytest.mark.parametrize("first", [1200, 960])
def test_epochs_that_nobody_annotated_cover_nothing(first: int) -> None:
    """A grid filled up to stages beyond the signals does not overlap with them."""
    stages = np.full(first + 80, -1, np.int8)
    stages[first:] = 0
    reasons = np.where(stages < 0, UNANNOTATED, SCORED).astype(np.int8)
    late = Hypnogram(stages, reasons=reasons)
    with pytest.raises(DataError, match="do not overlap") as caught:
        placing.place(night(seconds=first * 30), late)
    begin = START + timedelta(seconds=first * 30)
    assert f"scoring {begin:%H:%M}-" in str(caught.value)
    placed = placing.place(night(seconds=first * 30 + 3600), late)
    assert placing.span_text(night(), placed).startswith(f"scoring {begin:%H:%M}-")


@pytest.mark.parametrize("unit", [1000, 256, 100])
def test_times_in_another_unit_than_seconds_are_refused(unit: int) -> None:
    """Milliseconds and sample numbers make whole epochs of 30 s, too: all of them the first."""
    stages = np.repeat(np.arange(80) // 20, unit).astype(np.int8)
    for onset in (0.0, 60.0):
        with pytest.raises(DataError, match=r"lasts \d{6,7} s, and the signals 2400 s") as caught:
            placing.place(night(seconds=2400), Hypnogram(stages, onset=onset), source="a.tsv")
        assert "milliseconds" in str(caught.value.hint)
    assert placing.place(night(seconds=2400), Hypnogram(stages), any_length=True).onset == 0


def test_an_excerpt_of_a_scored_night_is_placed() -> None:
    assert placing.place(night(seconds=3600), scoring(960, onset=-7200.0)).onset == -7200
