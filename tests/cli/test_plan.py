"""Trainings as numbered tasks: what a plan holds, and what makes none."""

import json
import shutil
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.runs.task_table import read_tasks
from tests.helpers.planned import TINY, TWO_FOLDS, header


def test_twenty_folds_three_seeds_and_two_protocols_are_120_tasks(
    command, epochs: Path, tmp_path: Path, no_slurm: None
) -> None:
    several = ("--folds", 20, "--seed", "0,1,2", "--protocol", "leak-free,best-on-test")
    ran = command("train", epochs, "run", *several, *TINY, "--plan")
    assert ran.code == 0, ran.err
    rows = read_tasks(tmp_path / "run")
    assert [row.task for row in rows] == list(range(120))
    assert len({(row.protocol, row.seed, row.fold) for row in rows}) == 120
    assert {row.protocol for row in rows} == {"leak-free", "best-on-test"}
    assert header(tmp_path / "run/plan/slurm.sh")["array"] == "0-119"
    assert f"xargs -P 4 -I{{}} sleeptools train {epochs} run --task {{}}" in ran.err
    assert "without Slurm: seq 0 119 |" in ran.err
    assert not list((tmp_path / "run").glob("*/seed-*"))  # nothing was trained


def test_models_and_ablations_are_runs_of_one_plan(command, few: Path, tmp_path: Path) -> None:
    few_folds = ("--folds", 2, "--passes", 1, "--plan")
    ran = command("train", few, "both", "--model", "ulw-sleepnet,mmasleepnet", *few_folds)
    assert ran.code == 0, ran.err
    rows = read_tasks(tmp_path / "both")
    assert [(r.run, r.model, r.fold) for r in rows] == [
        (model, model, fold) for model in ("ulw-sleepnet", "mmasleepnet") for fold in (0, 1)
    ]
    ran = command("train", few, "ablated", "--ablation", "mbfe,eeg", "--final", *few_folds)
    assert ran.code == 0, ran.err
    rows = read_tasks(tmp_path / "ablated")
    assert [(r.run, r.name) for r in rows] == [
        (variant, name)
        for variant in ("mbfe", "eeg")
        for name in ("leak-free/seed-0/fold-00", "leak-free/seed-0/fold-01", "final")
    ]
    report = (tmp_path / "ablated/plan/report.sh").read_text()
    assert "evaluate ablated/mbfe ablated/eeg\n" in report
    assert "report ablated/mbfe ablated/eeg --out ablated-report.html --force " in report
    shown = json.loads(command("status", "ablated", "--json").out)
    assert (len(shown["missing"]), shown["resubmit"]) == (6, "0-5")
    assert command("status", "ablated").out.startswith("ablated: 0 done, 6 missing\n")


def test_tasks_keep_their_numbers(command, few: Path, tmp_path: Path) -> None:
    """Jobs that wait may name them."""
    assert command("train", few, "run", *TWO_FOLDS, "--seed", 3, "--plan").code == 0
    before = read_tasks(tmp_path / "run")
    assert command("train", few, "run", *TWO_FOLDS, "--seed", "1,3", "--plan").code == 0
    after = read_tasks(tmp_path / "run")
    assert after[:2] == before
    assert [(row.task, row.seed) for row in after] == [(0, 3), (1, 3), (2, 1), (3, 1)]


def test_a_planned_run_takes_no_other_settings(command, few: Path, tmp_path: Path) -> None:
    assert command("train", few, "run", *TWO_FOLDS, "--plan").code == 0
    table = (tmp_path / "run/plan/tasks.csv").read_bytes()
    for words in (("--plan",), ("--submit",), ()):
        ran = command("train", few, "run", *TWO_FOLDS, "--passes", 3, *words)
        assert (ran.code, "[OUT-SETTINGS]" in ran.err) == (73, True), ran.err
        assert "recipe.passes: 2 there, 3 now" in ran.err
    assert (tmp_path / "run/plan/tasks.csv").read_bytes() == table


def test_only_the_runs_of_a_plan_are_held_by_it(command, few: Path, tmp_path: Path) -> None:
    models = ("--model", "ulw-sleepnet,attnsleep", "--folds", 2, "--plan")
    assert command("train", few, "runs", *models).code == 0
    ran = command("train", few, "runs/ulw-sleepnet", *TWO_FOLDS, "--plan")
    assert ran.code == 73, ran.err
    for passes in (2, 3):  # no plan has it, and nothing is trained
        command("train", few, "runs/other", *TWO_FOLDS, "--passes", passes, "--plan")
        shutil.rmtree(tmp_path / "runs/other/plan")
        recipe = store.read_toml(tmp_path / "runs/other/config.toml")["recipe"]
        assert recipe["passes"] == passes


