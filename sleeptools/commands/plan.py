"""`sleeptools train` as numbered tasks: the plan of one or several runs, and a task of it.

A plan (sleeptools/runs/task_table.py) makes every fold, seed, protocol, model and ablation a task
of its own. Tasks may be trained in any order, on any machine, several at once, and again: what is
done is skipped, what was stopped continues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.commands.train import Log, OnProgress, train
from sleeptools.errors import SleeptoolsError, Stopped
from sleeptools.runs import logs
from sleeptools.runs.logs import LOG_FILE
from sleeptools.runs.run import CONFIG_FILE, FINAL, PLAN_FOLDER
from sleeptools.runs.slurm_settings import SlurmSettings
from sleeptools.runs.task_table import (
    LOGS,
    TaskRow,
    add_tasks,
    failure_path,
    read_plan,
    read_tasks,
    write_plan,
)
from sleeptools.training.batches import EpochSource
from sleeptools.training.device import choose_device
from sleeptools.training.options import BY_SEED, TrainOptions, merge_options
from sleeptools.training.pace import longest_duration
from sleeptools.training.plan import Plan, make_plan
from sleeptools.training.run_config import LOCK_WAIT
from sleeptools.training.shared import ranks_of_environment

KEPT_OPTIONS = (
    "device",
    "threads",
    "explain",
    "watch_test",
    "allow_shared_subject_ids",
    "stack_folds",
)
"""Options of a training that no run's config.toml has."""
KEPT_FOLDERS = ("parent", "continued")
"""Folders among them."""


@dataclass(frozen=True)
class PlannedTasks:
    """What a command planned.

    Parameters
    ----------
    folder
        The run, or the folder of several runs.
    tasks
        Every task that the command asks for, done or not.
    seconds
        How long the longest of them takes, s; None if this machine cannot tell.
    """

    folder: Path
    tasks: Sequence[TaskRow]
    seconds: float | None = None

    @property
    def open(self) -> list[int]:
        """Numbers of the tasks that are not done."""
        return [row.task for row in self.tasks if not row.done(self.folder)]


def plan(
    epochs: Path,
    folder: Path,
    runs: Mapping[Path, TrainOptions],
    *,
    slurm: SlurmSettings | None = None,
    pack: int = 1,
    devices: int = 1,
) -> PlannedTasks:
    """Write the task table of one or several runs, and what the runs are, and train nothing.

    Parameters
    ----------
    epochs
        Folder that `preprocess` wrote.
    folder
        The run, or the folder in which all runs are.
    runs
        Options of each run, by its folder.
    slurm
        Settings of the jobs.
    pack
        Tasks of one element of the array.
    devices
        Devices on which each task is to be trained.

    Raises
    ------
    OutputError
        If a run exists with other settings.
    SleeptoolsError
        As `train`, for whatever can be known before the first step.
    """
    plans = {run: make_plan(epochs, run, options) for run, options in runs.items()}
    rows = []
    for run, made in plans.items():
        with made.holding():
            made.write()
        name = str(run.relative_to(folder))
        rows += [
            TaskRow(0, name, made.options.model, task.protocol, task.seed, task.fold.number)
            for task in made.tasks()
        ]
    slurm, options = slurm or SlurmSettings(), next(iter(runs.values()))
    seconds = [_task_seconds(made, slurm) for made in plans.values()]
    values = {
        "epochs": str(epochs.absolute()),
        "pack": pack,
        "devices": devices,
        "options": _kept_options(options),
        "slurm": slurm.model_dump(mode="json", exclude_defaults=True),
    }
    with store.lock(folder / PLAN_FOLDER, wait=LOCK_WAIT):
        write_plan(folder, values)
        (folder / PLAN_FOLDER / LOGS).mkdir(exist_ok=True)
        longest = max((s for s in seconds if s is not None), default=None)
        return PlannedTasks(folder, add_tasks(folder, rows), longest)


def _task_seconds(planned: Plan, slurm: SlurmSettings) -> float | None:
    """Estimate how long a task of a run takes: as one that is done, or as some steps here tell.

    None where the tasks are for another kind of device than this machine has.
    """
    tasks = list(planned.tasks())
    if finished := [t for t in tasks if t.done and (t.folder / LOG_FILE).exists()]:
        return max(logs.training_seconds(t.folder / LOG_FILE) for t in finished)
    threads = planned.options.threads or slurm.cpus_per_task
    device = choose_device(planned.options.device)
    on_gpu = device.type != "cpu" or planned.recipe.precision == "tf32" or "gpu" in slurm.gres
    if on_gpu:
        return None
    return longest_duration(tasks, EpochSource(planned.data, device), threads)


