"""The plan of a run, or of several in one folder: every training a numbered task.

`RUN/plan/` holds tasks.csv (a row a task, whose number is never given to another one), plan.toml
(what no run's config.toml has: epochs, devices, the tasks of one array element, the settings of
Slurm), jobs.csv (what was submitted), `failures/` and `logs/`. docs/cluster.md tells its use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.runs.run import FINAL, PLAN_FOLDER, TrainingId, is_done

PLAN_KIND, PLAN_VERSION = "sleeptools-plan", 1
TASKS_FILE, PLAN_FILE, JOBS_FILE = "tasks.csv", "plan.toml", "jobs.csv"
LOGS, FAILURES = "logs", "failures"


@dataclass(frozen=True)
class TaskRow:
    """A training of a plan.

    Parameters
    ----------
    task
        Its number, from 0.
    run
        Its run folder, relative to the folder of the plan; "." for that itself.
    model
        Name of the model.
    protocol, seed, fold
        Which training; protocol "final" for the model trained on all subjects.
    """

    task: int
    run: str
    model: str
    protocol: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Name within its run."""
        final = self.protocol == FINAL
        return FINAL if final else str(TrainingId(self.protocol, self.seed, self.fold))

    @property
    def key(self) -> tuple[str, str]:
        """What it is, whatever its number."""
        return self.run, self.name

    def folder(self, plan: Path) -> Path:
        """Folder of its files; `plan` is the folder that was planned."""
        return plan / self.run / self.name

    def done(self, plan: Path) -> bool:
        """Whether it is trained."""
        return is_done(self.folder(plan), final=self.protocol == FINAL)


COLUMNS = tuple(field.name for field in fields(TaskRow))


def has_plan(folder: Path) -> bool:
    """Whether a folder was planned."""
    return (folder / PLAN_FOLDER / TASKS_FILE).exists()


def in_plan(run: Path) -> bool:
    """Whether tasks of this run were planned, alone or with other runs beside it."""
    run = run.absolute()
    for levels, folder in enumerate((run, run.parent, run.parent.parent)):
        name = "/".join(run.parts[len(run.parts) - levels :]) or "."
        if has_plan(folder) and any(row.run == name for row in read_tasks(folder)):
            return True
    return False


def read_tasks(folder: Path) -> list[TaskRow]:
    """Read tasks.csv of a planned folder, in the order of the numbers.

    Raises
    ------
    MissingInputError
        If the folder was not planned.
    DataError
        If the table is damaged.
    """
    path = folder / PLAN_FOLDER / TASKS_FILE
    if not path.exists():
        raise MissingInputError(
            f"{path}: no such file: {folder} was not planned",
            hint="plan first what is to be trained: docs/cluster.md tells how",
            code="PLAN-NONE",
        )
    lines = store.read_text(path).splitlines()
    try:
        cells = [dict(zip(COLUMNS, line.split(","), strict=True)) for line in lines]
        numbers = ("task", "seed", "fold")
        rows = [
            TaskRow(**{k: int(v) if k in numbers else v for k, v in row.items()})  # type: ignore[arg-type]
            for row in cells[1:]
        ]
        if [row.task for row in rows] != list(range(len(rows))) or [*cells[0].values()] != [
            *COLUMNS
        ]:
            raise ValueError("its numbers do not run from 0 on below its columns' names")
    except (ValueError, IndexError) as e:
        raise DataError(
            f"{path}: not a table of tasks: {e}",
            hint=f"'rm {path}', then plan again",
            code="PLAN-TABLE",
        ) from e
    return rows


def add_tasks(folder: Path, wanted: Iterable[TaskRow]) -> list[TaskRow]:
    """Add tasks to those of a folder; call it with the plan locked.

    Tasks that are there keep their numbers: jobs that wait may name them.

    Returns
    -------
    rows
        The wanted tasks, with their numbers.
    """
    table = read_tasks(folder) if has_plan(folder) else []
    numbers = {row.key: row.task for row in table}
    rows = []
    for row in wanted:
        number = numbers.setdefault(row.key, len(table))
        rows.append(TaskRow(**{**asdict(row), "task": number}))
        if number == len(table):
            table.append(rows[-1])
    cells = [COLUMNS, *(tuple(asdict(row).values()) for row in table)]
    store.write_text(folder / PLAN_FOLDER / TASKS_FILE, store.csv_text(cells))
    return rows


