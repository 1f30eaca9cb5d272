"""`sleeptools verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools verify runs/mmasleepnet")(verify)


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder with a manifest.json.")],
) -> None:
    """Compare a folder with its manifest, and a run's numbers with its predictions.

    Exits with 65 if a file is missing or differs, or a number does not follow from the
    predictions.
    """
    from sleeptools import store
    from sleeptools.errors import DataError
    from sleeptools.runs.run import run_progress

    problems = store.verify(folder)
    tested = (folder / "config.toml").exists() and (folder / "folds.parquet").exists()
    if not problems and tested and run_progress(folder)["done"]:
        from sleeptools.commands import verify

        problems = verify.verify_numbers(folder)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} things differ from what they should be",
            hint="make the folder again; numbers alone come anew from 'sleeptools evaluate'",
        )
    numbers = tested and (folder / "metrics.parquet").exists()
    addition = ", and every number follows from the predictions" if numbers else ""
    talk(f"{folder}: every file is as its manifest says{addition}")
