"""What is asked of Slurm, and told to it: `sbatch`, `squeue`, `scontrol`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._console import talk
from ._slurm_script import REPORT_SCRIPT, SCRIPT

if TYPE_CHECKING:
    from sleeptools.runs.slurm_settings import SlurmSettings

MAX_ARRAY_SIZE: Final = 1001  # Slurm's own default
PATIENCE: Final = 60  # s for a busy controller


def without_slurm(
    epochs: Path, folder: Path, tasks: str, devices: int = 1, *, stacked: bool = False
) -> str:
    """Give the line that does the same without Slurm: four at a time, or one on all devices.

    Of stacked tasks it is one command, which trains as many at once as the plan says.
    """
    low, _, high = tasks.partition("-")
    numbers = f"seq {low} {high or low}" if "," not in tasks else f"echo {tasks} | tr , '\\n'"
    paths = shlex.join(["sleeptools", "train", str(epochs), str(folder), "--task"])
    if stacked:
        return f"{paths} {tasks}"
    if devices > 1:
        return f"{numbers} | xargs -P 1 -I{{}} {paths} {{}} --devices {devices}"
    return f"{numbers} | OMP_NUM_THREADS=1 xargs -P 4 -I{{}} {paths} {{}}"


def max_array_size(settings: SlurmSettings) -> int:
    """Give the number that an array's indices stay below."""
    if settings.max_array_size is not None:
        return settings.max_array_size
    try:
        shown = _run(["scontrol", "show", "config"]).stdout
    except OSError:
        return MAX_ARRAY_SIZE
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return max(2, int(match[1])) if match else MAX_ARRAY_SIZE


def arrays(elements: Sequence[int], settings: SlurmSettings) -> Iterator[tuple[int, str]]:
    """Divide elements into arrays that Slurm takes.

    Yields
    ------
    offset, indices
        The element at which an array begins, and its own indices as sbatch takes them.
    """
    from sleeptools.runs.task_table import ranges

    size = max_array_size(settings)
    limit = f"%{settings.throttle}" if settings.throttle else ""
    for offset in sorted({element // size * size for element in elements}):
        yield offset, ranges(e - offset for e in elements if offset <= e < offset + size) + limit


def submit(folder: Path, elements: Sequence[int], *, hint: str) -> None:
    """Submit elements of a plan's array, and the report behind them.

    Parameters
    ----------
    folder
        The planned folder.
    elements
        Elements to submit.
    hint
        What to do where there is no Slurm.

    Raises
    ------
    UnavailableError
        If there is no Slurm here, or it refuses.
    """
    from sleeptools.errors import UnavailableError
    from sleeptools.runs.run import PLAN_FOLDER
    from sleeptools.runs.slurm_settings import slurm_settings
    from sleeptools.runs.task_table import (
        SubmittedArray,
        read_jobs,
        read_plan,
        write_jobs,
    )

    if shutil.which("sbatch") is None:
        raise UnavailableError(
            "sbatch: not found: there is no Slurm on this machine", hint=hint, code="SLURM-NONE"
        )
    values = read_plan(folder)
    settings = slurm_settings(values["slurm"])
    scripts = (folder / PLAN_FOLDER).absolute()
    earlier = {array.job for array in read_jobs(folder)} & active_elements().keys()
    jobs: list[str] = []
    for offset, array in arrays(elements, settings):
        options = [f"--array={array}"]
        if settings.throttle and jobs:  # the limit is of all arrays together
            options.append(f"--dependency=afterany:{jobs[-1]}")
        jobs.append(_submit([*options, str(scripts / SCRIPT), *([str(offset)] if offset else [])]))
        write_jobs(folder, [*read_jobs(folder), SubmittedArray(jobs[-1], offset, values["pack"])])
    if jobs and (scripts / REPORT_SCRIPT).exists():
        after = ",".join([f"afterok:{':'.join(jobs)}", *(f"afterany:{job}" for job in earlier)])
        _submit([f"--dependency={after}", str(scripts / REPORT_SCRIPT)])


def queued_tasks(folder: Path) -> set[int]:
    """List the tasks of a plan that wait or run in Slurm; empty where there is none."""
    from sleeptools.runs.task_table import read_jobs

    jobs = read_jobs(folder)
    active = active_elements() if jobs else {}
    return {task for array in jobs for task in array.tasks(active.get(array.job, ()))}


def active_elements() -> dict[str, set[int]]:
    """List the user's arrays that wait or run, and their elements that do."""
    try:
        listed = _run(["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F %K"]).stdout
    except OSError:
        return {}
    active: dict[str, set[int]] = {}
    for line in listed.splitlines():
        job, _, element = line.strip().partition(" ")
        if element.isdecimal():
            active.setdefault(job, set()).add(int(element))
    return active


def _submit(words: Sequence[str]) -> str:
    """Call sbatch; give the job's number."""
    from sleeptools.errors import UnavailableError

    command = ["sbatch", "--parsable", *words]
    ran = _run(command)
    job = ran.stdout.strip().partition(";")[0]
    if ran.returncode or not job.isdecimal():
        raise UnavailableError(
            f"sbatch refuses {shlex.join(command)}: {ran.stderr.strip() or ran.stdout.strip()}",
            hint="mend what it says, in [slurm] of the settings, and submit again: what waits "
            "already is not submitted twice",
            code="SLURM-REFUSED",
        )
    talk(f"job {job}: {shlex.join(words)}")
    return job


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of Slurm, which may be busy."""
    from sleeptools.errors import UnavailableError

    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, errors="replace"
        )
    except subprocess.TimeoutExpired as e:
        raise UnavailableError(
            f"{command[0]}: Slurm gives no answer within {PATIENCE} s",
            hint="'sinfo' says whether it is there",
            code="SLURM-REFUSED",
        ) from e
