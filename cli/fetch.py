"""`sleeptools fetch`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import console, drawn, line, plural, talk

if TYPE_CHECKING:
    from sleeptools.datasets.download.transfer import FetchProgress, OnProgress, RemoteFile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fetch", epilog="Example: sleeptools fetch sleep-edf raw --subset 20 --jobs 4")(
        command
    )


def command(
    dataset: Annotated[
        str, typer.Argument(help="sleep-edf; for another data set, how to obtain it is printed.")
    ],
    dest: Annotated[Path, typer.Argument(help="Folder to write.")],
    subset: Annotated[
        str | None, typer.Option(help="Only what is needed for 20, 78 or telemetry.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            help="Address of a mirror with the publisher's layout.  [default: PhysioNet's]",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be fetched; write nothing.")
    ] = False,
    trust_sums: Annotated[
        bool,
        typer.Option(
            "--trust-sums", help="Accept the server's SHA256SUMS.txt even if not the published one."
        ),
    ] = False,
) -> None:
    """Fetch a data set from its publisher.

    Every file is checked against the publisher's SHA-256. Run it again to continue.
    """
    from sleeptools.commands.fetch import Server, fetch, how_to_get, plan
    from sleeptools.errors import quoted

    if instructions := how_to_get(dataset):
        typer.echo(instructions)
    server = Server(base_url, trust_sums=trust_sums)
    if dry_run:
        _list(plan(dataset, dest, server, subset=subset, jobs=jobs))
        return
    with _progress() as show:
        fetch(dataset, dest, server, show, subset=subset, jobs=jobs)
    talk(f"{dest}: done; next: sleeptools preprocess {dataset} {quoted(dest)}")


def _list(files: list[RemoteFile]) -> None:
    """Print a line per file: bytes, state of the local copy, name."""
    from sleeptools.datasets.download.transfer import DONE

    for f in files:
        typer.echo(f"{'-' if f.size is None else f.size}\t{f.state}\t{f.name}")
    to_fetch = [f for f in files if f.state != DONE]
    sizes = [f.size for f in to_fetch if f.size is not None]
    text = f"{plural(len(to_fetch), 'file')} of {len(files)}, {sum(sizes) / 1e6:.1f} MB"
    if unknown := len(to_fetch) - len(sizes):
        text += f" and {plural(unknown, 'file')} of unknown size"
    talk(f"to fetch: {text}")


@contextlib.contextmanager
def _progress() -> Iterator[OnProgress]:
    """Show a bar with bytes, speed and time left in a terminal, a line per file elsewhere."""
    if not sys.stderr.isatty():
        yield lambda p: None if p.step is None else talk(line(p.step))
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    minute = 60.0  # s over which the speed is taken
    stderr = console(err=True)
    with drawn(progress.Progress(*columns, console=stderr, speed_estimate_period=minute)) as bar:
        task = bar.add_task("fetching", total=None)

        def show(p: FetchProgress) -> None:
            if p.step is not None:
                bar.console.print(line(p.step), markup=False)
                count = f"{p.step.number}/{p.step.total} files"
                bar.update(task, description=count)
            bar.update(task, completed=p.received, total=p.total)

        yield show
