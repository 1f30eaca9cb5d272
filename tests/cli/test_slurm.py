"""A reproduction script as a Slurm array, on a one-node Slurm that the tests start on loopback."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from sleeptools import store
from sleeptools.runs.run import run_progress

HERE = Path(__file__).parent
CLUSTER = HERE.parent / "helpers" / "slurm_one_node.sh"
SCRIPT = HERE.parents[1] / "reproduce" / "sleep-edf-20.sh"
SLEEPTOOLS = Path(sys.executable).with_name("sleeptools")
PASSES = 12  # long enough to be interrupted
TRAIN = ("train", "epochs", "runs/mmasleepnet")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """Environment in which jobs are submitted; None where Slurm is not installed."""
    programs = ("sbatch", "slurmctld", "slurmd", "munged", "mungekey")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if not all(shutil.which(program, path=path) for program in programs):
        yield None
        return
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([CLUSTER, "up", folder], check=True, capture_output=True, timeout=90)
        settings = {"SLURM_CONF": f"{folder}/slurm.conf", "SLEEPTOOLS": str(SLEEPTOOLS)}
        yield {**os.environ, **settings, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    finally:
        subprocess.run([CLUSTER, "down", folder], check=True, timeout=90)


class Cluster:
    """What a person types on a cluster, in one working folder."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder
        self.work = folder / "work" / "sleep-edf-20-simulated"
        self.run = self.work / "runs" / "mmasleepnet"

    def do(self, *words: object, **settings: object) -> str:
        """Run a command in the script's folder; give what it printed."""
        given = {k: str(v) for k, v in settings.items()}
        done = subprocess.run(
            list(map(str, words)),
            cwd=self.work if self.work.exists() else self.folder,
            env=self.environment | given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def submit(self, **settings: object) -> None:
        """Submit the script's jobs; their numbers are those that did not exist before."""
        small = {"SIMULATE": 1, "HOURS": 0.5, "MODELS": "mmasleepnet", "PROTOCOL": "leak-free"}
        self.do(SCRIPT, WORK=self.folder / "work", SLURM=1, **{**small, **settings})

    def jobs(self) -> dict[str, str]:
        """Job, or task of an array, by name and task number: the newest one's number."""
        listed = self.do("squeue", "-h", "-r", "-t", "all", "-S", "i", "-o", "%j %K %i")
        found = {}
        for line in listed.splitlines():
            name, task, number = line.split()
            kind = name.removeprefix("sleep-edf-20-")
            found[kind if task == "N/A" else f"{kind}_{task}"] = number
        return found

    def of(self, job: str, what: str) -> str:
        """A field of a job as scontrol shows it."""
        shown = self.do("scontrol", "show", "job", job).split()
        return next((w.split("=", 1)[1] for w in shown if w.startswith(f"{what}=")), "")

    def until(self, *, over: Callable[[], bool]) -> None:
        """Wait until something is so; looks are counted, because the machine itself may pause."""
        for _ in range(1500):
            if over():
                return
            time.sleep(0.2)
        pytest.fail(self.do("squeue", "-a") + self.logs())

    def all_over(self) -> bool:
        return self.do("squeue", "-h") == ""

    def again(self, job: str) -> None:
        """Let a requeued task begin: Slurm holds it for two minutes, and needs two seconds."""
        self.until(over=lambda: self.of(job, "JobState") == "PENDING")
        time.sleep(3)
        self.do("scontrol", "update", f"jobid={job}", "starttime=now")

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text()}" for p in self.work.glob("logs/*"))

    def log(self, task: str) -> str:
        """What every attempt at a task of the array wrote."""
        (path,) = self.work.glob(f"logs/sleep-edf-20-mmasleepnet-{task}.out")
        return path.read_text()

    def training(self, task: str, passes: int = 1) -> bool:
        """Whether a task has finished so many passes."""
        found = list(self.work.glob(f"logs/sleep-edf-20-mmasleepnet-{task}.out"))
        return bool(found) and found[0].read_text().count(" val kappa ") > passes


@pytest.fixture
def slurm(cluster, tmp_path: Path, skip_loudly) -> Iterator[Cluster]:
    """The cluster and an empty working folder; what is left is cancelled."""
    if cluster is None:
        skip_loudly("scripts as Slurm arrays not checked: apt-get install slurm-wlm munge")
    found = Cluster(cluster, tmp_path)
    yield found
    found.do("scancel", "--user", str(os.getuid()))
    found.until(over=found.all_over)


def weights(run: Path) -> dict[str, str]:
    return {
        str(p.relative_to(run)): store.sha256(p) for p in sorted(run.rglob("model.safetensors"))
    }


def test_a_script_is_an_array_with_its_evaluation_after_it(slurm: Cluster) -> None:
    slurm.submit()
    jobs = slurm.jobs()
    assert set(jobs) == {
        "simulate",
        "convert",
        "preprocess",
        "mmasleepnet_0",
        "mmasleepnet_1",
        "evaluate",
        "report",
    }
    slurm.until(over=slurm.all_over)
    ends = {name: slurm.of(job, "EndTime") for name, job in jobs.items()}
    starts = {name: slurm.of(job, "StartTime") for name, job in jobs.items()}
    for name, job in jobs.items():
        assert slurm.of(job, "JobState") == "COMPLETED", (name, slurm.logs())
    assert starts["evaluate"] >= max(ends["mmasleepnet_0"], ends["mmasleepnet_1"])
    for task in (0, 1):
        assert f"(fold-0{task})" in slurm.log(f"*_{task}")
        assert f"(fold-0{1 - task})" not in slurm.log(f"*_{task}")
    assert run_progress(slurm.run)["missing"] == []
    assert "simulated" in (slurm.work / "report.html").read_text()
    assert (slurm.run / "metrics.csv").exists()
    local = slurm.work / "runs" / "local"
    slurm.do(SLEEPTOOLS, "train", "epochs", local, "--config", slurm.run / "config.toml")
    assert weights(local) == weights(slurm.run)  # and so the tasks wrote what one process writes


def test_a_task_told_to_stop_queues_itself_again_and_continues(slurm: Cluster) -> None:
    slurm.submit(PASSES=PASSES)
    job = slurm.jobs()["mmasleepnet_1"]
    slurm.until(over=lambda: slurm.training("*_1"))
    slurm.do("scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@120 comes
    slurm.until(over=lambda: "exit code 75" in slurm.log("*_1"))
    assert "error: stopped by SIGUSR1; a checkpoint is written" in slurm.log("*_1")
    assert len(list(slurm.run.rglob("fold-01/state.safetensors"))) == 1
    slurm.until(over=lambda: slurm.of(slurm.jobs()["mmasleepnet_0"], "JobState") == "COMPLETED")
    status = json.loads(slurm.do(SLEEPTOOLS, "status", slurm.run, "--json"))
    assert (status["done"], status["array"]) == (["leak-free/seed-0/fold-00"], "1")
    assert "--array=1" in slurm.do(SLEEPTOOLS, "status", slurm.run)
    assert slurm.of(slurm.jobs()["evaluate"], "JobState") == "PENDING"
    slurm.again(job)
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.jobs()["evaluate"], "JobState") == "COMPLETED"
    attempts = slurm.log("*_1")
    assert "restart 0: exit code 75" in attempts
    assert "restart 1: exit code 0" in attempts
    assert attempts.count(f"pass 1/{PASSES} step 1/") == 1  # it did not begin anew
    local = slurm.work / "runs" / "local"
    slurm.do(
        SLEEPTOOLS, "train", "epochs", local, "--config", slurm.run / "config.toml", "--fold", "1"
    )
    expected = weights(local)
    assert len(expected) == 1
    assert expected.items() <= weights(slurm.run).items()  # to the bit as without a break


def test_a_task_that_makes_way_for_a_more_urgent_job_continues(slurm: Cluster) -> None:
    slurm.submit(PASSES=PASSES, ARRAY="0")
    task = slurm.jobs()["mmasleepnet_0"]
    slurm.until(over=lambda: slurm.training("*_0"))
    cores = slurm.do("sinfo", "-h", "-p", "high", "-o", "%c").strip()
    urgent = slurm.do(
        "sbatch", "--parsable", "-p", "high", "-n", cores, "-o", "urgent.out", "--wrap", "echo done"
    ).strip()
    slurm.until(over=lambda: slurm.of(urgent, "JobState") == "COMPLETED")
    assert "restart 0: exit code 75" in slurm.log("*_0")
    assert len(list(slurm.run.rglob("fold-00/state.safetensors"))) == 1
    slurm.again(task)
    slurm.until(over=lambda: "restart 1: exit code" in slurm.log("*_0"))
    assert "restart 1: exit code 0" in slurm.log("*_0"), slurm.log("*_0")
    assert run_progress(slurm.run)["array"] == "1"
    # only one of the folds was submitted, so the numbers are refused, and the page not begun
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.jobs()["evaluate"], "ExitCode") == "65:0"
    assert slurm.of(slurm.jobs()["report"], "JobState") == "CANCELLED"
    slurm.submit(PASSES=PASSES, ARRAY="1")
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.jobs()["evaluate"], "JobState") == "COMPLETED", slurm.logs()
    assert (slurm.work / "report.html").exists()


def test_a_cancelled_task_stays_away_with_a_checkpoint(slurm: Cluster) -> None:
    slurm.submit(PASSES=PASSES)
    slurm.until(over=lambda: slurm.training("*_0"))
    slurm.do("scancel", slurm.jobs()["mmasleepnet_0"])
    slurm.until(over=slurm.all_over)
    assert slurm.of(slurm.jobs()["mmasleepnet_0"], "JobState") == "CANCELLED"
    assert "exit code 75" in slurm.log("*_0")
    assert slurm.of(slurm.jobs()["evaluate"], "JobState") == "CANCELLED"
    assert len(list(slurm.run.rglob("fold-00/state.safetensors"))) == 1


def test_two_tasks_never_train_the_same_fold(slurm: Cluster) -> None:
    passes = 25  # the second must come while the first is at it
    slurm.submit(PASSES=passes, ARRAY="0")
    first = slurm.jobs()["mmasleepnet_0"]
    slurm.until(over=lambda: slurm.training("*_0"))
    config = slurm.run / "config.toml"
    words = (SCRIPT.with_name("_task.sh"), SLEEPTOOLS, *TRAIN, "--config", config)
    second = slurm.do("sbatch", "--parsable", "--array=0", "-o", "logs/second_%a.out", *words)
    second = second.strip()
    slurm.until(over=lambda: slurm.of(f"{second}_0", "JobState") == "FAILED")
    assert slurm.of(first, "JobState") == "RUNNING"
    refused = (slurm.work / "logs" / "second_0.out").read_text()
    assert "exit code 73" in refused
    assert "in use by process" in refused
    assert "loss" not in refused
    slurm.until(over=slurm.all_over)
    assert slurm.of(first, "JobState") == "COMPLETED"
    (path,) = slurm.run.rglob("log.csv")
    assert pl.read_csv(path)["pass"].to_list() == list(range(1, passes + 1))
    assert len(weights(slurm.run)) == 1
