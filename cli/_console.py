"""How commands talk: data on stdout, the rest on stderr, plain lines where nobody watches."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._options import as_options

if TYPE_CHECKING:
    from rich.console import Console

    from sleeptools.store.batch import Progress, Step


Jobs = Annotated[int, typer.Option(min=1, help="Recordings at a time, each in a process.")]


def talk(text: str) -> None:
    """Say a line on stderr: settings as options, control characters of a hostile header escaped."""
    typer.echo(printable(as_options(text)), err=True)


def printable(text: str) -> str:
    """Escape what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def plural(count: int, noun: str) -> str:
    """Count something: "1 subject", "2 subjects"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def emit_json(value: object) -> None:
    """Print data as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def emit_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table on stdout; numbers stand to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        numeric = all(isinstance(r[i], int | float) for r in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(cell(v) for v in row))
    console().print(table)


def cell(value: object) -> str:
    """Format a value for a table: three digits, and a dash for what is undefined."""
    from rich.markup import escape

    from sleeptools.report.numbers import is_missing

    if is_missing(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return escape(printable(str(value)))


def console(*, err: bool = False) -> Console:
    """Make a console; in a pipe it is wide enough for every table."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(stderr=err, width=None if stream.isatty() else 120, highlight=False)


@contextlib.contextmanager
def batch_progress(what: str) -> Iterator[Progress]:
    """Show work on many recordings: a bar in a terminal, a line per recording elsewhere."""
    if not sys.stderr.isatty():
        yield lambda step: talk(line(step))
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hour = 3600.0  # s over which the speed is taken: a night may take minutes
    with Progress(*columns, console=console(err=True), speed_estimate_period=hour) as bar:
        task = bar.add_task(what, total=None)

        def show(step: Step) -> None:
            bar.console.print(line(step), markup=False)
            bar.update(task, completed=step.number, total=step.total)

        yield show


def line(step: Step) -> str:
    """Say in a line what became of one recording or file."""
    mark = "failed: " if step.failed else ""
    return f"[{step.number}/{step.total}] {step.id}: {mark}{printable(as_options(step.text))}"
