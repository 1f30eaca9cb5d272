"""Scorings on one grid: by the clock, over midnight, off the grid, with other epochs or stages."""

from datetime import datetime, time, timedelta

import numpy as np
import pytest

from sleeptools.errors import DataError, UsageError
from sleeptools.recording.common_grid import align
from sleeptools.recording.hypnogram import PLACEHOLDER, Hypnogram
from sleeptools.recording.recording import Recording, Signal
from sleeptools.recording.stage_groups import merge, parse_groups
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES

EVENING = datetime(2024, 3, 9, 23, 50)


def scoring(codes, begin=EVENING, seconds=30.0, names=HUMAN_STAGES, **more) -> Hypnogram:
    return Hypnogram(np.array(codes, np.int8), names, seconds, begin=begin, **more)


def laid(*scorings: Hypnogram, **settings) -> list[list[int]]:
    names = [chr(ord("A") + k) for k in range(len(scorings))]
    return align(list(scorings), names, **settings).stages.tolist()


def test_a_later_start_is_matched_by_the_clock() -> None:
    later = scoring([2, 3], EVENING + timedelta(minutes=1))
    assert laid(scoring([0, 1, 2]), later) == [[0, 1, 2, -1], [-1, -1, 2, 3]]
    assert laid(later, scoring([0, 1, 2])) == [[-1, -1, 2, 3], [0, 1, 2, -1]]


@pytest.mark.parametrize("begin", [time(0, 0, 30), datetime(2024, 3, 10, 0, 0, 30)])
def test_midnight_is_crossed(begin) -> None:
    first = scoring([0] * 30)
    second = scoring([4], begin)
    assert align([first, second], ["A", "B"]).stages[1].tolist() == [-1] * 21 + [4] + [-1] * 8
    undated = scoring([0] * 30, time(23, 50))
    if isinstance(begin, time):
        assert align([undated, second], ["A", "B"]).stages[1, 21] == 4


def test_a_time_of_day_is_of_the_day_on_which_both_overlap() -> None:
    """13 h after the start, which is nearer as 11 h before it."""
    day = scoring([0] * 120 * 20, datetime(2024, 3, 9, 16))
    early = scoring([2, 2], time(5))
    assert np.flatnonzero(align([day, early], ["A", "B"]).stages[1] == 2).tolist() == [1560, 1561]


def test_onsets_count_from_the_recordings_start() -> None:
    """EDF+ and such have the clock of their first epoch, and its onset."""
    a = scoring([0, 1], EVENING + timedelta(seconds=60), onset=60.0)
    b = scoring([3, 0, 1], EVENING + timedelta(seconds=30), onset=30.0)
    aligned = align([a, b], ["A", "B"])
    assert (aligned.onset, aligned.begin) == (30.0, EVENING + timedelta(seconds=30))
    assert aligned.stages.tolist() == [[-1, 0, 1], [3, 0, 1]]


def test_a_grid_off_by_seconds_takes_what_overlaps_most_and_says_so() -> None:
    a = scoring([0, 1, 2, 3])
    for ahead, expected in ((7, [0, 1, 2, 3]), (-7, [0, 1, 2, 3]), (22, [-1, 0, 1, 2, 3])):
        aligned = align([a, scoring([0, 1, 2, 3], EVENING + timedelta(seconds=ahead))], ["A", "B"])
        assert aligned.stages[1].tolist()[: len(expected)] == expected
        (note,) = aligned.notes
        assert note.startswith(f"B's epochs begin {ahead % 30} s after those of A")
    assert align([a, a], ["A", "B"]).notes == ()


def test_epochs_of_different_lengths_share_a_grid_and_say_so() -> None:
    aligned = align([scoring([0, 2]), scoring([0, 0, 2], seconds=20.0)], ["A", "B"])
    assert aligned.epoch_seconds == 10
    assert aligned.stages.tolist() == [[0] * 3 + [2] * 3, [0] * 4 + [2] * 2]
    assert aligned.notes == (
        "epochs of different lengths (A 30 s, B 20 s): on a common grid of 10 s",
    )


