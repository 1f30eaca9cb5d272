"""What Slurm is handed of a plan, by a Slurm that only notes it."""

import os
import subprocess
from pathlib import Path

from sleeptools import store
from sleeptools.runs.task_table import read_jobs, read_tasks
from tests.helpers.planned import TINY, TWO_FOLDS, Slurm


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
    assert "next: sleeptools status run; at the end: run-report.html\n" in ran.err


def test_status_says_where_jobs_wrote_that_died_before_they_began(
    command, few: Path, tmp_path: Path, slurm: Slurm
) -> None:
    assert command("train", few, "run", *TWO_FOLDS, "--submit").code == 0
    assert "wrote" not in command("status", "run").out
    log = tmp_path / "run/plan/logs/100_0.out"
    store.write_text(log, "apptainer: command not found\n100_0, restart 0: exit code 127\n")
    assert command("status", "run").out.endswith(": 0-1\nwhat their jobs wrote: run/plan/logs\n")


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
