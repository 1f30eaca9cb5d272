"""Shifts by whole epochs: found in every scoring of the same night, in none of another night."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sleeptools.evaluation.shift import LEAST_SHIFTS, find_shift

BENCHES = Path(__file__).parents[2] / "benches"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHES)
    import shift_detection

    return shift_detection


def moved(stages: np.ndarray, by: int) -> np.ndarray:
    """Stages `by` epochs late."""
    late = np.full_like(stages, -1)
    begin, stop = max(0, by), min(len(stages), len(stages) + by)
    late[begin:stop] = stages[begin - by : stop - by]
    return late


def night(seed: int, epochs: int = 900) -> np.ndarray:
    """Stages with bouts of a few minutes."""
    rng = np.random.default_rng(seed)
    bouts = [np.full(rng.integers(1, 14), rng.integers(0, 5)) for _ in range(epochs)]
    return np.concatenate(bouts)[:epochs].astype(np.int8)


@pytest.mark.parametrize("by", [-120, -7, -1, 0, 2, 30, 120])
def test_a_shifted_copy_is_found_whatever_the_shift(by: int) -> None:
    """An hour of 30-s epochs, which a clock may be off by, is one of them."""
    stages, rng = night(1), np.random.default_rng(2)
    copy = np.where(rng.random(900) < 0.15, rng.integers(0, 5, 900), stages).astype(np.int8)
    shift = find_shift(stages, moved(copy, by), 5)
    assert shift.epochs == -by
    assert not shift.is_doubtful
    assert shift.kappa > 0.75
    text = shift.text("B")
    assert text == "" if not by else text.startswith(f"B agrees best {abs(by)} epoch")
    assert "later" in text if by < 0 else "later" not in text


def test_what_is_said_has_both_kappas() -> None:
    stages = night(3)
    shift = find_shift(stages, moved(stages, -2), 5)
    assert shift.text("B") == f"B agrees best 2 epochs later: 1.00 against {shift.unshifted:.2f}"


def test_other_nights_and_short_ones_have_no_shift() -> None:
    for seed in range(10):
        assert find_shift(night(seed), night(seed + 50), 5).epochs == 0
    short = night(1, LEAST_SHIFTS // 2)
    assert find_shift(short, moved(short, 2), 5).epochs == 0
    assert np.isnan(find_shift(short, moved(short, 2), 5).sharpness)


def test_one_stage_throughout_has_no_shift() -> None:
    awake = np.zeros(900, np.int8)
    assert find_shift(awake, awake, 5).epochs == 0


def test_real_nights_scored_again(real_data: Path, bench) -> None:
    """A few of the nights of the bench, on a grid 7 s off and without their first hour."""
    nights = dict(list(bench.read_nights(real_data).items())[::13])
    for way in (bench.once, bench.once_then_confused):
        result = bench.found_by(way, nights, range(1))
        assert (result["found"], result["reported_unshifted"]) == (7 * len(nights), 0), result
    assert bench.different(nights)["reported"] == 0


@pytest.mark.slow
def test_every_shift_of_39_real_nights(real_data: Path, bench) -> None:
    nights = bench.read_nights(real_data)
    assert len(nights) == 39
    result = bench.found_by(bench.once_then_confused, nights, range(1))
    assert abs(result["kappa"] - 0.76) < 0.005
    assert (result["found"], result["reported_unshifted"]) == (7 * 39, 0), result
    others = bench.different(nights)
    assert (others["pairs"], others["reported"]) == (39 * 38, 0)
