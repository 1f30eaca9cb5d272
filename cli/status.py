"""`sleeptools status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import emit_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: sleeptools status runs/mmasleepnet")(command)


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")] = Path("runs/mmasleepnet"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what of a run is done and missing, the final model included."""
    from sleeptools.runs.run import run_progress

    progress = run_progress(run)
    if as_json:
        emit_json(progress)
        return
    typer.echo(f"{run}: {len(progress['done'])} done, {len(progress['missing'])} missing")
    if progress["leaky"]:
        typer.echo("LEAKY: subjects train and are tested in the same folds, by request")
    if unseen := progress.get("hold_out"):
        typer.echo(f"held out of every training: {', '.join(unseen)}")
    if parent := progress.get("parent"):
        typer.echo(f"fine-tuned from {parent.get('name')}, weights {parent.get('weights')}")
    for name in progress["missing"]:
        typer.echo(f"missing: {name}")
    if progress["array"]:
        typer.echo(f"folds still to train: --array={progress['array']}")
