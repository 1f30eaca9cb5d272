"""One fold by two processes: the same weights in both, the loss of one, ends and restarts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from sleeptools import store
from sleeptools.errors import Stopped, UsageError
from sleeptools.training.loop import steps
from sleeptools.training.shared import Ranks, lost_processes, ranks_of_environment
from synthetic_epochs import write_epochs

ROOT = Path(__file__).parents[2]
FOLD = "leak-free/seed-0/fold-00"
SLEEPTOOLS = (sys.executable, "-m", "sleeptools.cli")
TRAIN = ("train", "epochs", "run", "--model", "slumbernet", "--folds", "2", "--fold", "0")
SMALL = ("--set", "model.blocks=5", "--set", "model.filters=4", "--set", "recipe.batch=16")
QUIET = ("--no-explain", "--threads", "1")


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    return write_epochs(
        tmp_path_factory.mktemp("mice") / "epochs",
        count=80,
        channels=2,
        sample_rate=64.0,
        epoch_seconds=4.0,
        names=("Wake", "NREM", "REM"),
    )


def start(words, folder, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **variables}
    return subprocess.Popen(
        [*map(str, words)], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def ended(process, code=0):
    _, said = process.communicate(timeout=900)
    assert process.returncode == code, said
    return said


def together(folder, mice, run, *words, **variables):
    """Train by two processes as torchrun starts them; give what each ended with."""
    out = folder / f"{run}-out"
    out.mkdir()
    given = [sys.executable, "-m", "tests.helpers.one_rank", mice, folder / run, out, *words]
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29_400 + os.getpid() % 1000)}
    ranks = [
        start(given, ROOT, RANK=str(n), LOCAL_RANK=str(n), WORLD_SIZE="2", **port, **variables)
        for n in (0, 1)
    ]
    return ranks, out


def alone(folder, mice, run, *words):
    out = folder / f"{run}-out"
    out.mkdir()
    words = [sys.executable, "-m", "tests.helpers.one_rank", mice, folder / run, out, *words]
    ended(start(words, ROOT))
    return json.loads((out / "0.json").read_text())


# --- without other processes ----------------------------------------------------------------------


def test_the_variables_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert ranks_of_environment() == Ranks()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks_of_environment() == Ranks(3, 4, 1)
    assert not ranks_of_environment().writes
    for wrong in ("4", "-1", "x"):
        monkeypatch.setenv("RANK", wrong)
        with pytest.raises(UsageError, match=f"RANK={wrong}, WORLD_SIZE=4"):
            ranks_of_environment()


def test_every_process_has_windows_in_every_step():
    assert [steps(n, 16) for n in (15, 16, 17, 18, 33)] == [1, 1, 1, 2, 2]
    assert [steps(n, 16, 4) for n in (17, 18, 19, 20, 35, 36)] == [1, 1, 1, 2, 2, 3]


def test_only_lost_processes_are_told_as_such():
    with (
        pytest.raises(Stopped, match="another process of this training has ended"),
        lost_processes(),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), lost_processes():
        raise RuntimeError("shape mismatch")


def test_a_signal_while_the_processes_start_reaches_all_of_them(tmp_path):
    written = """
import os, signal, subprocess, sys
from sleeptools.cli import _devices
pids = open("pids", "w")
def start(rank, *others):
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(process.pid, file=pids, flush=True)
    if rank == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
    return process
_devices._start = start
_devices.run_all(3)
"""
    said = ended(start((sys.executable, "-c", written), tmp_path), 75)
    assert "of 3 was ended by SIGUSR1" in said
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# --- with them ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_have_the_same_weights_and_the_loss_of_one(mice, tmp_path):
    ranks, out = together(tmp_path, mice, "two")
    for process in ranks:
        ended(process)
    both = [json.loads((out / f"{n}.json").read_text()) for n in (0, 1)]
    assert len(both[0]["losses"]) == 20
    assert both[0] == both[1]
    facts = store.read_manifest(tmp_path / "two", "sleeptools-run")
    assert facts["devices"]["count"] == 2
    assert "statistics of each process's share" in facts["devices"]["batch_norm"]
    assert store.read_json(tmp_path / "two" / FOLD / "config.json")["devices"]["count"] == 2
    assert store.verify(tmp_path / "two") == []
    assert len(pl.read_csv(tmp_path / "two" / FOLD / "audit.csv")) == 1  # rank 0 alone

    # BatchNorm's statistics are those of half a batch: with the parent's, nothing differs
    parent = tmp_path / "two" / FOLD
    one = alone(tmp_path, mice, "tuned-alone", parent)
    ranks, out = together(tmp_path, mice, "tuned-two", parent)
    for process in ranks:
        ended(process)
    both = [json.loads((out / f"{n}.json").read_text()) for n in (0, 1)]
    assert both[0] == both[1]
    assert both[0]["losses"] == pytest.approx(one["losses"], abs=1e-3)
    assert one["losses"][-1] != one["losses"][0]


@pytest.mark.slow
def test_a_lost_process_ends_the_other_and_a_restart_continues(mice, tmp_path):
    ranks, _ = together(tmp_path, mice, "run", KILLED_AFTER="12")
    since = time.monotonic()
    said = ended(ranks[0], 1)  # the helper has no command line, which makes 75 of it
    assert "Stopped: another process of this training has ended" in said
    assert time.monotonic() - since < 600
    ended(ranks[1], -signal.SIGKILL)
    state = tmp_path / "run" / FOLD / "state.safetensors"
    assert store.read_tensors(state).facts["step"] == 10  # after the last pass
    (tmp_path / "run-out").rmdir()
    ranks, out = together(tmp_path, mice, "run")
    for process in ranks:
        ended(process)
    whole, whole_out = together(tmp_path, mice, "whole")
    for process in whole:
        ended(process)
    end, expected = (json.loads((o / "1.json").read_text()) for o in (out, whole_out))
    assert end["parameters"] == expected["parameters"]
    assert end["losses"] == expected["losses"][10:]


@pytest.mark.slow
def test_the_command_line_starts_stops_and_continues_all(mice, tmp_path):
    (tmp_path / "epochs").symlink_to(mice)
    words = (*SLEEPTOOLS, *TRAIN, *SMALL, *QUIET, "--passes", "40", "--devices", "2")
    state = tmp_path / "run" / FOLD / "state.safetensors"
    process = start(words, tmp_path)
    until(state.exists)
    process.send_signal(signal.SIGUSR1)
    assert "stopped by SIGUSR1; a checkpoint is written" in ended(process, 75)
    done = store.read_tensors(state).facts["step"]
    assert done > 0

    process = start(words, tmp_path)
    log = tmp_path / "run" / FOLD / "log.csv"
    passes = len(log.read_text().splitlines())
    until(lambda: len(log.read_text().splitlines()) > passes)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    assert "process 1 of 2 was ended by SIGKILL" in ended(process, 75)
    assert not (tmp_path / "run" / FOLD / "predictions.parquet").exists()

    assert "run: done" in ended(start(words, tmp_path))
    assert len(log.read_text().splitlines()) == 41
    wrong = (*SLEEPTOOLS, *TRAIN, "--set", "recipe.batch=3", "--devices", "2")
    assert "run exists with other settings" in ended(start(wrong, tmp_path), 73)


def until(happened):
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")
