"""`sleeptools verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools verify epochs")(verify)


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder with a manifest.json.")],
) -> None:
    """Compare a folder with its manifest.

    Exits with 65 if a file is missing or differs.
    """
    from sleeptools import store
    from sleeptools.errors import DataError

    problems = store.verify(folder)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} files differ from the manifest",
            hint="remove the folder and make it again",
        )
    talk(f"{folder}: every file is as its manifest says")
