"""Training: who is read when, stopping and continuing to the same bits, and wrong input."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import polars as pl
import pytest
import torch

from sleeptools import store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import (
    DataError,
    OutputError,
    SleeptoolsError,
    Stopped,
    UnavailableError,
    UsageError,
)
from sleeptools.models.folder import load_model
from sleeptools.models.recipe.schedule import Position, Schedule, rate_at
from sleeptools.preprocessing.epochs import read_epoch_file, write_epoch_file
from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.runs import model_folder, predictions
from sleeptools.runs.run import LAST_STATE, open_run
from sleeptools.training import device, loop, memory, run_config
from sleeptools.training.device import float32_products, numeric_flags
from sleeptools.training.options import options_from_settings
from sleeptools.training.plan import make_plan
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"))


def options(**given):
    basis = {"folds": 2, "passes": 2, "settings": SMALL, "threads": 1, "explain": False}
    return TrainOptions(**(basis | given))


def same(a, b):
    """Compare two run folders: weights, predictions and logs, all but the times."""
    found = sorted(p.relative_to(a) for p in a.rglob("*.safetensors"))
    assert found == sorted(p.relative_to(b) for p in b.rglob("*.safetensors"))
    assert found
    for name in found:
        if name.name == LAST_STATE:  # it has times
            left, right = (store.read_tensors(folder / name).arrays for folder in (a, b))
            assert store.digest(left) == store.digest(right), name
        else:
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
    for path in a.rglob("predictions.parquet"):
        assert pl.read_parquet(path).equals(pl.read_parquet(b / path.relative_to(a)))
    for path in a.rglob("log.csv"):
        left, right = (pl.read_csv(p).drop("seconds") for p in (path, b / path.relative_to(a)))
        assert left.equals(right)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run without interruption, both protocols and the final model."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    seen = []
    both = ("leak-free", "best-on-test")
    train(tiny, run, options(protocols=both, final=True), on_progress=seen.append)
    return run, seen


# --- what a run holds -----------------------------------------------------------------------------


def test_run_folder(whole, tiny):
    run, _ = whole
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    expected = {"config.toml", "folds.parquet", "nights.parquet", "manifest.json"}
    each = ("model.safetensors", "config.json", "log.csv", LAST_STATE)
    expected |= {f"final/{n}" for n in each}
    per_fold = (*each, "predictions.parquet", "audit.csv")
    expected |= {
        f"{p}/seed-0/fold-0{i}/{n}"
        for p in ("leak-free", "best-on-test")
        for i in (0, 1)
        for n in per_fold
    }
    assert names == expected
    assert store.verify(run) == []
    facts = store.read_manifest(run, "sleeptools-run")
    assert facts["simulated"] is True
    assert facts["data"]["excluded"] == {"movement": 3}
    assert facts["selection"] == {"leak-free": ["kappa"], "best-on-test": ["accuracy"]}
    assert facts["model_config"]["modalities"] == "eeg"
    assert facts["model_config"]["kernels"] == "paper"
    assert facts["recipe"]["variant"] == "default"
    assert "threads_changed" not in facts
    assert len(open_run(run).done) == 4


def test_the_test_fold_is_read_once(whole):
    run, _ = whole
    for i in (0, 1):
        audit = pl.read_csv(run / f"leak-free/seed-0/fold-0{i}/audit.csv")
        assert len(audit) == 1
        assert audit["purpose"].to_list() == ["score"]
        audit = pl.read_csv(run / f"best-on-test/seed-0/fold-0{i}/audit.csv")
        assert audit["purpose"].to_list() == ["selection", "selection", "score"]


def test_predictions(whole):
    run, _ = whole
    table = predictions.read_predictions(open_run(run))
    for protocol in ("leak-free", "best-on-test"):
        tested = table.filter(pl.col("protocol") == protocol)
        assert len(tested) == 80
        assert tested["recording"].n_unique() == 4
    one = pl.read_parquet(run / "leak-free/seed-0/fold-00/predictions.parquet")
    assert one.columns == [*predictions.COLUMNS, *(f"p_{n}" for n in HUMAN_STAGES)]
    who = {r: set(one.filter(pl.col("role") == r)["subject"]) for r in ("val", "test")}
    assert not who["val"] & who["test"]
    facts = model_folder.read_config(run / "leak-free/seed-0/fold-00")
    assert not (who["val"] | who["test"]) & set(facts["train_subjects"])
    only = pl.read_parquet(run / "best-on-test/seed-0/fold-00/predictions.parquet")
    assert set(only["role"]) == {"test"}


def test_predictions_follow_from_the_stored_model(whole, tiny):
    run, _ = whole
    folder = run / "leak-free/seed-0/fold-01"
    model = load_model(folder)
    for name, rows in pl.read_parquet(folder / "predictions.parquet").group_by("recording"):
        file = read_epoch_file(tiny / f"{name[0]}.safetensors")
        p = model(torch.from_numpy(np.array(file.signals))).softmax(1).detach().numpy()
        order = rows["epoch"].to_numpy()
        stored = rows.select(f"p_{n}" for n in HUMAN_STAGES).to_numpy()
        np.testing.assert_allclose(stored, p[order], rtol=1e-5, atol=1e-6)
        assert (rows["stage"].to_numpy() == file.stages[order]).all()


def test_log_and_progress(whole):
    run, seen = whole
    log = pl.read_csv(run / "leak-free/seed-0/fold-00/log.csv")
    assert log["pass"].to_list() == [1, 2]
    assert log["selected"].sum() == 1
    assert log["test_kappa"].null_count() == 2
    best = pl.read_csv(run / "best-on-test/seed-0/fold-00/log.csv")
    assert best["test_kappa"].null_count() == 0
    assert best["val_kappa"].null_count() == 2
    kept = best.filter(pl.col("selected") == 1)["test_accuracy"][0]
    assert kept == best["test_accuracy"].max()
    assert {p.protocol for p in seen} == {"leak-free", "best-on-test", "final"}
    assert seen[-1].seconds_left == pytest.approx(0, abs=1e-9)
    assert all(p.loss > 0 for p in seen)
    assert all(p.step <= p.steps and 1 <= p.pass_number <= p.passes for p in seen)
    first = [p for p in seen if (p.protocol, p.fold) == ("leak-free", 0)]
    assert [p.pass_number for p in first if p.pass_done] == [1, 2]
    assert [p.pass_number for p in first] == sorted(p.pass_number for p in first)
    kappas = log["val_kappa"].to_list()
    assert [p.val_kappa for p in first if p.pass_done] == pytest.approx(kappas)


def test_done_is_done(whole, tiny):
    run, _ = whole
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    seen = []
    train(tiny, run, options(protocols=("leak-free",)), on_progress=seen.append)
    assert seen == []
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


def test_one_fold_at_a_time_and_more_asked_later(whole, tiny, tmp_path):
    run = tmp_path / "run"
    for fold in (1, 0):
        train(tiny, run, options(fold=fold))
    train(tiny, run, options(protocols=("best-on-test",)))
    train(tiny, run, options(folds=None, final=True))
    same(whole[0], run)
    assert store.read_toml(run / "config.toml") == store.read_toml(whole[0] / "config.toml")
    assert store.verify(run) == []
    ours, theirs = (store.read_json(r / "manifest.json") for r in (run, whole[0]))
    for key in ("folds", "protocols", "seeds", "final", "selection", "parameters"):
        assert ours[key] == theirs[key], key


def test_a_run_is_repeated_from_its_own_config(whole, tiny, tmp_path):
    asked = options_from_settings(store.read_toml(whole[0] / "config.toml"))
    train(tiny, tmp_path / "run", TrainOptions(**asked, threads=1, explain=False))
    same(whole[0], tmp_path / "run")
    assert store.read_toml(tmp_path / "run/config.toml") == store.read_toml(
        whole[0] / "config.toml"
    )


def test_seeds_differ(whole, tiny, tmp_path):
    train(tiny, tmp_path / "run", options(seeds=(1,), fold=0))
    name = "fold-00/model.safetensors"
    other = tmp_path / "run/leak-free/seed-1" / name
    assert other.read_bytes() != (whole[0] / "leak-free/seed-0" / name).read_bytes()


def test_no_validation_subject_keeps_the_last_pass(tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=2, count=5)
    said = []
    train(data, tmp_path / "run", options(), log=said.append)
    (line,) = said
    assert "fold 0, 1: too few subjects" in line
    assert "the last pass is kept" in line
    log = pl.read_csv(tmp_path / "run/leak-free/seed-0/fold-00/log.csv")
    assert log["selected"].to_list() == [0, 1]
    assert store.read_json(tmp_path / "run/manifest.json")["selection"] == {"leak-free": ["last"]}


# --- stopping and continuing ----------------------------------------------------------------------


def test_stop_and_continue(whole, tiny, tmp_path):
    run, rng = tmp_path / "run", random.Random(0)
    wanted = options(protocols=("leak-free", "best-on-test"), final=True)
    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    for sitting in range(100):
        left = rng.randrange(1, 9)

        def stop(progress, left=left, kind=kinds[sitting % 3], seen=[]):  # noqa: B006
            seen.append(progress)
            if len(seen) == left:
                os.kill(os.getpid(), kind)

        try:
            train(tiny, run, wanted, on_progress=stop)
            break
        except Stopped:
            assert not (run / "manifest.json").exists()
    assert sitting > 2
    same(whole[0], run)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


SCRIPT = """
import sys, torch
from pathlib import Path
from sleeptools.commands.train import TrainOptions, train
torch.set_num_threads(1)
def say(p): print(p.protocol, p.fold, p.step, flush=True)
settings = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}
options = TrainOptions(folds=2, passes=2, settings=settings, threads=1, final=True, explain=False,
                       protocols=("leak-free", "best-on-test"))
