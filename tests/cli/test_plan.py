"""Trainings as numbered tasks: the plan, what Slurm is handed, one task, and what status says."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.errors import DataError, UsageError
from sleeptools.runs.task_table import parse_ranges, ranges, read_jobs, read_tasks
from tests.helpers.synthetic_epochs import write_epochs

TINY = (
    *("--model", "ulw-sleepnet", "--passes", 2, "--set", "recipe.batch=16"),
    *("--threads", 1, "--no-explain"),
)
TWO_FOLDS = ("--folds", 2, *TINY)
FAKES = {
    "sbatch": """
        printf '%s\\n' "$*" >> "$FAKE/submitted"
        case "$*" in *refused*) echo "sbatch: error: invalid partition" >&2; exit 1 ;; esac
        echo "$((99 + $(wc -l < "$FAKE/submitted")));cluster"
    """,
    "squeue": 'cat "$FAKE/queue" 2>/dev/null',
    "scontrol": 'echo "MaxArraySize            = $(cat "$FAKE/most" 2>/dev/null || echo 1001)"',
}


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("plan") / "epochs", subjects=20, count=6)


@pytest.fixture
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("few") / "epochs", subjects=4, count=10)


class Slurm:
    """A Slurm that only notes what it is handed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def submitted(self) -> list[list[str]]:
        """Words of every call of sbatch."""
        path = self.folder / "submitted"
        return (
            [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []
        )


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Slurm is not installed, whatever this one is."""
    (tmp_path / "bin").mkdir()
    for program in ("bash", "env"):
        (tmp_path / "bin" / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, body in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return Slurm(folder)


def header(script: Path) -> dict[str, str]:
    """Options on the #SBATCH lines that have a value."""
    lines = script.read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return dict(option.split("=", 1) for option in options if "=" in option)


def weights(run: Path) -> dict[str, str]:
    paths = sorted(run.rglob("model.safetensors"))
    return {str(p.relative_to(run)): store.sha256(p) for p in paths}


# --- the plan -------------------------------------------------------------------------------------


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
    assert "report ablated/mbfe ablated/eeg --out ablated-report.html\n" in report
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
    ],
)
def test_what_makes_no_plan(command, few: Path, tmp_path: Path, words, message: str) -> None:
    ran = command("train", few, "run", "--folds", 2, "--model", "ulw-sleepnet", *words)
    assert ran.code == 2, ran.err
    assert message in ran.err
    assert not (tmp_path / "run").exists()


# --- what Slurm is handed -------------------------------------------------------------------------


def test_an_array_and_the_report_behind_it(
    command, few: Path, tmp_path: Path, slurm: Slurm
) -> None:
    limit = ("--set", "slurm.throttle=3")
    ran = command("train", few, "run", *TWO_FOLDS, "--seed", "0,1", *limit, "--submit")
    assert ran.code == 0, ran.err
    plan = tmp_path / "run/plan"
    assert slurm.submitted == [
        ["--parsable", "--array=0-3%3", str(plan / "slurm.sh")],
        ["--parsable", "--dependency=afterok:100", str(plan / "report.sh")],
    ]
    assert [(job.job, job.offset, job.pack) for job in read_jobs(tmp_path / "run")] == [
        ("100", 0, 1)
    ]


def test_arrays_past_the_largest_are_split_and_short_tasks_packed(
    command, epochs: Path, tmp_path: Path, slurm: Slurm
) -> None:
    slurm.write("most", "10")
    seeds = ("--folds", 20, "--seed", "0,1,2,3", "--pack", 3, "--set", "slurm.throttle=5")
    ran = command("train", epochs, "run", *TINY, *seeds, "--submit")
    assert ran.code == 0, ran.err
    script = str(tmp_path / "run/plan/slurm.sh")
    chain = ["--dependency=afterany:100"], ["--dependency=afterany:101"]
    assert slurm.submitted == [
        ["--parsable", "--array=0-9%5", script],
        ["--parsable", "--array=0-9%5", *chain[0], script, "10"],
        ["--parsable", "--array=0-6%5", *chain[1], script, "20"],
        ["--parsable", "--dependency=afterok:100:101:102", script.replace("slurm", "report")],
    ]
    assert f"#   sbatch --array=0-6%5 {script} 20\n" in Path(script).read_text()
    assert run_element(script, "20", element=6) == "78-79"  # the last has two of three
    assert run_element(script, "10", element=0) == "30-32"
    assert run_element(script, element=2) == "6-8"


