"""`make gpu` without a GPU: it refuses, and its bench is tried on the CPU, all but CUDA itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gpu
from instruments import device_steps, gpu_machine
from instruments.timing import AbsentError
from sleeptools import store

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benches/results"
DRY_RUN = ("--device", "cpu", "--model", "ulw-sleepnet", "--batches", 2, "--inference-batch", 2)
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@needs_no_gpu
def test_make_gpu_refuses_at_once_and_says_why() -> None:
    command = ["make", "-s", "gpu", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"error: make gpu: PyTorch {torch.__version__}" in done.stderr
    assert "sees no GPU" in done.stderr
    assert done.stdout == ""


def test_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [line.split()[0] for line in gpu_machine.obstacles()] == ["PyTorch", "no", "no"]
    monkeypatch.setattr(gpu_machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_machine.obstacles() == []


def test_the_stored_table_is_that_of_the_stored_rows() -> None:
    report = json.loads((RESULTS / "gpu.json").read_text())
    assert (RESULTS / "gpu.md").read_text() == gpu.markdown(report)
    if not report["rows"] or report["facts"]["device"] == "cpu":
        assert "Not run on a GPU yet" in gpu.markdown(report)


@pytest.mark.slow
def test_a_dry_run_keeps_its_rows_and_goes_on(tmp_path: Path) -> None:
    words = ["--folds", 2, "--seconds", 0.01, "--out", tmp_path]
    command = [sys.executable, ROOT / "benches/gpu.py", *DRY_RUN, *words]
    command = [str(word) for word in command]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    assert run("--minutes", "0").returncode == gpu.AGAIN
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    by_contender = {(r["kind"], r["contender"], r["precision"]): r for r in rows}
    absent = {key for key, row in by_contender.items() if "absent" in row}
    assert {key[1] for key in absent} <= {"+ CUDA graph", "stacked + CUDA graph"}
    for name in ("PyTorch eager", "stacked by torch.func"):
        assert by_contender["training", name, "fp32"]["error"] < 1e-2
    assert by_contender["inference", "PyTorch eager", "fp32"]["error"] < 1e-4
    table = (tmp_path / "gpu.md").read_text()
    assert "Dry run on a CPU" in table
    assert "Not run on a GPU yet" in table
    report = json.loads((tmp_path / "gpu.json").read_text())
    report["rows"].remove(by_contender["limit", "copy", ""])
    (tmp_path / "gpu.json").write_text(json.dumps(report))
    done = run()
    assert done.stdout.count(" s  ") == 1
    assert "limit | copy" in done.stdout
    rows_again = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [r for r in rows_again if r["contender"] != "copy"] == report["rows"]


@pytest.fixture
def bench(tmp_path: Path) -> gpu.Bench:
    """A bench without a model: rows alone."""
    made = object.__new__(gpu.Bench)
    made.begun, made.device = 0.0, torch.device("cpu")
    made.file, made.rows = tmp_path / "gpu.json", {}
    general = {"commit": "abc", "device": "cpu", "model": "none", "folds": 2, "native": "native"}
    made.facts = gpu.provenance.facts("torch") | general
    made.flops = {"training": 3e6, "inference": 1e6}
    return made


def test_rows_that_cannot_be_are_kept_with_the_reason(bench, monkeypatch, tmp_path) -> None:
    errors = iter(
        [
            AbsentError("a CUDA graph needs a GPU"),
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("CUDA error: an illegal memory access\nmore lines"),
        ]
    )

    def measured(case: gpu.Case) -> dict:
        raise next(errors)

    monkeypatch.setattr(bench, "measured", measured)
    cases = [gpu.Case("training", "PyTorch eager", "fp32", batch) for batch in (1, 2, 3)]
    for case in cases:
        bench.add(case)
    assert [bench.rows[case].get("absent") for case in cases] == [
        "a CUDA graph needs a GPU",
        "out of memory",
        None,
    ]
    assert bench.rows[cases[2]]["failed"] == "RuntimeError: CUDA error: an illegal memory access"
    assert gpu.kept_rows(bench.file, bench.facts) == bench.rows
    assert gpu.kept_rows(bench.file, bench.facts | {"commit": "abc-dirty"}) == bench.rows
    assert gpu.kept_rows(bench.file, bench.facts | {"commit": "def"}) == {}
    assert gpu.kept_rows(bench.file, bench.facts | {"device": "NVIDIA H200"}) == {}
    assert "**failed**: RuntimeError" in (tmp_path / "gpu.md").read_text()


def test_a_card_that_has_failed_is_used_by_a_new_process(bench, monkeypatch) -> None:
    started = []
    case = gpu.Case("limit", "copy", "", 0)
    bench.rows[case] = case._asdict() | {"failed": "RuntimeError: CUDA error: misaligned"}

    def restart(program: str, words: list[str]) -> None:
        started.append(words)
        raise SystemExit(0)

    monkeypatch.setattr(gpu, "Bench", lambda options: bench)
    monkeypatch.setattr(bench, "add", lambda case: None)
    monkeypatch.setattr(bench, "cases", lambda: iter([case]), raising=False)
    monkeypatch.setattr(gpu.os, "execv", restart)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--again"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert started == [[sys.executable, "gpu.py", "--device", "cpu"]]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit, match="1 rows failed"):
        gpu.main()


def test_touched_bytes_are_those_read_and_written() -> None:
    x = torch.zeros(10)
    with gpu.TouchedBytes() as count:
        (x + x).view(2, 5).t()
        x.mul_(2)
    assert count.total == (3 + 2) * 10 * 4


def test_the_stacked_step_is_that_of_separate_ones() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
    x, stages = torch.randn(4, 2, 3), torch.tensor([0, 1, 2, 0])
    recipe = SimpleNamespace(
        optimiser="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, loss="weighted_ce"
    )
    setup = device_steps.Setup(network, x, stages, None, recipe, "fp32", 0.0, 3)
    works = [make(setup) for make in (device_steps.training_step, device_steps.stacked_step)]
    for work in works:
        work.run()
    assert [work.inputs for work in works] == [4, 12]
    torch.testing.assert_close(works[1].result(), works[0].result())
    with pytest.raises(AbsentError, match="needs a GPU"):
        device_steps.graphed(device_steps.training_step, setup)


def test_store_reads_what_it_wrote(bench, tmp_path) -> None:
    store.write_json(tmp_path / "empty.json", {"facts": {}, "flops": {}, "rows": []})
    assert gpu.kept_rows(tmp_path / "empty.json", bench.facts) == {}
    assert gpu.kept_rows(tmp_path / "none.json", bench.facts) == {}
