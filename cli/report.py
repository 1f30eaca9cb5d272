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
        list[Path] | None,
        typer.Argument(
            help="Run folders; runs/mmasleepnet if left out. With --published, runs or epochs that "
            "feed the item, or ROW=RUN (Sleep-EDF-78=runs/a); without any, the print stands alone."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="What to write: report.html, report.md or the folder report-tables; with "
            "--published a folder (its default is ITEM), or a .html, .md or .tex file."
        ),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            metavar="ITEM",
            help="Draw a table or figure of the papers from the runs, in its own arrangement and "
            "beside the printed numbers; 'sleeptools list published' has the items.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="--published: the protocol to show; the print's if left out."),
    ] = None,
    phases: Annotated[
        Path | None,
        typer.Option(
            help="--published s4-fig-5a: a TOML that says when recordings begin and which hours "
            "are baseline, deprivation and recovery (docs/published.md)."
        ),
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
        bool,
        typer.Option("--force", help="Replace a page that is of something else."),
    ] = False,
) -> None:
    """Write a report, one HTML file; or a table or figure of the papers.

    It opens offline: metrics, figures that zoom, data, and the published rows beside ours.
    """
    from sleeptools.errors import UsageError

    if published is not None:
        if figures or kind != "html":
            raise UsageError(
                "--published writes every format into its folder; --format and --figures go "
                "without it",
                code="USE-TOGETHER",
            )
        from sleeptools.commands.published import ItemOptions, write_item

        chosen = ItemOptions(epochs, recordings, phases, protocol, partial, force)
        written = write_item(published, list(map(str, runs or [])), out or Path(published), chosen)
        typer.echo("\n".join(map(str, written)))
        return
    if protocol or phases:
        raise UsageError("--protocol and --phases go with --published ITEM", code="USE-TOGETHER")
    from sleeptools.commands.report import ReportOptions, write_report

    options = ReportOptions(kind, epochs, recordings, figures, partial, force)
    written = write_report(
        runs or [DEFAULT_RUN], out or DEFAULT_OUT.get(kind, DEFAULT_OUT["html"]), options
    )
    typer.echo("\n".join(map(str, written[:1] if kind != "csv" else written)))