train(Path(sys.argv[1]), Path(sys.argv[2]), options, on_progress=say)
"""


def kill_again_and_again(tiny, run, *, times, seed):
    """Kill the training `times` times after a few lines of progress, then let it end."""
    rng = random.Random(seed)
    for _ in range(times):
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tiny), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(rng.randrange(1, 8)):
                process.stdout.readline()
            time.sleep(rng.random() * 0.2)
            process.kill()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_kill_and_continue(whole, tiny, tmp_path):
    kill_again_and_again(tiny, tmp_path / "run", times=2, seed=1)
    same(whole[0], tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*"))


def dead_process():
    """Number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("fold", ["", "leak-free/seed-0/fold-00", "final"])
def test_locks_of_killed_processes_are_cleared_where_nothing_is_left_to_train(
    whole, tiny, tmp_path, fold
):
    """Killed between the last file and the removal of the lock."""
    run = shutil.copytree(whole[0], tmp_path / "run")
    before = {p.relative_to(run) for p in run.rglob("*")}
    pid = dead_process()
    held = {"host": socket.gethostname(), "pid": pid, "since": "2026-01-01 00:00:00"}
    for name in (".lock", f".lock.{pid}.part", f".lock.stale.{pid}.part"):
        (run / fold / name).write_text(json.dumps(held))
    asked = options(protocols=("leak-free", "best-on-test"), final=True)
    train(tiny, run, asked, on_progress=pytest.fail)
    assert {p.relative_to(run) for p in run.rglob("*")} == before


