"""A reproduction script on a one-node Slurm that the tests start on loopback.

Stopping, preemption and cancelling of tasks are tested in test_slurm_plan.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.runs.run import run_progress
from tests.helpers.slurm_cluster import SLEEPTOOLS, Cluster

SCRIPT = Path(__file__).parents[2] / "reproduce" / "ulw.sh"
RUNS = ("ulw-20", "ulw-78")

pytestmark = pytest.mark.slow


class Scripts(Cluster):
    """What a person types on a cluster to run a script."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        super().__init__(environment, folder / "work" / "ulw-simulated")
        self.folder = folder

    def submit(self, **settings: object) -> None:
        """Run the script, which waits for the epochs and submits the trainings."""
        small = {"SIMULATE": 1, "HOURS": 0.5, "SLURM": 1, "JOBS": 1, "SUBJECTS": 2}
        self.do(SCRIPT, WORK=self.folder / "work", **{**small, **settings})


@pytest.fixture
def slurm(cluster, tmp_path: Path, skip_loudly) -> Iterator[Scripts]:
    """The cluster and an empty working folder; what is left is cancelled."""
    if cluster is None:
        skip_loudly("scripts on Slurm not checked: apt-get install slurm-wlm munge")
    scripts = Scripts(cluster, tmp_path)
    yield scripts
    scripts.cancel_all()


def weights(run: Path) -> dict[str, str]:
    return {
        str(p.relative_to(run)): store.sha256(p) for p in sorted(run.rglob("model.safetensors"))
    }


def test_a_script_is_tasks_with_the_page_of_all_runs_after_them(slurm: Scripts) -> None:
    slurm.submit()
    slurm.until(over=slurm.all_over)
    for name in RUNS:
        run = slurm.work / "runs" / name
        assert run_progress(run)["missing"] == [], slurm.logs()
        assert (run / "metrics.csv").exists()
        assert len((run / "plan/tasks.csv").read_text().splitlines()) == 1 + 4
    page = (slurm.work / "report.html").read_text()
    assert all(name in page for name in RUNS)
    run, local = slurm.work / "runs/ulw-20", slurm.work / "runs/local"
    slurm.do(SLEEPTOOLS, "train", "epochs-20", local, "--config", run / "config.toml")
    assert weights(local) == weights(run)  # the tasks wrote what one process writes
    before = {p: p.stat().st_mtime_ns for p in slurm.work.rglob("predictions.parquet")}
    (slurm.work / "report.html").unlink()
    slurm.submit()  # nothing is left to train: the page is made at once
    assert (slurm.work / "report.html").exists()
    assert (
        before.items()
        <= {p: p.stat().st_mtime_ns for p in slurm.work.rglob("predictions.parquet")}.items()
    )
