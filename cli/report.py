"""`sleeptools report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_RUN = Path("runs/mmasleepnet")
DEFAULT_OUT = {"html": Path("report.html"), "md": Path("report.md"), "csv": Path("report-tables")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools report runs/mmasleepnet --out report.html")(report)


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; runs/mmasleepnet if left out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="What to write: report.html, report.md or the folder report-tables."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--format", help="html, md (a text for papers) or csv (a file per table)."),
    ] = "html",
    figures: Annotated[
        Path | None, typer.Option(help="Folder for each figure as a file: SVG, and PDF for most.")
    ] = None,
    epochs: Annotated[
        Path | None,
        typer.Option(help="Epochs that the run was trained on: draws waveforms and spectra."),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Recordings behind the epochs: the same before processing.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a run that lacks folds, and say so.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a page that this command did not write.")
    ] = False,
) -> None:
    """Write a report, one HTML file.

    It opens offline: metrics, figures that zoom, data, and the published rows beside ours.
    """
    from sleeptools.commands.report import ReportOptions, write_report

    options = ReportOptions(kind, epochs, recordings, figures, partial, force)
    written = write_report(
        runs or [DEFAULT_RUN], out or DEFAULT_OUT.get(kind, DEFAULT_OUT["html"]), options
    )
    typer.echo("\n".join(map(str, written[:1] if kind != "csv" else written)))