def test_the_lock_of_a_living_process_stays(whole, tiny, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / "run")
    with store.lock(run / "leak-free/seed-0/fold-00"):
        train(tiny, run, options())
        assert (run / "leak-free/seed-0/fold-00/.lock").exists()
    assert not list(run.rglob(".lock*"))


@pytest.mark.parametrize("call", [1, 2])
def test_dying_among_the_last_files(whole, tiny, tmp_path, monkeypatch, call):
    """Before and after the predictions are written, but before the checkpoint is gone."""
    write = store.write_table

    def die(path, *rest, **more):
        if path.name == "predictions.parquet":
            if call == 2:
                write(path, *rest, **more)
            raise KeyboardInterrupt
        write(path, *rest, **more)

    run = tmp_path / "run"
    monkeypatch.setattr(store, "write_table", die)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, run, options(protocols=("leak-free", "best-on-test")))
    monkeypatch.undo()
    train(tiny, run, options(protocols=("leak-free", "best-on-test"), final=True))
    same(whole[0], run)
    assert len(pl.read_csv(run / "leak-free/seed-0/fold-00/audit.csv")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_kill_many_times(whole, tiny, tmp_path, seed):
    kill_again_and_again(tiny, tmp_path / "run", times=10, seed=seed)
    same(whole[0], tmp_path / "run")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_full_model_continues_to_the_same_bits(tiny, tmp_path, precision):
    """Dropout of the encoder, and the authors' optimiser with its third moment."""
    chosen = {"recipe": {"variant": "authors", "batch": 16, "precision": precision}}
    wanted = options(settings=chosen, fold=0, passes=1)

    def stop(progress):
        if progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    train(tiny, tmp_path / "a", wanted)
    with pytest.raises(Stopped) as e:
        train(tiny, tmp_path / "b", wanted, on_progress=stop)
    assert e.value.exit_code == 75
    assert (tmp_path / "b/leak-free/seed-0/fold-00/state.safetensors").exists()
    train(tiny, tmp_path / "b", wanted)
    same(tmp_path / "a", tmp_path / "b")


def test_cosine_restarts_continue_to_the_same_bits(tiny, tmp_path):
    """Stopped within the first descent, at its end, and within the second.

    A training with another first descent shows that the weights do depend on it.
    """
    chosen = {"recipe": {"batch": 3}}
    wanted = options(model="ulw-sleepnet", settings=chosen, fold=0)
    train(tiny, tmp_path / "a", wanted)
    for last in (4, 10, 12):

        def stop(progress, last=last):
            if progress.step == last:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Stopped):
            train(tiny, tmp_path / "b", wanted, on_progress=stop)
        state = tmp_path / "b/leak-free/seed-0/fold-00/state.safetensors"
        assert store.read_tensors(state).facts["step"] == last
    train(tiny, tmp_path / "b", wanted)
    same(tmp_path / "a", tmp_path / "b")
    chosen["recipe"]["schedule"] = {"steps": 11}
    train(tiny, tmp_path / "c", wanted)
    name = "leak-free/seed-0/fold-00/model.safetensors"
    assert (tmp_path / "c" / name).read_bytes() != (tmp_path / "a" / name).read_bytes()


