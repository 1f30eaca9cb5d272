"""Output of the commands: data on stdout, messages and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ._options import as_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from sleeptools.errors import SleeptoolsError
    from sleeptools.store.batch import FinishedItem, OnProgress

WORD: Final = 7  # letters of the longest word of a column that is folded: "clipped"
BARS: list[Console] = []
"""Consoles on which a progress bar is drawn, above which lines are to stand."""

Jobs = Annotated[int, typer.Option(min=1, help="Recordings at a time, each in a process.")]


AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Take the whole records of files cut short.")
]


EpochFromOnsets = Annotated[
    bool,
    typer.Option("--epoch-from-onsets", help="Let stages without duration last to the next one."),
]


Scorer = Annotated[
    str | None, typer.Option(help="Whose rows to read, where a file has several scorers'.")
]


IgnoreBadAnnotations = Annotated[
    bool,
    typer.Option("--ignore-bad-annotations", help="Pass over malformed annotations of EDF files."),
]


IgnoreChannels = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-channel",
        metavar="LABEL",
        help="Leave out the signal of this label; can be given several times.",
    ),
]


IgnoreUnmatched = Annotated[
    bool,
    typer.Option(
        "--ignore-unmatched", help="Pass over files like data that belong to no recording."
    ),
]


def talk(text: str) -> None:
    """Print a line on stderr, with settings written as options and control characters escaped.

    A bar that is drawn stays below it. A terminal or a log that cannot be written ends no work.
    """
    line_text = printable(as_options(text))
    with contextlib.suppress(OSError, ValueError):
        if BARS:
            BARS[-1].print(line_text, markup=False)
        else:
            typer.echo(line_text, err=True)


@contextlib.contextmanager
def drawn(bar: Progress) -> Iterator[Progress]:
    """Draw a progress bar, and let `talk` write above it."""
    with bar:
        BARS.append(bar.console)
        try:
            yield bar
        finally:
            BARS.remove(bar.console)


def printable(text: str) -> str:
    """Escape control characters, which a damaged or hostile file header may hold."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: "1 subject", "2 subjects"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listing(names: Sequence[str], shown: int = 6) -> str:
    """Write the first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


STATE = {"has_printed_json": False}
"""Of the command that runs."""


def emit_json(value: object) -> None:
    """Print data as JSON on stdout."""
    STATE["has_printed_json"] = True
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=plain, default=str))


def emit_failure(failure: SleeptoolsError) -> None:
    """Print an error as the JSON of a command that has printed none: stdout is one document."""
    if not STATE["has_printed_json"]:
        with contextlib.suppress(OSError, ValueError):
            facts = failure.facts()
            emit_json({"error": {name: text and as_options(text) for name, text in facts.items()}})


def emit_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table on stdout, with numbers aligned to the right.

    Columns of several words are folded between words; one is cut only where not even the longest
    words of all columns have room side by side.
    """
    from rich import box
    from rich.markup import render
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    texts = [[cell(v) for v in row] for row in rows]
    plain = [columns, *([render(text).plain for text in row] for row in texts)]
    widths = _word_widths(plain, console().width - 2 * len(columns))
    for i, name in enumerate(columns):
        values = [row[i] for row in rows]
        numeric = all(isinstance(value, int | float) for value in values)
        single = i == 0 or not any(" " in str(value) for value in values)
        table.add_column(
            name,
            justify="right" if numeric else "left",
            no_wrap=single and not widths,
            overflow="fold",
            width=widths[i] if widths else None,
        )
    for row in texts:
        table.add_row(*row)
    console().print(title, style="bold", markup=False)
    console().print(table)


def _word_widths(lines: Sequence[Sequence[str]], room: int) -> list[int]:
    """Share out a width among columns so that no word is cut; empty if there is no need or way."""
    from rich.cells import cell_len

    columns = [*zip(*lines, strict=True)]
    full_widths = [max(map(cell_len, texts)) for texts in columns]
    word_widths = [max(cell_len(w) for text in texts for w in text.split(" ")) for texts in columns]
    spare = room - sum(word_widths)
    if sum(full_widths) <= room or spare < 0:
        return []
    wanted = [w - s for w, s in zip(full_widths, word_widths, strict=True)]
    return [s + spare * w // sum(wanted) for s, w in zip(word_widths, wanted, strict=True)]


def emit_rows(columns: list[str], rows: list[list[Any]], folding: Sequence[str]) -> None:
    """Print rows on stdout: a table as wide as the terminal, or in a pipe a line for each row.

    Columns of these names may be folded to fit the terminal. Where the first would be cut into
    pieces, it stands in a line of its own above the others.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.markup import render
    from rich.table import Table

    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    texts = [[cell("-" if value == "" else value) for value in row] for row in rows]
    lines = [columns, *([render(text).plain for text in row] for row in texts)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]
    apart = False
    if sys.stdout.isatty():
        full_widths = [w + 2 for n, w in zip(columns, widths, strict=True) if n not in folding[1:]]
        apart = columns[0] == folding[0] and sum(full_widths) + WORD + 2 > console().width
    if sys.stdout.isatty() and not apart:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name, right in zip(columns, numeric, strict=True):
            table.add_column(
                name,
                justify="right" if right else "left",
                overflow="fold",
                no_wrap=name not in folding,
                min_width=WORD if name == folding[-1] else None,
            )
        for row in texts:
            table.add_row(*row)
        console().print(table)
        return
    if apart:
        widths[0] = 0
    for line in lines:
        if apart and line[0] != "-":  # else it goes on with the one above
            typer.echo(line[0])
        cells = [
            " " * (width - cell_len(text)) + text
            if right
            else text + " " * (width - cell_len(text))
            for text, width, right in zip(
                ["", *line[1:]] if apart else line, widths, numeric, strict=True
            )
        ]
        typer.echo("  ".join(cells).rstrip())


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
    """Make a console on stdout or stderr; in a pipe it is wide enough for every table."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(stderr=err, width=None if stream.isatty() else 120, highlight=False)


@contextlib.contextmanager
def batch_progress(title: str) -> Iterator[OnProgress]:
    """Show work on many recordings: a bar in a terminal, otherwise a line for each recording."""
    if not sys.stderr.isatty():
        yield lambda finished: talk(line(finished))
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    hour = 3600.0  # s over which the speed is taken: a night may take minutes
    stderr = console(err=True)
    with drawn(progress.Progress(*columns, console=stderr, speed_estimate_period=hour)) as bar:
        yield _Bar(bar, bar.add_task(title, total=None))


@dataclass(frozen=True)
class _Bar:
    """A callback of a batch that moves a bar, whose end it is told before the first item."""

    bar: Progress
    task: TaskID

    def begin(self, total: int) -> None:
        self.bar.update(self.task, completed=0, total=total, refresh=True)

    def __call__(self, finished: FinishedItem) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.bar.console.print(line(finished), markup=False)
        self.bar.update(self.task, completed=finished.number, total=finished.total)


def line(finished: FinishedItem) -> str:
    """Describe in a line how the work on one recording or file ended."""
    mark = "failed: " if finished.failed else ""
    text = printable(as_options(finished.text))
    return f"[{finished.number}/{finished.total}] {finished.id}: {mark}{text}"