def read_plan(folder: Path) -> dict[str, Any]:
    """Read plan.toml: `epochs`, `pack`, `devices`, and the tables `options` and `slurm`.

    Raises
    ------
    MissingInputError, DataError
        If it is missing, damaged or of a newer version.
    """
    path = folder / PLAN_FOLDER / PLAN_FILE
    values = store.read_toml(store.need(path, "plan"))
    store.check_format(values, path, PLAN_KIND, PLAN_VERSION)
    store.check_facts(values, path, {"pack": "whole", "options": "table", "slurm": "table"})
    return values


def write_plan(folder: Path, values: Mapping[str, Any]) -> None:
    """Write plan.toml."""
    head = {"format": PLAN_KIND, "version": PLAN_VERSION}
    store.write_toml(folder / PLAN_FOLDER / PLAN_FILE, {**head, **values})


# --- numbers as Slurm writes them -----------------------------------------------------------------


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as an array's indices: "0-3,7"."""
    pairs = enumerate(sorted(set(numbers)))
    runs = (
        [n for _, n in group] for _, group in groupby(pairs, key=lambda pair: pair[1] - pair[0])
    )
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def parse_ranges(text: str, count: int) -> list[int]:
    """Read numbers below `count` from a text such as "7" or "0-3,7".

    Raises
    ------
    UsageError
        If it is not such a text, or names a task that there is not.
    """
    numbers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(
                f"`task={text}`: expected a number, or several, such as 0-3,7", code="USE-VALUE"
            )
        low, high = int(first), int(last or first)
        if low > high or high >= count:
            raise UsageError(
                f"`task={text}`: there are tasks 0 to {count - 1}, in tasks.csv", code="USE-VALUE"
            )
        numbers += range(low, high + 1)
    return list(dict.fromkeys(numbers))


# --- what became of tasks -------------------------------------------------------------------------


def failure_path(folder: Path, task: int) -> Path:
    """Where the error is kept with which a task ended last."""
    return folder / PLAN_FOLDER / FAILURES / f"{task}.json"


@dataclass(frozen=True)
class SubmittedArray:
    """A submitted array of tasks.

    Parameters
    ----------
    job
        Its number.
    offset
        Element 0 of it is this element of the plan.
    pack
        Tasks of one element.
    """

    job: str
    offset: int
    pack: int

    def tasks(self, elements: Iterable[int]) -> Iterator[int]:
        """Tasks of some elements."""
        for element in elements:
            yield from range(
                (self.offset + element) * self.pack, (self.offset + element + 1) * self.pack
            )


def read_jobs(folder: Path) -> list[SubmittedArray]:
    """Read jobs.csv: the arrays that were submitted, the oldest first; none if there is no file.

    Raises
    ------
    DataError
        If it is damaged.
    """
    path = folder / PLAN_FOLDER / JOBS_FILE
    if not path.exists():
        return []
    try:
        rows = [line.split(",") for line in store.read_text(path).splitlines()[1:]]
        return [SubmittedArray(job, int(offset), int(pack)) for job, offset, pack in rows]
    except ValueError as e:
        raise DataError(
            f"{path}: not a table of jobs: {e}",
            hint=f"'rm {path}': what waits is then not known to be submitted",
            code="PLAN-TABLE",
        ) from e


def write_jobs(folder: Path, jobs: Sequence[SubmittedArray]) -> None:
    """Write jobs.csv."""
    rows = [("job", "offset", "pack"), *((j.job, j.offset, j.pack) for j in jobs)]
    store.write_text(folder / PLAN_FOLDER / JOBS_FILE, store.csv_text(rows))
