"""What became of every training of a run, or of a plan: done, running, stopped, failed, missing.

Nothing is written and no process is asked but the file system, so that it can be looked at from any
machine that sees the folder.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError
from sleeptools.runs.run import CONFIG_FILE, STATE, run_progress
from sleeptools.runs.task_table import failure_path, has_plan, read_tasks
from sleeptools.store import settings

DONE, RUNNING, QUEUED, FAILED, STOPPED, MISSING = (
    "done",
    "running",
    "queued",
    "failed",
    "stopped",
    "missing",
)
STATES = (DONE, RUNNING, QUEUED, FAILED, STOPPED, MISSING)
IN_HANDS = (DONE, RUNNING, QUEUED)
"""States in which nothing is to be submitted."""


@dataclass(frozen=True)
class TaskProgress:
    """What became of a training.

    Parameters
    ----------
    task
        Its number in the plan; None if it was not planned.
    run
        Its run, relative to the folder; "." for that itself.
    name
        Its name in the run, such as "leak-free/seed-0/fold-03".
    state
        One of `STATES`. A stopped one has a checkpoint, a missing one nothing.
    pass_number, passes
        The pass at work, from 1, and their number; None where nothing says.
    seconds_left
        Time for the passes left, by the pace of those done, s; None where nothing says.
    error
        Code and message of the error with which it failed.
    """

    task: int | None
    run: str
    name: str
    state: str
    pass_number: int | None = None
    passes: int | None = None
    seconds_left: float | None = None
    error: str = ""


def task_progress(folder: Path, queued: Collection[int] = ()) -> list[TaskProgress]:
    """List what became of every training of a run or a plan.

    Parameters
    ----------
    folder
        Run folder, or the folder of several runs that were planned together.
    queued
        Numbers of tasks that wait or run in Slurm.

    Raises
    ------
    MissingInputError, DataError
        If the folder is neither, or a file in it is damaged.
    """
    rows = {row.key: row.task for row in read_tasks(folder)} if has_plan(folder) else {}
    names = list(rows)
    if (folder / CONFIG_FILE).exists() or not rows:  # a run may hold more than was planned
        progress = run_progress(folder)
        others = [(".", name) for name in (*progress["done"], *progress["missing"])]
        names = [*rows, *(key for key in others if key not in rows)]
        done = {(".", name) for name in progress["done"]}
    else:
        done = set()
    done |= {row.key for row in (read_tasks(folder) if rows else ()) if row.done(folder)}
    return [
        TaskProgress(rows.get(key), *key, DONE)
        if key in done
        else _unfinished(folder, key, rows.get(key), queued)
        for key in names
    ]


def open_tasks(progress: Collection[TaskProgress]) -> list[int]:
    """List the planned tasks that nobody works on or waits for: those to submit."""
    return [p.task for p in progress if p.task is not None and p.state not in IN_HANDS]


def _unfinished(
    folder: Path, key: tuple[str, str], task: int | None, queued: Collection[int]
) -> TaskProgress:
    run, name = key
    training = folder / run / name
    running = store.is_locked(training)
    pace = _pace(folder / run, training, running=running)
    error = "" if task is None else _error(failure_path(folder, task))
    if running:
        return TaskProgress(task, run, name, RUNNING, **pace)
    if task in queued:
        return TaskProgress(task, run, name, QUEUED, **pace)
    if error:
        return TaskProgress(task, run, name, FAILED, error=error, **pace)
    state = STOPPED if (training / STATE).exists() else MISSING
    return TaskProgress(task, run, name, state, **pace)


def _pace(run: Path, training: Path, *, running: bool) -> dict[str, Any]:
    """Tell from the checkpoint how far a training is, and how long it will still take."""
    config = run / CONFIG_FILE
    recipe = settings.settings_table(store.read_toml(config), "recipe") if config.exists() else {}
    passes = recipe.get("passes")
    path = training / STATE
    if not isinstance(passes, int):
        return {}
    begun = {"passes": passes, "pass_number": 1 if running else None}
    try:
        rows = store.read_tensors(path).facts["rows"]
        age = time.time() - path.stat().st_mtime if running else 0.0
        seconds = float(rows[-1]["seconds"]) / len(rows) * (passes - len(rows)) if rows else None
    except (MissingInputError, OSError):  # none yet, or it has just been finished
        return begun
    except (DataError, KeyError, TypeError, ValueError):  # damaged, which `train` tells better
        return {"passes": passes}
    left = None if seconds is None else max(0.0, seconds - age)
    return {"passes": passes, "pass_number": min(len(rows) + 1, passes), "seconds_left": left}


def _error(path: Path) -> str:
    if not path.exists():
        return ""
    facts = store.read_json(path)
    store.check_facts(facts, path, {"code": "text", "message": "text"})
    return f"{facts['message']} [{facts['code']}]" if facts["code"] else str(facts["message"])
