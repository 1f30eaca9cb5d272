"""The epoch grid: what is annotated, what is not, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sleeptools.errors import DataError
from sleeptools.recording import hypnogram, label_schemes, stages

TEXTS = sorted(label_schemes.EDF_TEXTS)
RUNS = some.lists(some.tuples(some.sampled_from(TEXTS), some.integers(1, 20)), min_size=1)


def events_of(runs: list[tuple[str, int]], lead_in: int = 0) -> list[hypnogram.Event]:
    onset, events = lead_in * 30.0, []
    for text, count in runs:
        events.append((onset, count * 30.0, text))
        onset += count * 30.0
    return events


@given(RUNS, some.integers(0, 10))
def test_every_annotated_second_is_accounted_for(runs: list[tuple[str, int]], lead_in: int) -> None:
    found = hypnogram.from_events(events_of(runs, lead_in), label_schemes.EDF_TEXTS)
    counts = found.counts()
    assert sum(counts.values()) == len(found) == lead_in + sum(n for _, n in runs)
    assert counts["unannotated"] == lead_in
    for stage in stages.HUMAN_STAGES:
        wanted = sum(n for text, n in runs if label_schemes.EDF_TEXTS[text] == stage)
        assert counts[stage] == wanted


@given(RUNS, some.integers(0, 10))
def test_events_round_trip(runs: list[tuple[str, int]], lead_in: int) -> None:
    found = hypnogram.from_events(events_of(runs, lead_in), label_schemes.EDF_TEXTS)
    names = {n: n for n in (*stages.HUMAN_STAGES, *stages.REASONS)}
    again = hypnogram.from_events(found.events(), names)
    assert np.array_equal(again.stages, found.stages)
    assert np.array_equal(again.reasons, found.reasons)


def test_unknown_text_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="unknown stage text 'Sleep stage 9'") as caught:
        hypnogram.from_events([(0, 30, "Sleep stage 9")], label_schemes.EDF_TEXTS, source="x.edf")
    assert "Sleep stage W" in str(caught.value.hint)


@pytest.mark.parametrize(
    "events",
    [
        [(0, 45, "Sleep stage W")],
        [(0, 30, "Sleep stage W"), (40, 30, "Sleep stage W")],
        [(0, 1e12, "Sleep stage W")],
        [(0, 0, "Sleep stage W")],
        [(0, 60, "Sleep stage W"), (30, 30, "Sleep stage 2")],
        [],
    ],
    ids=["half an epoch", "off the grid", "endless", "no duration", "two stages", "none"],
)
def test_refuses(events: list[hypnogram.Event]) -> None:
    with pytest.raises(DataError):
        hypnogram.from_events(events, label_schemes.EDF_TEXTS)


def test_equal_stages_may_overlap() -> None:
    events = [(0, 60, "Sleep stage 3"), (30, 60, "Sleep stage 4")]
    assert hypnogram.from_events(events, label_schemes.EDF_TEXTS).counts()["N3"] == 3


@pytest.mark.parametrize(("seconds", "kept"), [(90, 3), (89.9, 2), (1e9, 4), (0, 0)])
def test_clipped_keeps_whole_epochs(seconds: float, kept: int) -> None:
    found = hypnogram.from_events([(0, 120, "Sleep stage R")], label_schemes.EDF_TEXTS)
    assert len(found.clipped(seconds)) == kept


def test_clipped_drops_what_lies_before_the_recording() -> None:
    whole = hypnogram.Hypnogram(np.array([0, 1, 2, 3], np.int8), onset=-60.0)
    part = whole.clipped(1000)
    assert part.stages.tolist() == [2, 3]
    assert part.onset == 0
