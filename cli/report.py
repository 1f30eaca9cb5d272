"""`sleeptools report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = Path("runs/mmasleepnet")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools report runs/mmasleepnet --out report.html")(report)


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; runs/mmasleepnet if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a run that lacks folds, and say so.")
    ] = False,
) -> None:
    """Write a report, one HTML file.

    It opens offline: metrics, figures, data, and the published row beside ours.
    """
    from sleeptools.report import report as library

    typer.echo(library(runs or [DEFAULT], out, partial=partial))
