"""Tasks of a plan, one by one, and what status says of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sleeptools import store
from tests.helpers.planned import TINY, TWO_FOLDS, weights


def test_tasks_one_by_one_are_the_run_in_one_process(command, few: Path, tmp_path: Path) -> None:
    words = (*TWO_FOLDS, "--seed", "0,1", "--final")
    assert command("train", few, "run", *words, "--plan").code == 0
    for task in ("4", "1-2", "0,3,0"):
        ran = command("train", few, "run", "--task", task)
        assert ran.code == 0, ran.err
    assert command("train", few, "local", *words).code == 0
    assert len(weights(tmp_path / "local")) == 5
    local, run = weights(tmp_path / "local"), weights(tmp_path / "run")
    assert {k: v for k, v in run.items() if k != "final/model.safetensors"} == {
        k: v for k, v in local.items() if k != "final/model.safetensors"
    }
    assert command("status", "run").out == "run: 5 done, 0 missing\n"
    assert store.read_toml(tmp_path / "run/config.toml") == store.read_toml(
        tmp_path / "local/config.toml"
    )
    ran = command("train", few, "run", "--task", "0-4")
    assert ran.code == 0
    assert "loss" not in ran.err  # nothing is trained twice
    assert command("evaluate", "run").code == 0
    assert "plan/" not in command("verify", "run").out
    ran = command("train", few, "run", *words, "--submit")
    assert "nothing is left to train" in ran.err


@pytest.mark.slow
def test_the_line_without_slurm_trains_all_at_once(command, few: Path, tmp_path: Path) -> None:
    words = (*TWO_FOLDS, "--protocol", "leak-free,best-on-test")
    told = command("train", few, "run", *words, "--plan").err
    line = told.partition("without Slurm: ")[2].strip()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, check=False
    )
    assert done.returncode == 0
    assert command("status", "run").out == "run: 4 done, 0 missing\n"
    assert command("train", few, "local", *words).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "local")
    assert command("verify", "run").code == 0


@pytest.mark.slow
def test_the_line_without_slurm_trains_each_task_on_all_devices(
    command, few: Path, tmp_path: Path
) -> None:
    told = command("train", few, "run", *TWO_FOLDS, "--plan", "--devices", 2).err
    line = told.partition("without Slurm: ")[2].strip()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, check=False
    )
    assert done.returncode == 0
    assert command("status", "run").out == "run: 2 done, 0 missing\n"
    for folder in (tmp_path / "run/leak-free/seed-0").glob("fold-*"):
        assert store.read_json(folder / "config.json")["devices"]["count"] == 2


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("2", 2, "there are tasks 0 to 1"),
        ("1-0", 2, "there are tasks 0 to 1"),
        ("-1", 2, "expected a number"),
        ("all", 2, "expected a number"),
    ],
)
def test_tasks_that_there_are_not(
    command, few: Path, tmp_path: Path, task: str, code: int, message: str
) -> None:
    assert command("train", few, "run", *TWO_FOLDS, "--plan").code == 0
    ran = command("train", few, "run", f"--task={task}")
    assert (ran.code, message in ran.err) == (code, True), ran.err


def test_a_folder_without_a_plan_has_no_tasks(command, few: Path) -> None:
    ran = command("train", few, "run", "--task", 0)
    assert (ran.code, "[PLAN-NONE]" in ran.err) == (66, True), ran.err
    assert "was not planned" in ran.err


@pytest.mark.parametrize("stacked", [(), ("--stack-folds", 9)])
def test_a_failed_task_stops_no_other_and_is_told_until_it_is_mended(
    command, few: Path, tmp_path: Path, stacked: tuple[object, ...]
) -> None:
    words = ("--folds", 2, *TINY, "--set", "recipe.learning_rate=1e30")
    assert command("train", few, "run", *words, "--plan").code == 0
    ran = command("train", few, "run", "--task", "0-1", *stacked)
    assert (ran.code, "[LOSS-FINITE]" in ran.err) == (65, True), ran.err
    shown = command("status", "run").out.splitlines()
    assert shown[0] == "run: 0 done, 2 failed, 0 missing"
    assert shown[1].startswith("failed: task 0 leak-free/seed-0/fold-00")
    assert "loss is" in shown[1]
    assert shown[1].endswith("[LOSS-FINITE]")
    assert shown[-1].endswith(": 0-1")
    failures = [store.read_json(tmp_path / f"run/plan/failures/{task}.json") for task in (0, 1)]
    assert [facts["code"] for facts in failures] == ["LOSS-FINITE"] * 2
    assert failures[0]["message"] != failures[1]["message"]  # each its own epochs


def test_status_tells_pass_and_time_left_of_what_was_stopped(
    command, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleeptools.training import loop

    assert command("train", few, "run", *TWO_FOLDS, "--passes", 4, "--plan").code == 0
    saved = loop.Training.finish_pass

    def stop(self, charge: Callable[[], None]) -> float | None:
        kappa = saved(self, charge)
        self.stop.signal = "SIGUSR1" if len(self.state.rows) == 3 else ""
        return kappa

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "finish_pass", stop)
        ran = command("train", few, "run", "--task", "0-1")
    assert ran.code == 75, ran.err
    shown = command("status", "run").out.splitlines()
    assert shown[0] == "run: 0 done, 1 stopped, 1 missing"  # the second was not begun
    assert shown[1].startswith("stopped: task 0 leak-free/seed-0/fold-00, pass 4 of 4, 0:0")
    assert shown[1].endswith(" left")
    first = json.loads(command("status", "run", "--json").out)["trainings"][0]
    assert (first["state"], first["pass_number"], first["passes"]) == ("stopped", 4, 4)
    seconds = store.read_tensors(tmp_path / "run/leak-free/seed-0/fold-00/state.safetensors").facts[
        "rows"
    ][-1]["seconds"]
    assert first["seconds_left"] == pytest.approx(seconds / 3)
    assert command("train", few, "run", "--task", 0).code == 0
    assert command("train", few, "local", *TWO_FOLDS, "--passes", 4, "--fold", 0).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "local")
