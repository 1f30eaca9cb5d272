"""`train --submit` on a one-node Slurm: arrays, failures, requeueing, preemption, resubmission."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sleeptools import store
from sleeptools.runs.task_table import read_jobs, read_tasks
from tests.helpers.slurm_cluster import SLEEPTOOLS, Cluster
from tests.helpers.synthetic_epochs import write_epochs

PASSES = 60  # long enough to be interrupted after the second
MODEL = ("--model", "ulw-sleepnet", "--folds", 2, "--set", "recipe.batch=16")

pytestmark = pytest.mark.slow


def weights(run: Path) -> dict[str, str]:
    """SHA-256 of every model of a run, by its path."""
    paths = sorted(run.rglob("model.safetensors"))
    return {str(p.relative_to(run)): store.sha256(p) for p in paths}


def losses(run: Path) -> dict[str, list[str]]:
    """The loss of every pass of every training: where they differ, it shows since when."""
    return {
        str(p.parent.relative_to(run)): pl.read_csv(p, infer_schema=False)["loss"].to_list()
        for p in sorted(run.rglob("log.csv"))
    }


def same(run: Path, whole: Path) -> bool:
    """Whether the trainings of a run are those of another one, to the bit."""
    trained = losses(run)
    assert trained
    assert trained.items() <= losses(whole).items()
    return weights(run).items() <= weights(whole).items()


class Plan(Cluster):
    """A run that is submitted as tasks."""

    @property
    def run(self) -> Path:
        return self.work / "runs" / "x"

    def train(self, *words: object) -> None:
        self.do(SLEEPTOOLS, "train", "epochs", "runs/x", *MODEL, *words)

    def task(self, number: int) -> str:
        """Slurm's number of a task that was submitted last, one of its array's elements."""
        return f"{read_jobs(self.run)[-1].job}_{number}"

    def log(self, number: int) -> str:
        """What every attempt at a task of the last array wrote."""
        path = self.run / "plan/logs" / f"{self.task(number)}.out"
        return path.read_text() if path.exists() else ""

    def begun(self, number: int) -> bool:
        """Whether a task has finished two passes."""
        return self.log(number).count(" val kappa ") > 1

    @contextlib.contextmanager
    def frozen(self, number: int) -> Iterator[int]:
        """Hold a task's process still after two passes, so that something comes to it in time."""
        self.until(over=lambda: self.begun(number))
        row = read_tasks(self.run)[number]
        process = int(store.read_json(row.folder(self.run) / ".lock")["pid"])
        os.kill(process, signal.SIGSTOP)
        try:
            yield process
        finally:
            os.kill(process, signal.SIGCONT)

    def signalled(self, process: int, number: signal.Signals) -> bool:
        """Whether a signal waits for a process that is held still, or Slurm let it go on."""
        status = Path(f"/proc/{process}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines())
        waiting = int(facts["ShdPnd"], 16) >> (number - 1) & 1
        return bool(waiting) or not facts["State"].startswith("T")

    def report_job(self) -> str:
        """Number of the newest job of evaluation and report."""
        listed = self.do("squeue", "-h", "-t", "all", "-S", "i", "-o", "%i %o").splitlines()
        return [line.split()[0] for line in listed if "report.sh" in line][-1]

    def status(self) -> dict[str, dict[str, object]]:
        """What status says of each training, by its name."""
        facts = json.loads(self.do(SLEEPTOOLS, "status", "runs/x", "--json"))
        return {training["name"]: training for training in facts["trainings"]}

    def states(self) -> list[object]:
        return [training["state"] for training in self.status().values()]

    def weights(self, run: str = "runs/x") -> dict[str, str]:
        return weights(self.work / run)

    def in_one_process(self, *words: object) -> dict[str, str]:
        self.do(SLEEPTOOLS, "train", "epochs", "runs/local", *MODEL, *words)
        return self.weights("runs/local")


@pytest.fixture(scope="module")
def whole(cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both folds, `PASSES` in one process without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    if cluster is None:
        return folder
    plan = Plan(cluster, folder)
    write_epochs(plan.work / "epochs")
    plan.train("--passes", PASSES)
    assert len(plan.weights()) == 2
    return plan.run


@pytest.fixture
def slurm(cluster, tmp_path: Path, skip_loudly) -> Iterator[Plan]:
    """The cluster and a working folder with epochs; what is left is cancelled."""
    if cluster is None:
        skip_loudly("plans as Slurm arrays not checked: apt-get install slurm-wlm munge")
    work = tmp_path / 'it\'s a "lab" #1 %j'
    work.mkdir()
    write_epochs(work / "epochs")
    plan = Plan(cluster, work)
    yield plan
    plan.cancel_all()


def test_an_array_with_its_report_writes_what_one_process_writes(slurm: Plan) -> None:
    words = ("--seed", "0,1", "--passes", 2, "--final")
    slurm.train(*words, "--pack", 2, "--set", "slurm.max_array_size=2", "--submit")
    first, second = read_jobs(slurm.run)  # five tasks, two an element, two elements an array
    assert (first.offset, second.offset) == (0, 2)
    report = slurm.report_job()
    assert slurm.of(report, "JobState") == "PENDING"
    assert set(slurm.states()) <= {"queued", "running", "done"}  # a busy machine may look late
    slurm.until(over=slurm.all_over)
    assert slurm.of(report, "JobState") == "COMPLETED", slurm.logs()
    assert set(slurm.states()) == {"done"}
    assert (slurm.run / "metrics.csv").exists()
    assert "kappa" in (slurm.work / "runs/x-report.html").read_text()
    local = slurm.in_one_process(*words)
    assert len(local) == 5
    final = "final/model.safetensors"
    assert slurm.weights().keys() == local.keys()
    assert {k: v for k, v in slurm.weights().items() if k != final} == {
        k: v for k, v in local.items() if k != final
    }
    assert slurm.do("sbatch", "--wait", "--array=0", slurm.run / "plan/slurm.sh")  # by hand


def test_a_failed_task_is_told_and_submitted_again(slurm: Plan) -> None:
    blocked = slurm.run / "leak-free/seed-0/fold-01"
    blocked.parent.mkdir(parents=True)
    slurm.train("--passes", 1, "--plan")
    store.write_text(blocked, "in the way")
    slurm.train("--passes", 1, "--submit")
    report = slurm.report_job()
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.task(1), "ExitCode") == "73:0", slurm.logs()
    assert slurm.of(report, "JobState") == "CANCELLED"
    assert slurm.states() == ["done", "failed"]
    shown = slurm.do(SLEEPTOOLS, "status", "runs/x")
    assert "failed: task 1 leak-free/seed-0/fold-01" in shown
    assert "tasks to submit again (--resubmit does it): 1\n" in shown
    blocked.unlink()
    slurm.do(SLEEPTOOLS, "status", "runs/x", "--resubmit")
    slurm.until(over=slurm.all_over)
    assert slurm.states() == ["done", "done"]
    assert slurm.of(slurm.report_job(), "JobState") == "COMPLETED", slurm.logs()
    assert slurm.weights() == slurm.in_one_process("--passes", 1)


def test_a_task_told_to_stop_queues_itself_again_and_continues(slurm: Plan, whole) -> None:
    slurm.train("--passes", PASSES, "--submit")
    task = slurm.task(1)
    with slurm.frozen(1) as process:
        running = slurm.status()["leak-free/seed-0/fold-01"]
        assert running["state"] == "running"
        assert int(running["pass_number"]) > 1  # type: ignore[call-overload]
        assert float(running["seconds_left"]) >= 0  # type: ignore[arg-type]
        slurm.do("scancel", "--batch", "--signal=USR1", task)  # as --signal=B:USR1@120 comes
        slurm.until(over=lambda: slurm.signalled(process, signal.SIGUSR1))
    slurm.until(over=lambda: "exit code 75" in slurm.log(1))
    slurm.until(over=lambda: slurm.of(task, "JobState") == "PENDING")
    assert slurm.status()["leak-free/seed-0/fold-01"]["state"] == "queued"
    slurm.again(task)
    slurm.until(over=slurm.all_over)
    assert "restart 1: exit code 0" in slurm.log(1)
    assert slurm.log(1).count(f"pass 1/{PASSES} step 1/") == 1  # it did not begin anew
    assert slurm.of(slurm.report_job(), "JobState") == "COMPLETED", slurm.logs()
    assert len(slurm.weights()) == 2
    assert same(slurm.run, whole)


def test_a_task_that_makes_way_for_a_more_urgent_job_continues(slurm: Plan, whole) -> None:
    slurm.train("--passes", PASSES, "--fold", 0, "--submit")
    cores = slurm.do("sinfo", "-h", "-p", "high", "-o", "%c").strip()
    quiet = ("-o", "/dev/null", "--wrap", "true")
    with slurm.frozen(0) as process:
        urgent = slurm.do("sbatch", "--parsable", "-p", "high", "-n", cores, *quiet)
        slurm.until(over=lambda: slurm.signalled(process, signal.SIGUSR1))
    slurm.until(over=lambda: slurm.of(urgent.strip(), "JobState") == "COMPLETED")
    assert "restart 0: exit code 75" in slurm.log(0)
    slurm.again(slurm.task(0))
    slurm.until(over=lambda: "restart 1: exit code" in slurm.log(0))
    assert "restart 1: exit code 0" in slurm.log(0)
    assert len(slurm.weights()) == 1
    assert same(slurm.run, whole)


def test_a_cancelled_task_stays_away_until_it_is_submitted_again(slurm: Plan, whole) -> None:
    slurm.train("--passes", PASSES, "--submit")
    with slurm.frozen(0) as process:
        slurm.do("scancel", read_jobs(slurm.run)[-1].job)
        slurm.until(over=lambda: slurm.signalled(process, signal.SIGTERM))
    slurm.until(over=slurm.all_over)
    assert "exit code 75" in slurm.log(0)
    assert slurm.states()[0] == "stopped"
    slurm.train("--passes", PASSES, "--submit")
    assert len(read_jobs(slurm.run)) == 2
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.report_job(), "JobState") == "COMPLETED", slurm.logs()
    assert len(slurm.weights()) == 2
    assert same(slurm.run, whole)


def test_two_jobs_never_train_the_same_task(slurm: Plan) -> None:
    slurm.train("--passes", PASSES, "--fold", 0, "--submit")
    first = slurm.task(0)
    script = slurm.run / "plan/slurm.sh"
    log = slurm.work.parent / "second.out"  # Slurm would put the job's number for %j in its folder
    with slurm.frozen(0):
        second = slurm.do("sbatch", "--parsable", "--array=0", "-o", log, script).strip()
        slurm.until(over=lambda: slurm.of(f"{second}_0", "JobState") == "FAILED")
    refused = log.read_text()
    assert "exit code 73" in refused
    assert "in use by process" in refused
    assert "loss" not in refused
    slurm.until(over=slurm.all_over)
    assert slurm.of(first, "JobState") == "COMPLETED"
    (path,) = slurm.run.rglob("log.csv")
    assert len(path.read_text().splitlines()) == 1 + PASSES
    assert slurm.states() == ["done", "missing"]  # fold 1 was not asked for
