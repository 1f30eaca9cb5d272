"""A Slurm of one node on loopback, and what a person types there in one working folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm_one_node.sh")
SLEEPTOOLS = Path(sys.executable).with_name("sleeptools")


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str] | None]:
    """Environment in which jobs are submitted; None where Slurm is not installed."""
    programs = ("sbatch", "slurmctld", "slurmd", "munged", "mungekey")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if not all(shutil.which(program, path=path) for program in programs):
        yield None
        return
    try:
        subprocess.run([SCRIPT, "up", folder], check=True, capture_output=True, timeout=90)
        settings = {"SLURM_CONF": f"{folder}/slurm.conf", "SLEEPTOOLS": str(SLEEPTOOLS)}
        yield {**os.environ, **settings, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    finally:
        subprocess.run([SCRIPT, "down", folder], check=True, timeout=90)


class Cluster:
    """What a person types on a cluster."""

    def __init__(self, environment: dict[str, str], work: Path) -> None:
        self.environment, self.work = environment, work

    def run_line(self, *words: object, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run a command in the working folder."""
        return subprocess.run(
            list(map(str, words)),
            cwd=self.work if self.work.exists() else None,
            env=self.environment | {k: str(v) for k, v in settings.items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def do(self, *words: object, **settings: object) -> str:
        """Run a command that succeeds; give what it printed."""
        done = self.run_line(*words, **settings)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

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

    def cancel_all(self) -> None:
        self.do("scancel", "--user", str(os.getuid()))
        self.until(over=self.all_over)

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text()}" for p in self.work.rglob("logs/*"))
