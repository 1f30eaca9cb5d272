"""`sleeptools status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import emit_json
from ._times import hours_minutes_seconds

if TYPE_CHECKING:
    from sleeptools.runs.progress import TaskProgress


LISTED = 10  # tasks of which nothing is known, a line each


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: sleeptools status runs/mmasleepnet")(command)


def command(
    run: Annotated[
        Path, typer.Argument(help="Run folder, or the folder of several planned runs.")
    ] = Path("runs/mmasleepnet"),
    resubmit: Annotated[
        bool,
        typer.Option(
            "--resubmit",
            help="Submit to Slurm, once more, the planned tasks that are not done and that nobody "
            "works on or waits for.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what of a run is done and missing, the final model included.

    Of what is begun, the pass and the time left are those of its checkpoint.
    """
    from sleeptools.runs.progress import open_tasks, task_progress

    from ._plan import submit_again
    from ._slurm import queued_tasks

    progress = task_progress(run, queued_tasks(run))
    remaining = open_tasks(progress)
    facts = _facts(run, progress)
    if as_json:
        emit_json(facts)
    else:
        _print(run, progress, facts)
    if resubmit:
        submit_again(run, remaining)


def _facts(run: Path, progress: list[TaskProgress]) -> dict[str, Any]:
    """Join what is told of the run as a whole with every training's state."""
    from sleeptools.runs.progress import DONE, open_tasks
    from sleeptools.runs.run import CONFIG_FILE, run_progress
    from sleeptools.runs.task_table import ranges

    if (run / CONFIG_FILE).exists():
        facts = run_progress(run)
    else:  # several runs that were planned together
        runs = [run / name for name in {p.run for p in progress}]
        facts = {
            "done": [_path(p) for p in progress if p.state == DONE],
            "missing": [_path(p) for p in progress if p.state != DONE],
            "leaky": any(run_progress(run)["leaky"] for run in runs),
        }
    return facts | {
        "resubmit": ranges(open_tasks(progress)),
        "trainings": [asdict(p) for p in progress],
    }


def _print(run: Path, progress: list[TaskProgress], facts: dict[str, Any]) -> None:
    from sleeptools.runs.progress import DONE, MISSING, QUEUED, STATES
    from sleeptools.runs.run import PLAN_FOLDER
    from sleeptools.runs.task_table import LOGS, ranges

    count = Counter(p.state for p in progress)
    shown = [f"{count[s]} {s}" for s in STATES if count[s] or s in {DONE, MISSING}]
    typer.echo(f"{run}: {', '.join(shown)}")
    if facts["leaky"]:
        typer.echo("LEAKY: subjects train and are tested in the same folds, by request")
    if unseen := facts.get("hold_out"):
        typer.echo(f"held out of every training: {', '.join(unseen)}")
    if parent := facts.get("parent"):
        typer.echo(f"fine-tuned from {parent.get('name')}, weights {parent.get('weights')}")
    folded = {
        state: [p.task for p in progress if p.state == state and p.task is not None]
        for state in (QUEUED, MISSING)
    }
    folded = {state: tasks for state, tasks in folded.items() if len(tasks) > LISTED}
    for p in progress:
        if p.state != DONE and (p.task is None or p.state not in folded):
            typer.echo(_line(p))
    for state, tasks in folded.items():
        typer.echo(f"{state}: tasks {ranges(tasks)}")
    if facts["resubmit"]:
        typer.echo(f"tasks to submit again (--resubmit does it): {facts['resubmit']}")
        if any((logs := run / PLAN_FOLDER / LOGS).glob("*.out")):
            typer.echo(f"what their jobs wrote: {logs}")
    elif facts.get("array") and all(p.task is None for p in progress):
        typer.echo(f"folds still to train: --array={facts['array']}")


def _path(p: TaskProgress) -> str:
    return p.name if p.run == "." else f"{p.run}/{p.name}"


def _line(p: TaskProgress) -> str:
    task = "" if p.task is None else f"task {p.task} "
    line = f"{p.state}: {task}{_path(p)}"
    if p.pass_number is not None:
        line += f", pass {p.pass_number} of {p.passes}"
    if p.seconds_left is not None:
        line += f", {hours_minutes_seconds(p.seconds_left)} left"
    return f"{line}: {p.error}" if p.error else line