def test_settings_of_slurm_stand_on_the_lines_of_the_script(
    command, few: Path, tmp_path: Path
) -> None:
    store.write_text(
        tmp_path / "lab.toml",
        """
        [slurm]
        partition = "gpu"
        account = "lab"
        time = 08:00:00
        cpus_per_task = 4
        memory = "16G"
        gres = "gpu:1"
        throttle = 8
        setup = ["module load cuda"]
        container = "image 1.sif"
        options = ["--exclusive"]
        """,
    )
    words = ("--config", "lab.toml", "--set", "slurm.account=other lab", "--plan")
    ran = command("train", few, "run", *TWO_FOLDS, *words)
    assert ran.code == 0, ran.err
    script = tmp_path / "run/plan/slurm.sh"
    assert header(script) == {
        "job-name": "run",
        "partition": "gpu",
        "account": '"other lab"',
        "time": "08:00:00",
        "cpus-per-task": "4",
        "mem": "16G",
        "gres": "gpu:1",
        "array": "0-1%8",
        "signal": "B:USR1@120",
        "output": f"{tmp_path}/run/plan/logs/%A_%a.out",
        "open-mode": "append",
    }
    text = script.read_text()
    assert "#SBATCH --exclusive\n" in text
    assert "#SBATCH --requeue\n" in text
    assert "\nmodule load cuda\n" in text
    assert "\napptainer exec --nv 'image 1.sif' sleeptools train " in text
    report = (tmp_path / "run/plan/report.sh").read_text()
    assert "--partition=gpu" in report
    assert "--gres" not in report
    # settings of Slurm alone change nothing of a run
    assert command("train", few, "run", *TWO_FOLDS, "--set", "slurm.time=1", "--plan").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "slurm.memroy=8G", "--plan"), "did you mean 'memory'"),
        (("--set", "slurm.throttle=0", "--plan"), "slurm: throttle"),
        (("--set", "slurm.partition=a\nb", "--plan"), "one line"),
        (("--pack", 4), "--pack goes with --plan"),
        (("--pack", 0, "--plan"), "--pack"),
        (("--task", 1), "leave --folds and --model"),
        (("--plan", "--stack-folds", 2), "--pack 2 makes a job of so many tasks"),
        (("--plan", "--pack", 2, "--stack-folds", 2, "--devices", 2), "with several devices"),
        (("--stack-folds", 2, "--devices", 2), "leave --stack-folds or --devices out"),
        (("--stack-folds", 0), "--stack-folds"),
    ],
)
def test_what_makes_no_plan(command, few: Path, tmp_path: Path, words, message: str) -> None:
    ran = command("train", few, "run", "--folds", 2, "--model", "ulw-sleepnet", *words)
    assert ran.code == 2, ran.err
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_stacked_tasks(command, few: Path, tmp_path: Path, no_slurm: None) -> None:
    stacked = ("--pack", 2, "--stack-folds", 2)
    planned = command("train", few, "run", *TWO_FOLDS, "--plan", *stacked)
    assert planned.code == 0
    assert store.read_toml(tmp_path / "run/plan/plan.toml")["options"]["stack_folds"] == 2
    line = f"sleeptools train {few} run --task 0-1"
    assert f"without Slurm: {line}\n" in planned.err
    assert f"without Slurm: '{line}'" in command("status", "run", "--resubmit").err
    assert command("train", few, "run", "--task", "0-1").code == 0
    assert command("status", "run").out == "run: 2 done, 0 missing\n"
    assert store.read_manifest(tmp_path / "run", "sleeptools-run")["stack_folds"] == 2


def test_tasks_of_several_devices(command, few: Path, tmp_path: Path, no_slurm: None) -> None:
    words = ("train", few, "run", *TWO_FOLDS, "--plan")
    planned = command(*words, "--devices", 4, "--set", "slurm.gres=gpu:4")
    assert planned.code == 0
    line = f"seq 0 1 | xargs -P 1 -I{{}} sleeptools train {few} run --task {{}} --devices 4"
    assert f"without Slurm: {line}\n" in planned.err
    assert f"without Slurm: '{line}'" in command("status", "run", "--resubmit").err
    script = (tmp_path / "run/plan/slurm.sh").read_text()
    assert '--task "$first-$last" --devices 4 &' in script
    assert header(tmp_path / "run/plan/slurm.sh")["gres"] == "gpu:4"
    assert command(*words).code == 0
    assert "--devices" not in (tmp_path / "run/plan/slurm.sh").read_text()