def interrupted(tiny, run, **given):
    """Train one pass with a number of threads, and stop in the second."""

    def stop(progress):
        if progress.pass_number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(tiny, run, options(fold=0, **given), on_progress=stop)
    return run / "leak-free/seed-0/fold-00"


def test_a_training_continues_with_as_many_threads_as_it_began_with(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder, seen = interrupted(tiny, tmp_path / "run", threads=2), []

    def look(progress):
        seen.append((progress.fold, torch.get_num_threads()))

    train(tiny, tmp_path / "run", options(threads=None), on_progress=look)
    assert set(seen) == {(0, 2), (1, 1)}
    assert model_folder.read_config(folder)["threads"] == [2]
    assert "threads_changed" not in store.read_json(tmp_path / "run/manifest.json")


def test_other_threads_on_request_are_told(tiny, tmp_path):
    folder, said = interrupted(tiny, tmp_path / "run", threads=2), []
    train(tiny, tmp_path / "run", options(fold=0, threads=1), log=said.append)
    assert "leak-free/seed-0/fold-00: continued with 1 CPU threads, begun with 2" in said[0]
    assert model_folder.read_config(folder)["threads"] == [2, 1]
    facts = store.read_json(tmp_path / "run/manifest.json")
    assert facts["threads_changed"] == {"leak-free/seed-0/fold-00": [2, 1]}


# --- several at once, and attempts that came to nothing -------------------------------------------

JOB = """
import sys
from pathlib import Path
from sleeptools.commands.train import TrainOptions, train
settings = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}
options = TrainOptions(folds=2, passes=2, settings=settings, threads=1, fold=0, explain=False,
                       seeds=(int(sys.argv[3]),))
train(Path(sys.argv[1]), Path(sys.argv[2]), options)
"""


def test_seeds_in_parallel_are_all_kept(tiny, tmp_path):
    run = tmp_path / "run"
    jobs = [
        subprocess.Popen([sys.executable, "-c", JOB, str(tiny), str(run), str(seed)])
        for seed in range(3)
    ]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert sorted(store.read_toml(run / "config.toml")["seeds"]) == [0, 1, 2]
    facts = store.read_json(run / "manifest.json")
    assert sorted(facts["seeds"]) == [0, 1, 2]
    assert {name.split("/")[1] for name in facts["files"] if "/" in name} == {
        "seed-0",
        "seed-1",
        "seed-2",
    }
    assert store.verify(run) == []


def test_a_seed_added_between_reading_and_writing_is_kept(tiny, tmp_path):
    """What two processes do, in one: both make a plan before either of them writes."""
    run = tmp_path / "run"
    plans = [make_plan(tiny, run, options(seeds=(seed,))) for seed in (0, 1)]
    for plan in plans:
        with plan.holding():
            plan.write()
    assert store.read_toml(run / "config.toml")["seeds"] == [0, 1]


def test_waiting_for_the_run_as_a_whole(tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    plan = make_plan(tiny, run, options())
    held = contextlib.ExitStack()
    held.enter_context(store.lock(run))
    timer = threading.Timer(0.3, held.close)
    timer.start()
    with plan.holding():
        plan.write()
    timer.join()
    monkeypatch.setattr(run_config, "LOCK_WAIT", 0.1)
    with store.lock(run), pytest.raises(OutputError, match="in use by process"), plan.holding():
        pass


def test_a_failed_attempt_does_not_block_the_folder(tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def fail(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(UnavailableError):
        train(tiny, run, options(folds=4))
    monkeypatch.undo()
    wanted = options(protocols=("best-on-test",), passes=1, fold=0)
    train(tiny, run, wanted)
    config = store.read_toml(run / "config.toml")
    assert (config["folds"], config["protocols"], config["recipe"]["passes"]) == (
        2,
        ["best-on-test"],
        1,
    )
    assert store.read_table(run / "folds.parquet")["fold"].max() == 1
    with pytest.raises(OutputError, match="other settings"):
        train(tiny, run, options(passes=3))


def test_an_attempt_at_work_blocks_the_folder(tiny, tmp_path):
    run = tmp_path / "run"
    first = make_plan(tiny, run, options())
    with first.holding():
        first.write()
    other = options(passes=3)
    with (
        store.lock(run / "leak-free/seed-0/fold-00"),
        pytest.raises(OutputError, match="other settings"),
    ):
        train(tiny, run, other)
    second = make_plan(tiny, run, other)
    with second.holding():
        second.write()
    with pytest.raises(OutputError, match="other settings"):
        first.check()  # it was replaced before the first training began


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"model": "mmasleepnett"}, UsageError, "mmasleepnet"),
        ({"settings": {"model": {"kernel": "x"}}}, UsageError, "kernels"),
        ({"settings": {"model": {"kernels": "x"}}}, UsageError, "kernels = 'x'"),
        ({"settings": {"recipe": {"variant": "x"}}}, UsageError, "default, paper, authors"),
        ({"settings": {"recipe": {"batch": 0}}}, UsageError, "batch"),
        ({"settings": {"recipe": {"betas": [0.9, 1.0]}}}, UsageError, "betas"),
        ({"settings": {"recipe": {"learning_rate": float("inf")}}}, UsageError, "learning_rate"),
        ({"settings": {"recipe": {"class_weights": [1, 1, 1, 1, -1]}}}, UsageError, "weights"),
        ({"settings": {"recipe": 3}}, UsageError, "recipe is 3; expected a table"),
        ({"settings": {"model": 3}}, UsageError, "model is 3; expected a table"),
        ({"threads": 0}, UsageError, "threads=0"),
        ({"final": True, "fold": 0}, UsageError, "`final` with `fold=0`"),
        ({"settings": {"receipt": {}}}, UsageError, "model, recipe"),
        ({"passes": 0}, UsageError, "passes"),
        ({"protocols": ("leaky",)}, UsageError, "leak-free, best-on-test"),
        ({"folds_from": "paper"}, UsageError, "seed, published"),
        ({"fold": 2}, UsageError, "0 to 1"),
        ({"seeds": (0, -1)}, UsageError, ">= 0"),
        ({"device": "tpu"}, UsageError, "auto, cpu, cuda"),
        ({"folds": 5}, DataError, "2 to 4"),
        ({"folds_from": "published"}, DataError, "20 or 78"),
        ({"settings": {"model": {"eeg": 6}}}, DataError, "channels 8, the epochs have 4"),
        ({"settings": {"recipe": {"class_weights": [1, 2]}}}, DataError, "5 stages"),
    ],
)
def test_wrong_input(tiny, tmp_path, given, kind, words):
    with pytest.raises(kind, match=words):
        train(tiny, tmp_path / "run", options(**given))
    assert not (tmp_path / "run").exists()


