"""`train --plan`, `--submit` and `--task`: a training as numbered tasks, for a cluster or xargs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ._console import plural, talk

if TYPE_CHECKING:
    from sleeptools.commands.plan import PlannedTasks
    from sleeptools.commands.train import OnProgress
    from sleeptools.runs.slurm_settings import SlurmSettings
    from sleeptools.training.options import TrainOptions

BESIDE_TASK = frozenset({"epochs", "run", "task", "device", "threads", "devices", "stack_folds"})


def check_options(
    context: typer.Context,
    *,
    task: str | None,
    pack: int | None,
    planned: bool,
    stacked: int | None,
    devices: int | None,
) -> None:
    """Refuse options that mean nothing together.

    Raises
    ------
    UsageError
        For options of what is trained with a task, which has them from its plan; for a pack of
        tasks without a plan; for tasks at once where each has a job or several devices to itself.
    """
    from sleeptools.errors import UsageError

    several = stacked is not None and stacked > 1
    if several and devices is not None and devices > 1:
        raise UsageError(
            f"--stack-folds {stacked} with several devices: either one device trains several "
            "folds, or several train one",
            hint="leave --stack-folds or --devices out",
            code="USE-TOGETHER",
        )
    if several and planned and (pack or 1) == 1:
        raise UsageError(
            f"--stack-folds {stacked} with --{'plan' if pack is None else 'pack 1'}: a job of one "
            "task has nothing to stack",
            hint=f"--pack {stacked} makes a job of so many tasks",
            code="USE-TOGETHER",
        )
    if pack is not None and not planned:
        raise UsageError("--pack goes with --plan or --submit", code="USE-TOGETHER")
    if task is None:
        return
    source = context.get_parameter_source
    named = [n for n in context.params if getattr(source(n), "name", "") == "COMMANDLINE"]
    spelled = {p.name: p.opts[0] for p in context.command.params}
    if others := [spelled[name] for name in named if name not in BESIDE_TASK]:
        raise UsageError(
            f"--task with {others[0]}: what a task trains, and how, stands in its plan",
            hint=f"leave {' and '.join(others)} out, or plan again with --plan",
            code="USE-TOGETHER",
        )


def train_task(
    epochs: Path, folder: Path, task: str, changes: Mapping[str, Any], on_progress: OnProgress
) -> None:
    """Train one task, or several, of a plan."""
    from sleeptools.runs.task_table import parse_ranges, read_tasks

    numbers = parse_ranges(task, len(read_tasks(folder)))
    from sleeptools.commands.plan import train_tasks

    changes = {name: value for name, value in changes.items() if value is not None}
    train_tasks(epochs, folder, numbers, changes=changes, on_progress=on_progress, log=talk)


def plan(
    epochs: Path,
    folder: Path,
    runs: Mapping[Path, TrainOptions],
    settings: SlurmSettings,
    *,
    pack: int,
    submitted: bool,
    devices: int = 1,
) -> None:
    """Write a plan with its scripts, and submit it if asked."""
    from sleeptools.commands.plan import plan
    from sleeptools.errors import quoted
    from sleeptools.training.pace import rough

    from ._slurm import submit, without_slurm

    planned = plan(epochs, folder, runs, slurm=settings, pack=pack, devices=devices)
    elements = _open_elements(planned, pack)
    tested = [run for run, options in runs.items() if options.cross_validates]
    _write_scripts(epochs, planned, tested, settings, pack, devices)
    count, tasks = len(planned.tasks), planned.open
    long = "" if planned.seconds is None else f", up to {rough(planned.seconds)} each here"
    talk(
        f"{folder}: {plural(count, 'task')}{long}, {count - len(tasks)} done; "
        f"{folder}/plan has slurm.sh"
    )
    if not elements:
        talk("nothing is left to train")
        return
    from sleeptools.runs.task_table import ranges

    stacked = next(iter(runs.values())).stack_folds > 1
    line = without_slurm(epochs, folder, ranges(tasks), devices, stacked=stacked)
    if submitted:
        submit(folder, elements, hint=f"without Slurm: '{line}'")
        report = f"; at the end: {_report(folder)}" if tested else ""
        talk(f"next: sleeptools status {quoted(folder)}{report}")
    else:
        talk(f"next: the same with --submit, or without Slurm: {line}")


def submit_again(folder: Path, tasks: Iterable[int]) -> None:
    """Submit tasks of a plan once more, by its scripts as they are."""
    from sleeptools.runs.task_table import ranges, read_plan

    from ._slurm import submit, without_slurm

    values = read_plan(folder)
    numbers = sorted(tasks)
    if not numbers:
        talk(f"{folder}: nothing to submit")
        return
    epochs, devices = Path(values.get("epochs", "epochs")), values.get("devices", 1)
    stacked = values["options"].get("stack_folds", 1) > 1
    line = without_slurm(epochs, folder, ranges(numbers), devices, stacked=stacked)
    elements = sorted({task // values["pack"] for task in numbers})
    submit(folder, elements, hint=f"without Slurm: '{line}'")


def _report(folder: Path) -> Path:
    """Where the job behind all tasks writes its report: beside the run."""
    place = folder if folder.name else folder.absolute()
    return place.with_name(f"{place.name}-report.html")


def _open_elements(planned: PlannedTasks, pack: int) -> list[int]:
    """List the elements with a task of this command that nobody works on or waits for."""
    from sleeptools.runs.progress import open_tasks, task_progress

    from ._slurm import queued_tasks

    progress = task_progress(planned.folder, queued_tasks(planned.folder))
    wanted = {row.task for row in planned.tasks}
    return sorted({task // pack for task in open_tasks(progress) if task in wanted})


def _write_scripts(
    epochs: Path,
    planned: PlannedTasks,
    tested: Sequence[Path],
    settings: SlurmSettings,
    pack: int,
    devices: int,
) -> None:
    from sleeptools import store
    from sleeptools.runs.run import PLAN_FOLDER
    from sleeptools.runs.task_table import read_tasks

    from ._slurm import arrays
    from ._slurm_script import REPORT_SCRIPT, SCRIPT, ScriptFacts, report_script, train_script

    folder = planned.folder
    facts = ScriptFacts(epochs, folder, folder / PLAN_FOLDER, folder.absolute().name, settings)
    elements = sorted({task // pack for task in planned.open}) or [0]
    count, divided = len(read_tasks(folder)), [*arrays(elements, settings)]
    text = train_script(facts, tasks=count, pack=pack, arrays=divided, devices=devices)
    store.write_text(facts.plan / SCRIPT, text)
    report = facts.plan / REPORT_SCRIPT
    if tested:
        store.write_text(report, report_script(facts, tested, _report(folder)))
    else:
        report.unlink(missing_ok=True)
