"""The order of the long tests where time is limited."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rotation


def test_each_seed_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    items, groups = range(40), ["a"] * 30 + ["b"] * 9 + ["c"]
    orders = []
    for seed in ("2026-01-01", "2026-01-02"):
        monkeypatch.setattr(rotation, "SEED", seed)
        order = rotation.rotated(items, groups)
        assert order == rotation.rotated(items, groups)
        assert sorted(order) == list(items)
        orders.append(order)
        begin = [groups[item] for item in order[: 2 * rotation.ROUND + 1]]
        assert sorted(begin) == ["a"] * rotation.ROUND + ["b"] * rotation.ROUND + ["c"]
        assert sum(a != b for a, b in itertools.pairwise(begin)) == 2  # in a row
    assert orders[0] != orders[1]


def test_a_sample_differs_by_seed_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    items = range(100)
    first = rotation.sample(items, 5, "convert")
    assert first == sorted(first) == rotation.sample(items, 5, "convert")
    assert first != rotation.sample(items, 5, "score")
    monkeypatch.setattr(rotation, "SEED", "another")
    assert first != rotation.sample(items, 5, "convert")
    assert rotation.sample(range(3), 5, "convert") == [0, 1, 2]


def collected(seed: str) -> list[str]:
    """Collect some long tests in a process of its own, in their order."""
    words = ["-m", "pytest", "-q", "--collect-only", "-m", "slow", "--time-box", "1"]
    done = subprocess.run(
        [sys.executable, *words, "tests/store", "tests/fuzz"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"SLEEPTOOLS_SEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_the_time_box_rotates() -> None:
    orders = [collected(seed) for seed in ("1", "1", "2")]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
