"""`sleeptools verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import listing, plural, talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog="Example: sleeptools verify runs/mmasleepnet")(command)


def command(
    folder: Annotated[Path, typer.Argument(help="Folder with a manifest.json, or of a model.")],
    add_sums: Annotated[
        bool,
        typer.Option(
            "--add-sums",
            help="List the files of a model folder that has no sums, as they are.",
        ),
    ] = False,
) -> None:
    """Compare a folder with its manifest, and a run's numbers with its predictions.

    Exits with 65 if a file is missing or differs, or a number does not follow from the
    predictions.
    """
    from sleeptools.commands.verify import verify
    from sleeptools.errors import DataError
    from sleeptools.runs import model_folder

    if add_sums:
        added = model_folder.add_sums(folder)
        talk(f"{folder}: {'its sums are in manifest.json' if added else 'has sums of its files'}")
    verified = verify(folder)
    for problem in verified.problems:
        typer.echo(problem)
    if verified.unchecked:
        talk(f"not checked, for nothing has their sums: {listing(verified.unchecked)}")
    if verified.problems:
        raise DataError(
            f"{folder}: {plural(len(verified.problems), 'thing')} not as it should be",
            hint="make the folder again; numbers alone come anew from 'sleeptools evaluate'",
            code="MAN-VERIFY",
        )
    addition = ", and every number follows from the predictions" if verified.has_numbers else ""
    other = "other " if verified.unchecked else ""
    talk(f"{folder}: every {other}file is as its manifest says{addition}")