def run_element(script: str, *arguments: str, element: int) -> str:
    """Run a script as Slurm would, with a program that prints what it is given; give the tasks."""
    text = Path(script).read_text()
    program = next(line for line in text.splitlines() if line.endswith("&")).split()[0]
    done = subprocess.run(
        ["bash", "-c", text.replace(program, "echo", 1), script, *arguments],
        env=os.environ | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(element)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(f"7_{element}, restart 0: exit code 0\n")
    return done.stdout.split()[4]


def test_what_waits_or_runs_or_is_done_is_not_submitted_again(
    command, few: Path, tmp_path: Path, slurm: Slurm
) -> None:
    line = ("train", few, "run", *TWO_FOLDS, "--seed", "0,1,2")
    assert command(*line, "--submit").code == 0
    assert command("train", few, "run", "--task", 1).code == 0
    slurm.write("queue", "100 2\n100 3\n55 0\n77 N/A\n")
    lock = tmp_path / "run/leak-free/seed-2/fold-00"
    with store.lock(lock):
        shown = command("status", "run").out.splitlines()
        again = command(*line, "--submit")
    assert again.code == 0, again.err
    assert shown == [
        "run: 1 done, 1 running, 2 queued, 2 missing",
        "missing: task 0 leak-free/seed-0/fold-00",
        "queued: task 2 leak-free/seed-1/fold-00",
        "queued: task 3 leak-free/seed-1/fold-01",
        "running: task 4 leak-free/seed-2/fold-00, pass 1 of 2",
        "missing: task 5 leak-free/seed-2/fold-01",
        "tasks to submit again (--resubmit does it): 0,5",
    ]
    assert slurm.submitted[2][1] == "--array=0,5"
    assert slurm.submitted[3][1] == "--dependency=afterok:102,afterany:100"
    slurm.write("queue", "100 0\n100 2\n100 3\n102 0\n102 5")
    ran = command("status", "run", "--resubmit")
    assert ran.code == 0, ran.err
    assert "tasks to submit again (--resubmit does it): 4" in ran.out
    assert slurm.submitted[4][1] == "--array=4"


def test_a_refusal_of_slurm_is_told_and_leaves_what_was_submitted(
    command, few: Path, tmp_path: Path, slurm: Slurm
) -> None:
    ran = command("train", few, "refused", *TWO_FOLDS, "--submit")
    assert (ran.code, "[SLURM-REFUSED]" in ran.err) == (69, True), ran.err
    assert "invalid partition" in ran.err
    assert read_jobs(tmp_path / "refused") == []


def test_without_slurm_the_plan_is_written_and_says_what_to_do(
    command, few: Path, tmp_path: Path, no_slurm: None
) -> None:
    ran = command("train", few, "run", *TWO_FOLDS, "--submit")
    assert (ran.code, "[SLURM-NONE]" in ran.err) == (69, True), ran.err
    assert "hint: without Slurm: 'seq 0 1 | OMP_NUM_THREADS=1 xargs -P 4 -I{} " in ran.err
    assert len(read_tasks(tmp_path / "run")) == 2
    assert command("status", "run", "--resubmit").code == 69


def test_hostile_paths_reach_the_program_whole(command, few: Path, tmp_path: Path) -> None:
    work = tmp_path / "a b'c\"d$(touch oops)#%A"
    work.mkdir()
    epochs = few.rename(work / "-epochs;x")
    run = Path("runs/it's *")
    ran = command("train", f"./{epochs.name}", run, *TWO_FOLDS, "--plan", cwd=work)
    assert ran.code == 0, ran.err
    script = (work / run / "plan/slurm.sh").read_text()
    program = next(line for line in script.splitlines() if line.endswith("&")).split()[0]
    shown = subprocess.run(
        ["bash", "-c", script.replace(program, "printf '<%s>\\n'", 1)],
        env=os.environ | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.splitlines()[:5] == [
        "<train>",
        f"<./{epochs.name}>",
        f"<{run}>",
        "<--task>",
        "<1-1>",
    ]
    assert not list(tmp_path.rglob("oops"))
    assert command("train", f"./{epochs.name}", run, "--task", 0, cwd=work).code == 0
    for name in ("a\nb", "a\\b"):
        broken = command("train", f"./{epochs.name}", name, *TWO_FOLDS, "--plan", cwd=work)
        assert broken.code == 2
        assert "cannot hold this path" in broken.err


# --- one task -------------------------------------------------------------------------------------


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


def test_a_failed_task_stops_no_other_and_is_told_until_it_is_mended(
    command, few: Path, tmp_path: Path
) -> None:
    words = ("--folds", 2, *TINY, "--set", "recipe.learning_rate=1e30")
    assert command("train", few, "run", *words, "--plan").code == 0
    ran = command("train", few, "run", "--task", "0-1")
    assert (ran.code, "[LOSS-FINITE]" in ran.err) == (65, True), ran.err
    shown = command("status", "run").out.splitlines()
    assert shown[0] == "run: 0 done, 2 failed, 0 missing"
    assert shown[1].startswith("failed: task 0 leak-free/seed-0/fold-00")
    assert "loss is" in shown[1]
    assert shown[1].endswith("[LOSS-FINITE]")
    assert shown[-1].endswith(": 0-1")
    facts = store.read_json(tmp_path / "run/plan/failures/1.json")
    assert facts["code"] == "LOSS-FINITE"


def test_status_tells_pass_and_time_left_of_what_was_stopped(
    command, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleeptools.training import loop

    assert command("train", few, "run", *TWO_FOLDS, "--passes", 4, "--plan").code == 0
    saved = loop.Training.finish_pass

    def stop(self, since: float) -> float | None:
        kappa = saved(self, since)
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


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([7], "7"), ([3, 0, 1, 2, 7, 3, 8], "0-3,7-8")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
    if text:
        assert parse_ranges(text, 9) == sorted(set(numbers))


@pytest.mark.parametrize("text", ["", ",", "1,,2", "1-", "-2", "1-2-3", "²", "0x1"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ranges(text, 9)


@pytest.mark.parametrize(
    "table", ["", "task\n0\n", "task,run,model,protocol,seed,fold\n1,.,m,p,0,0\n"]
)
def test_a_damaged_table_is_told(tmp_path: Path, table: str) -> None:
    (tmp_path / "plan").mkdir()
    store.write_text(tmp_path / "plan/tasks.csv", table)
    with pytest.raises(DataError) as caught:
        read_tasks(tmp_path)
    assert caught.value.code == "PLAN-TABLE"
