"""The benches' timing: what it must not hide."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sleeptools.commands.train import TrainOptions, train
from synthetic_epochs import write_epochs

BENCHES = Path(__file__).parents[2] / "benches"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the variables: some benches choose the threads of their process as they begin."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHES)
    from instruments import timing

    return timing


def test_every_contender_is_timed_in_every_turn(timing, monkeypatch) -> None:
    now = [0.0]
    calls: list[str] = []
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 2 * now[0])
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "settle", lambda: calls.append("settle"))

    def work(name: str, seconds: float) -> None:
        calls.append(name)
        now[0] += seconds

    ready = {
        0: timing.Ready(partial(work, "slow", 0.04)),
        1: timing.Ready(partial(work, "fast", 0.01)),
    }
    taken = timing.in_turn(ready, 5)
    assert taken[0].seconds == pytest.approx([0.04] * 5)
    assert taken[1].cores == pytest.approx(2)
    assert timing.ratio(taken[1], taken[0]) == pytest.approx(4)
    assert taken[1].share(2e9, {"fp32": 400}, "fp32") == pytest.approx(0.5)
    blocks = [list(group) for key, group in groupby(calls, "settle".__ne__) if key]
    assert len(blocks) == calls.count("settle") == 2 * (5 + 1)
    assert all(len(set(block)) == 1 and len(block) > 1 for block in blocks)
    assert {block[0] for block in blocks[::2]} == {"slow", "fast"}  # the order changes


def test_a_contender_that_cannot_run_is_named_and_not_left_out(timing) -> None:
    def missing(case: int) -> None:
        import a_library_that_is_not_there  # noqa: F401

    def refused(case: int) -> None:
        raise timing.AbsentError(f"no arithmetic for {case}")

    race = [timing.Contender("a", "fp32", missing), timing.Contender("b", "fp32", refused)]
    race.append(timing.Contender("c", "fp32", lambda case: timing.Ready(lambda: case)))
    ready, absent = timing.prepare(race, 7)
    assert absent == {0: "not installed (a_library_that_is_not_there)", 1: "no arithmetic for 7"}
    assert ready[2].run() == 7


def test_a_thread_that_spins_for_ever_is_refused(timing, monkeypatch) -> None:
    monkeypatch.setattr(timing, "SPIN_LIMIT", 0.01)
    arguments = ("sha256", b"", b"", 1_000_000)  # about half a second without the interpreter lock
    spinning = threading.Thread(target=hashlib.pbkdf2_hmac, args=arguments)
    spinning.start()
    with pytest.raises(RuntimeError, match="spin for ever"):
        timing.settle()
    spinning.join()


def test_a_thread_that_waits_is_no_hindrance(timing) -> None:
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    timing.settle()
    assert waiting.is_alive()
    end.set()


def test_a_wrong_answer_shows(timing) -> None:
    import forward

    right = forward.centred(np.array([[1.0, 2.0, 6.0], [4.0, 1.0, 1.0]], np.float32))
    same = forward.centred(np.log(np.exp(right) / np.exp(right).sum(1, keepdims=True)))
    counts = {"same_stage": 2, "epochs": 2}
    assert forward.agreement(same, right) == {"error": pytest.approx(0, abs=1e-6), **counts}
    wrong = forward.agreement(right[::-1], right)
    assert wrong["same_stage"] == 0
    assert wrong["error"] == pytest.approx(4 / 3)


def test_the_products_are_counted_from_the_layers(timing, monkeypatch) -> None:
    import torch

    from instruments import material

    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 3000, 5))
    monkeypatch.setattr(material, "night", lambda: np.empty((1, 4, 3000), np.float32))
    assert material.flops(layers) == 2 * 4 * 3000 * 5
    assert material.flops(layers, backward=True) == 2 * (2 * 4 * 3000 * 5)  # no gradient of x


def test_a_model_that_is_not_measured_keeps_its_row(timing, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import models

    row = {
        "model": "attnsleep",
        "kappa": 0.5,
        "macro_f1": 0.25,
        "parameters": 522805,
        "macs": 64e6,
        "passes": 3,
        "commit": "abc",
        "batch": 128,
        "learning_rate": 1e-3,
        "seconds": 870.4,
    }
    head = {"budget": 900.0, "seed": 7, "machine": "one", "commit": "c"}
    page = models.markdown({**head, "rows": {"human": {"attnsleep": row}}})
    assert "| attnsleep | 0.500 | 0.250 | 522,805 | 64.0 M | 3 | 128 | 0.001 | 870 |" in page
    assert "| mouse-cnn | not measured yet |" in page
    assert sum(len(kind.names) for kind in models.KINDS.values()) == 10
    assert models.macs("ulw-sleepnet", {}) == 3_498_352


@pytest.mark.usefixtures("one_thread")
def test_budgets_are_spent_in_whole_passes_or_a_part_of_one(timing, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import models

    assert models.passes(models.Cost(100, 10, 50), 900) == 7
    assert models.passes(models.Cost(2000, 50, 100), 900) == pytest.approx(705 / 2000)
    epochs = write_epochs(tmp_path / "epochs")
    small = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 8}}
    wanted = TrainOptions(
        folds=2, fold=0, passes=1, settings=small, threads=1, explain=False, device="cpu"
    )
    steps = {}
    for share in (1.0, 0.25):
        seen = steps[share] = []
        train(
            epochs,
            tmp_path / f"{share}",
            wanted,
            on_progress=lambda p, seen=seen: seen.append(p.steps),
            trainer=models.part_of_a_pass(share, 3),
        )
    whole, part = (set(seen) for seen in steps.values())
    assert whole == {3}
    assert part == {1}
    assert (tmp_path / "0.25/leak-free/seed-0/fold-00/predictions.parquet").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "forward",
        "training",
        "night",
        "mouse_night",
        "instructions",
        "peak",
        "models",
        "network_transfer",
    ],
)
def test_the_benches_start(name: str) -> None:
    command = [sys.executable, str(BENCHES / f"{name}.py"), "--help"]
    subprocess.run(command, check=True, capture_output=True)


def test_growth_is_what_a_further_subject_costs(monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    import scale

    sizes = (4, 20, 78)
    assert scale.growth(sizes, [7 + 0.5 * n for n in sizes]) == pytest.approx(1)
    assert scale.growth(sizes, [n**2 for n in sizes]) == pytest.approx(98 / 24)
    rows = [
        {
            "subjects": n,
            "epochs": 2500 * n,
            "commands": {c: {"wall": 9.0, "cpu": 1.0 + n, "memory": 100 + n} for c in scale.CHAIN},
        }
        for n in sizes
    ]
    jobs = [{"jobs": n, "wall": 8.0 / n, "cpu": 8.0, "memory": 100 * n} for n in (1, 2)]
    page = scale.markdown({**scale.provenance.facts(), "sizes": rows, "workers": jobs})
    assert "| train | 5.0 | 21.0 | 79.0 | 1.00 | 1.00 | 104 | 120 | 178 |" in page
    assert "| 2 | 4.0 | 8.0 | 200 |" in page
    assert "78 (195,000 epochs)" in page

    measured = scale.measure("simulate sleep-edf raw --subjects 1 --hours 0.5 --fast", tmp_path, {})
    assert measured["wall"] > 0
    assert 0.1 < measured["cpu"] < 600
    assert 20 < measured["memory"] < 2000
    with pytest.raises(RuntimeError, match="unknown data set"):
        scale.measure("simulate nothing elsewhere", tmp_path, {})


def test_a_lost_channel_costs_the_difference_of_the_same_nights(monkeypatch) -> None:
    """A model that knows nothing has nothing to lose, and meets no goal by that."""
    monkeypatch.syspath_prepend(BENCHES)
    import montage

    rng = np.random.default_rng(0)
    nights, seeds, size = 6, 2, len(montage.CONDITIONS)
    right = np.eye(5, dtype=int) * rng.integers(80, 120, (nights, 1, seeds, 5, 1))
    wrong = rng.integers(0, 3, (nights, size, seeds, 5, 5))
    wrong[:, -1] *= 6
    wrong[:, 1] = wrong[:, 0]  # a gain that is scaled away
    rows = montage.losses(right + wrong, list(montage.CONDITIONS))
    pooled = montage.metrics.kappa((right + wrong).sum(0)).mean(-1)
    assert [row["kappa"] for row in rows] == pytest.approx(pooled.tolist())
    assert [row["loss"] for row in rows] == pytest.approx((pooled[0] - pooled).tolist())
    assert rows[0]["met"]
    assert rows[1]["met"]
    assert 0 < rows[-1]["interval"][0] < rows[-1]["loss"] < rows[-1]["interval"][1]
    assert rows[1]["interval"] == [0, 0]
    ignorant = montage.losses(np.ones_like(right + wrong), list(montage.CONDITIONS))
    assert [row["loss"] for row in ignorant] == [0] * size
    assert not any(row["met"] for row in ignorant)
    for night in range(20):
        drawn = montage.factors("gains", 4, np.random.default_rng([night, 1]))
        assert {first for first, _ in drawn} == {0.5, 2.0}
    assert montage.factors("step", 2, rng) == [(1.0, 2.0)] * 2


def test_a_piece_is_laid_over_the_wake_before_sleep(monkeypatch) -> None:
    """Before scaling, in the channels given, and where the scorer saw wake."""
    monkeypatch.syspath_prepend(BENCHES)
    import network_transfer

    stages = np.array([0, 0, 0, 0, 2, 0, 2], np.int8)
    rng = np.random.default_rng(0)
    night = rng.standard_normal((7, 4, 50), np.float32)
    piece = 100 * rng.standard_normal((3, 4, 50), np.float32)
    laid = network_transfer.laid_in(night, stages, piece, [0, 3])
    assert np.array_equal(laid[1:4, [0, 3]], piece[:, [0, 3]])
    assert np.array_equal(laid[1:4, [1, 2]], night[1:4, [1, 2]])
    assert np.array_equal(laid[[0, 4, 5, 6]], night[[0, 4, 5, 6]])
    scaled = network_transfer.scaled(laid, "robust")
    channel = scaled[:, 3].ravel()
    assert np.ptp(np.percentile(channel, [25, 75])) == pytest.approx(1, abs=1e-5)
    assert scaled[2, 1] == pytest.approx(network_transfer.scaled(night, "robust")[2, 1])
    assert not np.allclose(scaled[0, 3], network_transfer.scaled(night, "robust")[0, 3])
    with pytest.raises(ValueError, match="4 epochs of wake before sleep"):
        network_transfer.laid_in(night, stages, np.tile(piece, (2, 1, 1)), [0])


def test_nights_of_other_constants_are_the_same_everywhere_and_differ(monkeypatch) -> None:
    monkeypatch.syspath_prepend(BENCHES)
    from instruments import other_constants
    from sleeptools.datasets.simulation.calibration import calibrated

    first, second = (other_constants.moved_constants(n) for n in (0, 1))
    assert np.array_equal(first.levels_uv, other_constants.moved_constants(0).levels_uv)
    moves = [np.log(c.levels_uv / calibrated().levels_uv) for c in (first, second)]
    assert abs(moves[0] - moves[1]).max() > 0.1
    for move in moves:  # a stage against another stays as it was
        assert move.std(1) == pytest.approx(0, abs=1e-12)
        assert 0.1 < move[:, 0].std() < 0.6
    night = other_constants.moved_night(0, hours=2.0)
    assert {"EEG C4-M1", "EMG chin", "EOG horizontal"} <= set(night.recording.signals)