def _kept_options(options: TrainOptions) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in KEPT_OPTIONS}
    for name in KEPT_FOLDERS:
        folder: Path | None = getattr(options, name)
        values[name] = None if folder is None else str(folder.absolute())
    return {name: value for name, value in values.items() if value is not None}


def train_tasks(
    epochs: Path,
    folder: Path,
    numbers: Iterable[int],
    *,
    changes: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda _: None,
    log: Log = lambda _: None,
) -> None:
    """Train tasks of a plan; what is done is skipped.

    They go one after the other, or where the plan or the changes have `stack_folds`, as many of a
    run at once. One that fails keeps its error in the plan (`failures/`), and stops no other.

    Parameters
    ----------
    epochs
        Folder that `preprocess` wrote.
    folder
        The run, or the folder of several runs.
    numbers
        Numbers of tasks in tasks.csv.
    changes
        Options on which no result depends but in its last bits: `device`, `threads`,
        `stack_folds`.
    on_progress, log
        As `train` takes them.

    Raises
    ------
    Stopped
        After a stop signal, with a checkpoint written; tasks behind it are not begun.
    SleeptoolsError
        That of the first task that failed.
    """
    rows, values = read_tasks(folder), read_plan(folder)
    kept = {**values["options"], **(changes or {})}
    wanted = [rows[number] for number in dict.fromkeys(numbers)]
    first: SleeptoolsError | None = None
    for group in _groups(wanted, folder, kept.get("stack_folds", 1)):
        for row in group:
            run = "" if row.run == "." else f"{row.run} "
            log(f"task {row.task}: {row.model} {run}{row.name}")
        try:
            _train_group(epochs, folder, group, kept, on_progress, log)
        except Stopped:
            raise
        except SleeptoolsError as e:
            log(f"task {', '.join(str(row.task) for row in group)}: {e} [{e.code}]")
            first = first or e
    if first is not None:
        raise first


def _groups(rows: Iterable[TaskRow], folder: Path, size: int) -> Iterator[list[TaskRow]]:
    """Give what is not done, up to so many tasks of one run at once."""
    group: list[TaskRow] = []
    for row in rows:
        if group and (len(group) == size or row.run != group[0].run):
            yield group
            group = []
        if row.done(folder):
            failure_path(folder, row.task).unlink(missing_ok=True)
        else:
            group.append(row)
    if group:
        yield group


def _train_group(
    epochs: Path,
    folder: Path,
    group: Sequence[TaskRow],
    values: Mapping[str, Any],
    on_progress: OnProgress,
    log: Log,
) -> None:
    """Train tasks of a run; one that fails has its error in `failures/`, any other none."""
    paths = {row.name: failure_path(folder, row.task) for row in group}
    failures: dict[str, SleeptoolsError] = {}
    try:
        train(
            epochs,
            folder / group[0].run,
            task_options(folder, group, values),
            on_progress=on_progress,
            log=log,
            failures=failures,
        )
    except (Stopped, KeyboardInterrupt):
        for path in paths.values():
            path.unlink(missing_ok=True)
        raise
    except SleeptoolsError as e:
        for row in group:
            error = failures.get(row.name, e)
            if row.done(folder):
                paths[row.name].unlink(missing_ok=True)
            elif error.code != "OUT-LOCK":  # another process is at it
                _keep_failure(paths[row.name], error.facts())
        raise
    except Exception as e:
        for path in paths.values():
            _keep_failure(path, {"code": "", "message": f"{type(e).__name__}: {e}"})
        raise
    for path in paths.values():
        path.unlink(missing_ok=True)


def _keep_failure(path: Path, facts: Mapping[str, Any]) -> None:
    if not ranks_of_environment().writes:
        return
    path.parent.mkdir(exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID")
    store.write_json(path, {**facts, "when": time.strftime("%F %T"), "job": job})


def task_options(folder: Path, group: Sequence[TaskRow], values: Mapping[str, Any]) -> TrainOptions:
    """Give the options with which `train` trains tasks of one run: of one, those of its fold alone.

    Parameters
    ----------
    folder
        The planned folder.
    group
        The tasks.
    values
        Options that the run's config.toml does not have.
    """
    folders = {name: Path(values[name]) for name in KEPT_FOLDERS if name in values}
    row = group[0]
    options = merge_options(folder / row.run / CONFIG_FILE, **{**values, **folders})
    if len(group) > 1:
        return replace(options, names=[row.name for row in group])
    if row.protocol == FINAL:
        return replace(
            options, final=True, folds=None, folds_from=BY_SEED, fold=None, seeds=(row.seed,)
        )
    return replace(
        options, final=False, protocols=(row.protocol,), seeds=(row.seed,), fold=row.fold
    )
