"""`sleeptools convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import Jobs, batch_progress, talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools convert sleep-edf raw recordings")(convert)


def convert(
    dataset: Annotated[str, typer.Argument(help="Data set, for example sleep-edf.")],
    raw: Annotated[Path, typer.Argument(help="Folder of raw files; only read.")],
    recordings: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("recordings"),
    allow_truncated: Annotated[
        bool,
        typer.Option("--allow-truncated", help="Take the whole records of files cut short."),
    ] = False,
    jobs: Jobs = 1,
) -> None:
    """Convert raw files to recordings.

    Every signal stays at its own rate; the hypnogram is put on the epoch grid and cut to the
    signals.
    """
    from sleeptools import convert as library

    with batch_progress("converting") as progress:
        library.convert(
            dataset, raw, recordings, progress, allow_truncated=allow_truncated, jobs=jobs
        )
    talk(f"{recordings}: done; next: sleeptools preprocess {dataset} {recordings}")
