"""The whole chain through the command line, as a shell script would run it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sleeptools import store
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.runs.folds import FOLD_PROTOCOLS, LEAK_FREE

QUICK = ("--passes", 1, "--set", "recipe.batch=32", "--set", "recipe.learning_rate=0.001")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw nights, epochs, and a run of both protocols."""
    from sleeptools.cli import run

    folder = tmp_path_factory.mktemp("chain")
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert run(["simulate", "sleep-edf", "raw", "--subjects", "3", "--hours", "1"]) == 0
        assert run(["preprocess", "sleep-edf", "raw"]) == 0
        both = ["--protocol", "leak-free,best-on-test"]
        assert run(["train", "--folds", "3", *both, *map(str, QUICK)]) == 0
    finally:
        os.chdir(here)
    return folder


def test_evaluate_counts_every_epoch_once(command, chain: Path) -> None:
    ran = command("evaluate", "--json", cwd=chain)
    assert ran.code == 0, ran.err
    (found,) = json.loads(ran.out)
    assert found["simulated"] is True
    truth = open_epochs(chain / "epochs").stages
    assert {r["protocol"] for r in found["results"]} == {"leak-free", "best-on-test"}
    for result in found["results"]:
        assert result["optimistic"] == (result["protocol"] == "best-on-test")
        assert np.sum(result["confusion"], 1).tolist() == np.bincount(truth, minlength=5).tolist()
    tidy = pl.read_csv(chain / "runs/mmasleepnet/metrics.csv", infer_schema_length=None)
    assert {"run", "protocol", "seed", "fold", "recording", "subject", "metric", "stage"} < set(
        tidy.columns
    )


def test_evaluate_table_says_what_it_is(command, chain: Path) -> None:
    ran = command("evaluate", cwd=chain)
    assert ran.code == 0
    assert "simulated" in ran.out
    for words in ("kappa", "macro f1", "g mean", "best-on-test", "REM", "SC401"):
        assert words in ran.out


def test_report_is_one_honest_file(command, chain: Path) -> None:
    ran = command("report", cwd=chain)
    assert ran.code == 0, ran.err
    assert ran.out.strip() == "report.html"
    page = (chain / "report.html").read_text()
    for words in ("simulated", "not a medical device", "optimistic", "10.3389/fnins.2022.973761"):
        assert words.lower() in page.lower()
    assert page.count("http-equiv") == page.count("default-src 'none'") == 1  # loads nothing
    assert 'src="http' not in page


def test_no_subject_stands_on_two_sides(chain: Path) -> None:
    run = chain / "runs/mmasleepnet"
    table = store.read_table(run / "folds.parquet")
    for (protocol, fold), rows in table.group_by("protocol", "fold"):
        roles = dict(zip(rows["subject"], rows["role"], strict=True))
        assert len(roles) == len(rows) == 3, (protocol, fold)
    for protocol in FOLD_PROTOCOLS:
        for folder in sorted((run / protocol / "seed-0").iterdir()):
            audit = pl.read_csv(folder / "audit.csv")
            reads = audit.filter(pl.col("purpose") == "score")
            assert len(reads) == 1
            assert (len(audit) == 1) == (protocol == LEAK_FREE)


def test_status_and_verify(command, chain: Path) -> None:
    ran = command("status", "--json", cwd=chain)
    assert json.loads(ran.out)["missing"] == []
    for folder in ("epochs", "raw"):
        assert command("verify", folder, cwd=chain).code == 0


def test_running_again_changes_nothing(command, chain: Path) -> None:
    run = chain / "runs/mmasleepnet"
    before = {p: p.stat().st_mtime_ns for p in run.rglob("predictions.parquet")}
    again = command(
        "train", "--folds", 3, "--protocol", "leak-free,best-on-test", *QUICK, cwd=chain
    )
    assert again.code == 0
    assert {p: p.stat().st_mtime_ns for p in run.rglob("predictions.parquet")} == before


def test_another_config_is_refused_with_the_difference(command, chain: Path) -> None:
    ran = command("train", "--folds", 3, "--passes", 2, cwd=chain)
    assert ran.code == 73
    assert "passes" in ran.err
    assert "hint: " in ran.err


def test_every_manifest_says_simulated(chain: Path) -> None:
    found = [store.read_json(p) for p in sorted(chain.rglob("manifest.json"))]
    assert {m["format"] for m in found} == {
        "sleeptools-simulated",
        "sleeptools-epochs",
        "sleeptools-run",
        "sleeptools-evaluation",
    }
    assert all(m["simulated"] is True for m in found)


def test_the_patient_is_in_no_output(command, chain: Path, tmp_path: Path) -> None:
    planted, count = b"Jane_Doe_01-JAN-1970", 0
    for path in sorted((chain / "raw").glob("*.edf")):
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:8] + planted.ljust(80) + data[88:])
        count += 1
    assert count == 6
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in sorted(tmp_path.glob("*.edf")):
        path.rename(raw / path.name)
    assert command("convert", "sleep-edf", "raw").code == 0
    assert command("preprocess", "sleep-edf").code == 0
    assert command("train", "--folds", 2, *QUICK).code == 0
    assert command("report").code == 0
    said = command("inspect", "raw")
    outputs = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != raw]
    assert len(outputs) > 20
    assert not [p for p in outputs if b"Jane" in p.read_bytes()]
    assert "Jane" not in said.out


@pytest.mark.slow
def test_interrupted_from_the_terminal(command, chain: Path, tmp_path: Path) -> None:
    arguments = ["train", chain / "epochs", tmp_path / "run", "--folds", 3, *QUICK]
    with subprocess.Popen(
        [sys.executable, "-m", "sleeptools.cli", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        assert "pass 1/1" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 75
    assert "run" in rest.splitlines()[-1]
    assert len(list(tmp_path.rglob("state.safetensors"))) == 1
    assert command(*arguments).code == 0
    for fold in range(3):
        place = f"leak-free/seed-0/fold-{fold:02d}/model.safetensors"
        whole = (chain / "runs/mmasleepnet" / place).read_bytes()
        same = (tmp_path / "run" / place).read_bytes() == whole
        assert same, place  # pytest would take for ever to show where megabytes differ


def test_damaged_epochs_are_never_trained_on(command, chain: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(chain / "epochs", tmp_path / "epochs")
    path = tmp_path / "epochs/SC4011.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    ran = command("train", "--folds", 3, *QUICK)
    assert ran.code == 65
    assert "SC4011.safetensors: content differs" in ran.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_final_model_of_everybody(command, chain: Path, tmp_path: Path) -> None:
    ran = command("train", chain / "epochs", "run", "--final", *QUICK)
    assert ran.code == 0, ran.err
    assert (tmp_path / "run/final/model.safetensors").exists()
    listed = command("list", "models", "run", "--json")
    assert [m["name"] for m in json.loads(listed.out)] == ["final"]


@pytest.mark.slow
def test_the_two_lines_of_the_readme(command, tmp_path: Path) -> None:
    begun = time.monotonic()
    assert command("simulate", "sleep-edf", "raw", "--subjects", 20, "--hours", 1).code == 0
    assert command("preprocess", "sleep-edf", "raw").code == 0
    ran = command("train", "--folds", 20, "--passes", 1)
    assert ran.code == 0, ran.err
    assert command("evaluate").code == 0
    assert len(list(tmp_path.rglob("predictions.parquet"))) == 20
    print(f"20 folds of 20 subjects took {time.monotonic() - begun:.0f} s")