def test_without_a_clock_only_on_request() -> None:
    timeless = scoring([0, 1], None)
    for first, second in ((scoring([0, 1]), timeless), (timeless, timeless)):
        with pytest.raises(DataError, match="nothing says when") as caught:
            laid(first, second)
        assert (caught.value.code, caught.value.exit_code) == ("HYP-START", 65)
        assert "`same_start`" in caught.value.hint
        assert laid(first, second, same_start=True) == [[0, 1], [0, 1]]
        assert align([first, second], ["A", "B"], same_start=True).notes[0].startswith("no clock")


def test_on_request_it_begins_with_the_others_recording() -> None:
    late = scoring([4], EVENING + timedelta(seconds=60), onset=60.0)
    assert laid(late, scoring([0, 1, 2], None), same_start=True) == [[-1, -1, 4], [0, 1, 2]]


def test_a_lost_start_is_told() -> None:
    with pytest.raises(DataError, match="its start is a placeholder"):
        laid(scoring([0]), scoring([0], None, lost_start=PLACEHOLDER))


def test_the_recording_places_all() -> None:
    signal = Signal("EEG", 1.0, "uV", "eeg", 120, lambda: np.zeros(120, np.float32))
    recording = Recording("r", "r", 1, {"EEG": signal}, start=EVENING)
    clocked = scoring([1, 1], EVENING + timedelta(seconds=30))
    counted = scoring([0, 1, 1, 2], None)
    aligned = align([clocked, counted], ["A", "B"], recording=recording)
    assert aligned.stages.tolist() == [[-1, 1, 1, -1], [0, 1, 1, 2]]
    assert aligned.begin == EVENING


def test_other_days_do_not_overlap() -> None:
    with pytest.raises(DataError, match="do not overlap") as caught:
        laid(scoring([0, 1]), scoring([0, 1], EVENING + timedelta(days=1)))
    assert caught.value.code == "HYP-SPAN"
    assert "2024-03-09 23:50:00" in str(caught.value)


def test_people_and_mice_are_refused() -> None:
    mouse = scoring([0, 1], seconds=4.0, names=MOUSE_STAGES)
    for groups in ((), parse_groups("3")):
        with pytest.raises(DataError, match="of a person, B of a mouse") as caught:
            laid(scoring([0, 1]), mouse, groups=groups)
        assert (caught.value.code, caught.value.exit_code) == ("HYP-STAGES", 65)


def test_other_stages_are_merged_only_on_request() -> None:
    three = scoring([0, 1, 2], names=MOUSE_STAGES)  # 30-s epochs of W, NREM, REM
    five = scoring([0, 3, 4])
    with pytest.raises(DataError, match="has the stages") as caught:
        laid(five, three)
    assert "`stages=3`" in caught.value.hint
    aligned = align([five, three], ["A", "B"], groups=parse_groups("3"))
    assert aligned.names == ("Wake", "NREM", "REM")
    assert aligned.stages.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_groups_of_stages() -> None:
    assert [g.name for g in parse_groups("4")] == ["Wake", "Light", "Deep", "REM"]
    named = parse_groups("N1+N2, W, SWS=N3, REM")
    assert [g.name for g in named] == ["W", "N1+N2", "SWS", "REM"]  # wake first
    stages = merge(np.array([0, 1, 2, 3, 4, -1], np.int8), HUMAN_STAGES, named, "A")
    assert stages.tolist() == [0, 1, 1, 2, 3, -1]
    with pytest.raises(DataError, match="stage N3 is in none of the groups"):
        merge(np.array([3], np.int8), HUMAN_STAGES, parse_groups("W,N1+N2,REM"), "A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("W,N9", "'N9' is no stage"),
        ("W,N1+N2,N2", "two groups"),
        ("W,A=N1,A=N2", "two groups"),
        ("W", "at least one other"),
        ("N1,N2", "expected wake"),
        ("7", "'7' is no stage"),
    ],
)
def test_groups_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_groups(text)