def test_one_subject(tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=1, count=5)
    with pytest.raises(DataError, match="needs >= 2 subjects"):
        train(data, tmp_path / "run", options())
    train(data, tmp_path / "run", options(folds=None, final=True))
    assert load_model(tmp_path / "run/final").facts["train_subjects"] == ["S00"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_missing(tiny, tmp_path):
    with pytest.raises(UnavailableError, match="CUDA"):
        train(tiny, tmp_path / "run", options(device="cuda"))


def test_other_settings(whole, tiny):
    with pytest.raises(OutputError, match=r"recipe\.passes: 2 there, 3 now") as e:
        train(tiny, whole[0], options(passes=3))
    assert e.value.exit_code == 73


def test_a_run_of_before_there_were_precisions_goes_on(whole, tiny, tmp_path):
    run = tmp_path / "run"
    train(tiny, run, options(fold=0, passes=1))
    text = (run / "config.toml").read_text()
    assert 'precision = "fp32"' in text
    (run / "config.toml").write_text(text.replace('precision = "fp32"', ""))
    train(tiny, run, options(fold=1, passes=1))
    half = {**SMALL, "recipe": {**SMALL["recipe"], "precision": "bf16"}}
    with pytest.raises(OutputError, match=r"recipe\.precision"):
        train(tiny, run, options(fold=1, passes=1, settings=half))


def test_other_epochs(whole, tmp_path):
    data = write_epochs(tmp_path / "epochs", seed=1)
    with pytest.raises(OutputError, match=r"epochs\.sha256"):
        train(data, whole[0], options())


def test_a_signal_that_is_not_finite(tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=3, count=5)
    broken = data / "S011.safetensors"
    t = read_epoch_file(broken)
    signals = np.array(t.signals)
    signals[2, 0, 7] = np.inf
    write_epoch_file(
        broken,
        signals=signals,
        stages=np.arange(5, dtype=np.int8),
        onset=np.arange(5.0),
        hypnogram=np.arange(5, dtype=np.int8),
        facts=t.facts,
    )
    listed = store.read_json(data / "manifest.json")
    listed["files"][broken.name] = store.sha256(broken)  # else it counts as damaged
    store.write_json(data / "manifest.json", listed)
    with pytest.raises(DataError, match="S011 epoch 2") as e:
        train(data, tmp_path / "run", options(folds=None, final=True))
    assert e.value.exit_code == 65
    listed = pl.read_csv(tmp_path / "run/final/not_finite.csv")
    assert listed.row(0) == ("S011", 2)


def test_two_writers(tiny, tmp_path):
    with (
        store.lock(tmp_path / "run/leak-free/seed-0/fold-00"),
        pytest.raises(OutputError, match="in use by process"),
    ):
        train(tiny, tmp_path / "run", options())


def test_a_damaged_checkpoint(tiny, tmp_path):
    folder = tmp_path / "run/leak-free/seed-0/fold-00"
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(SleeptoolsError) as e:
        train(tiny, tmp_path / "run", options())
    assert e.value.exit_code == 65


def test_too_little_memory(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.Tensor, "backward", full)
    with pytest.raises(UnavailableError, match="batch of 16") as e:
        train(tiny, tmp_path / "run", options())
    assert e.value.exit_code == 69
    assert e.value.hint == "no batch of 2 or more fits, which was tried: `device=cpu`"


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_the_batch_that_fits_is_found(tiny, tmp_path, monkeypatch, kind):
    """The device has memory for five epochs; cuDNN's and CUDA's own errors have no class."""
    tried, run_step = [], loop.Training.step

    def step(training):
        tried.append(training.recipe.batch)
        if training.recipe.batch > 5:
            raise kind("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return run_step(training)

    monkeypatch.setattr(loop.Training, "step", step)
    monkeypatch.setattr(memory, "lacks_memory", lambda e, _: "ALLOC_FAILED" in str(e))
    with pytest.raises(UnavailableError, match="batch of 16") as e:
        train(tiny, tmp_path / "run", options())
    assert tried == [16, 8, 4]
    assert e.value.hint == (
        "`recipe.batch=4` fits (tried; it changes the results), or `device=cpu`"
    )
    assert not (tmp_path / "run/leak-free/seed-0/fold-00/copy").exists()
    four = {**SMALL, "recipe": {**SMALL["recipe"], "batch": 4}}
    train(tiny, tmp_path / "run", options(settings=four, passes=1))


@pytest.mark.parametrize(
    ("error", "device", "lacking"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "cuda", True),
        (RuntimeError("CUDA error: out of memory"), "cuda", True),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`"),
            "cuda",
            True,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "cuda", False),
        (RuntimeError("out of memory"), "cpu", False),  # of the machine: another hint
        (ValueError("out of memory"), "cuda", False),
    ],
)
def test_what_a_lack_of_device_memory_is(error, device, lacking):
    assert memory.lacks_memory(error, torch.device(device)) == lacking


def test_another_error_of_the_device_stays_one(tiny, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.Tensor, "backward", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        train(tiny, tmp_path / "run", options())


# --- products of a GPU ----------------------------------------------------------------------------


def products():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    return torch.device("cuda")


@pytest.mark.parametrize("before", [(False, True), (True, False)])
@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_both_libraries_multiply_as_the_precision_says(ampere, precision, tf32, before):
    as_found = products()
    try:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        with pytest.raises(KeyError), float32_products(precision, ampere):  # noqa: PT012
            assert products() == (tf32, tf32)
            flags = numeric_flags()
            raise KeyError
        assert products() == before
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = as_found
    assert (flags["matmul_tf32"], flags["cudnn_tf32"]) == (tf32, tf32)


def test_the_flags_hold_for_a_training_and_are_recorded(tiny, tmp_path, monkeypatch):
    before, seen, run_step = products(), [], loop.Training.step

    def step(training):
        seen.append(products())
        return run_step(training)

    monkeypatch.setattr(loop.Training, "step", step)
    monkeypatch.setattr(device, "_lacks_tf32", lambda _: "")
    for name, tf32 in (("fp32", False), ("tf32", True)):
        settings = {**SMALL, "recipe": {**SMALL["recipe"], "precision": name}}
        train(tiny, tmp_path / name, options(settings=settings, passes=1))
        assert set(seen) == {(tf32, tf32)}
        seen.clear()
        facts = json.loads((tmp_path / name / "manifest.json").read_text())
        assert (facts["torch"]["matmul_tf32"], facts["torch"]["cudnn_tf32"]) == (tf32, tf32)
        assert f'precision = "{name}"' in (tmp_path / name / "config.toml").read_text()
    assert products() == before


def test_tf32_needs_a_gpu_that_has_it(tiny, tmp_path, monkeypatch):
    before = products()
    settings = {**SMALL, "recipe": {**SMALL["recipe"], "precision": "tf32"}}
    with pytest.raises(UsageError, match=r"TF32 is arithmetic of NVIDIA GPUs.* on the CPU") as e:
        train(tiny, tmp_path / "run", options(settings=settings, device="cpu"))
    assert e.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with (
        pytest.raises(UsageError, match="Tesla T4 has no TF32"),
        float32_products("tf32", torch.device("cuda")),
    ):
        pass
    assert products() == before


# --- checkpoints by time --------------------------------------------------------------------------


def test_checkpoints_by_time_continue_to_the_same_bits(whole, tiny, tmp_path, monkeypatch):
    """Dies after passes that no checkpoint has; what they did is done again."""
    run, saves, save = tmp_path / "run", [], loop.Training.save
    wanted = options(protocols=("leak-free", "best-on-test"), final=True)
    monkeypatch.setitem(loop.SAVE_INTERVALS, "cpu", 3600.0)

    def noted(training):
        saves.append((str(training.task), len(training.state.rows)))
        save(training)

    def die(progress):
        if progress.pass_done and progress.pass_number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Training, "save", noted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, run, wanted, on_progress=die)
    assert saves == []
    train(tiny, run, wanted)
    assert {passes for _, passes in saves} == {2}
    assert len(saves) == len({name for name, _ in saves}) == 5
    same(whole[0], run)


def test_a_checkpoint_is_due_when_the_time_has_passed(tiny, tmp_path, monkeypatch):
    now, saves = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setitem(loop.SAVE_INTERVALS, "cpu", 10.0)
    save = loop.Training.save

    def noted(training):
        saves.append(len(training.state.rows))
        save(training)

    def wait(progress):
        now[0] += 4.0 if progress.pass_done else 0.0

    monkeypatch.setattr(loop.Training, "save", noted)
    train(tiny, tmp_path / "run", options(fold=0, passes=8), on_progress=wait)
    assert saves == [4, 7, 8]


# --- on the command line --------------------------------------------------------------------------

TINY = (
    "--passes",
    2,
    "--set",
    "model.modalities=eeg",
    "--set",
    "model.fusion=mbfe",
    "--set",
    "recipe.batch=16",
    "--threads",
    1,
    "--no-explain",
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "model=3"), "model is 3"),
        (("--set", "recipe.betas=[0.9, 2]"), "betas"),
        (("--threads", 0), "--threads 0"),
        (("--final", "--fold", 0), "--final with --fold"),
        (("--protocol", "leak-free,"), "leak-free, best-on-test"),
        (("--seed", "0,,1"), "--seed is '0,,1'"),
        (("--recipe", "author"), "did you mean 'authors'?"),
        (("--set", "recipe.schedule.kind=ramp"), "schedule.kind"),
        (("--precision", "fp16"), "should be 'fp32', 'tf32' or 'bf16'"),
    ],
)
def test_wrong_options(command, tiny, tmp_path, arguments, words):
    ran = command("train", tiny, "run", *arguments)
    assert ran.code == 2, ran.err
    assert words in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("count", "sizes"), [(80, [16] * 5), (81, [16] * 4 + [17]), (82, [16] * 5 + [2]), (1, [1])]
)
def test_one_epoch_left_over_goes_with_the_step_before(tmp_path, count, sizes, monkeypatch):
    """BatchNorm over a batch of one epoch has no variance."""
    data = write_epochs(tmp_path / "epochs", subjects=1, count=count)
    seen = []
    monkeypatch.setattr(loop, "augment", lambda x, *rest: seen.append(len(x)) or x)
    train(data, tmp_path / "run", options(folds=None, final=True, passes=1))
    assert seen == sizes


@pytest.mark.parametrize(("cached", "draws"), [(True, 1), (False, 3)])
def test_augmentation_is_drawn_anew_in_each_pass(tiny, tmp_path, cached, draws, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "augment", lambda x, *rest: seen.append(rest) or x)
    changes = {"gains": [0.2], "cached": cached}
    chosen = SMALL | {"recipe": {"batch": 16, "augmentation": changes}}
    train(tiny, tmp_path / "run", options(folds=None, final=True, passes=3, settings=chosen))
    assert len(seen) == 3 * 5
    assert sorted(np.concatenate([numbers for numbers, *_ in seen[5:10]])) == list(range(80))
    assert len({tuple(seeds) for *_, seeds in seen}) == draws


def test_schedule_and_augmentation_survive_a_break(tiny, tmp_path):
    """The plateau goes by the losses of the passes so far, those before the break, too."""
    schedule = {"kind": "plateau", "passes": 1, "factor": 0.01}
    changes = {"gains": [0.2], "shift": 0.1, "noise": 5.0}
    recipe = {"learning_rate": 0.003, "schedule": schedule, "augmentation": changes}
    chosen = SMALL | {"recipe": {"batch": 16} | recipe}
    asked = options(folds=None, final=True, passes=6, settings=chosen)
    train(tiny, tmp_path / "whole", asked)

    def stop(progress):
        if progress.pass_done and progress.pass_number == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(tiny, tmp_path / "broken", asked, on_progress=stop)
    train(tiny, tmp_path / "broken", asked)
    same(tmp_path / "whole", tmp_path / "broken")
    losses = pl.read_csv(tmp_path / "whole/final/log.csv")["loss"].to_list()
    place = Position(0, 1, losses[:5])
    assert rate_at(Schedule(**schedule), place).factor < 1  # it did matter


def test_lines_and_repetition(command, tiny, tmp_path, whole):
    ran = command("train", tiny, "a", "--folds", 2, "--protocol", "leak-free, best-on-test", *TINY)
    assert ran.code == 0, ran.err
    lines = [line for line in ran.err.splitlines() if " pass " in line]
    assert len(lines) == len({line.split(" loss ")[0] for line in lines}) == 4 * 3
    assert lines[0].startswith("leak-free seed 0 fold 1 of 2 (fold-00) pass 1/2 step 1/")
    judged = [line for line in lines if "kappa" in line]
    assert len(judged) == 8
    for line in judged:
        assert ("test" if line.startswith("best-on-test") else "val") + " kappa" in line
    again = command("train", tiny, "b", "--config", "a/config.toml", "--threads", 1, "--no-explain")
    assert again.code == 0, again.err
    same(tmp_path / "a", tmp_path / "b")
    (tmp_path / "x.toml").write_text('model = "mmasleepnett"')
    assert "did you mean 'mmasleepnet'?" in command("train", tiny, "--config", "x.toml").err


def test_a_recipe_by_name(command, tiny, tmp_path):
    """It replaces the whole recipe of a run's config.toml, and yields to what is set beside it."""
    train(tiny, tmp_path / "a", options(fold=0))
    again = ("--config", "a/config.toml", "--recipe", "authors", "--fold", 0, *TINY)
    ran = command("train", tiny, "b", *again, "--set", "recipe.amsgrad=false")
    assert ran.code == 0, ran.err
    recipe = store.read_toml(tmp_path / "b/config.toml")["recipe"]
    assert (recipe["variant"], recipe["weight_decay"], recipe["batch"]) == ("authors", 0.01, 16)
    assert (recipe["selection"], recipe["amsgrad"]) == ("accuracy", False)


def test_precision_is_part_of_the_recipe(command, tiny, tmp_path):
    for precision in ("fp32", "bf16"):
        ran = command("train", tiny, precision, "--precision", precision, "--fold", 0, *TINY)
        assert ran.code == 0, ran.err
        assert store.read_toml(tmp_path / precision / "config.toml")["recipe"]["precision"] == (
            precision
        )
    name = "leak-free/seed-0/fold-00/model.safetensors"
    weights = [store.read_tensors(tmp_path / p / name).arrays for p in ("fp32", "bf16")]
    assert {a.dtype for a in weights[1].values()} == {a.dtype for a in weights[0].values()}
    assert any(not np.array_equal(a, weights[1][key]) for key, a in weights[0].items())
    again = command("train", tiny, "bf16", "--precision", "fp32", "--fold", 0, *TINY)
    assert again.code == 73, again.err
    assert "recipe.precision" in again.err


def test_final_only_and_its_status(command, tiny):
    ran = command("train", tiny, "run", "--final", *TINY)
    assert ran.code == 0, ran.err
    assert "evaluate" not in ran.err
    assert command("status", "run").out == "run: 1 done, 0 missing\n"


def test_help_names_what_is_expected(command):
    out = " ".join(command("train", "--help").out.split())
    assert "NAME=VALUE" in out
    assert "alone nothing else" in out
