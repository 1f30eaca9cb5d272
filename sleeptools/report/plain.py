"""Sections as Markdown, as CSV files, and figures as files of their own: for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.report import markup
from sleeptools.report.blocks import (
    Beside,
    Block,
    Figure,
    Folded,
    Heading,
    Items,
    Table,
    Text,
    Tiles,
)
from sleeptools.report.html import Section
from sleeptools.report.plots import Plot

SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>|])")


def markdown(sections: Sequence[Section], prefix: str, figures: str) -> str:
    """Write the sections of a run.

    Parameters
    ----------
    prefix
        Of the names of its figures' files.
    figures
        Folder of these files as seen from the text; empty if they were not written.
    """
    lines: list[str] = []
    for section in sections:
        lines += [f"## {_safe(section.title)}", ""]
        for block in section.blocks:
            lines += [*_lines(block, prefix, figures), ""]
    return "\n".join(lines)


def _lines(block: Block, prefix: str, figures: str) -> Iterator[str]:
    match block:
        case Text():
            parts = (f"**{_safe(block.bold)}**" if block.bold else "", _safe(block.said))
            tag = f"({_safe(block.tag)})" if block.tag else ""
            yield " ".join(filter(None, (*parts, tag)))
        case Heading(said):
            yield f"### {_safe(said)}"
        case Items(values):
            yield from (f"- {_safe(value)}" for value in values)
        case Tiles(values):
            rows = [list(map(_safe, v)) for v in values]
            yield from (f"- {name}: **{value}** ({below})" for name, value, below in rows)
        case Table():
            yield from _table(block)
        case Figure() if figures:
            yield f"![{_safe(block.label)}](<{figures}/{prefix}{filename(block.name)}.svg>)"
            yield f"\n{_safe(block.caption)}"
        case Figure():
            yield f"*{_safe(block.label)} (a figure): {_safe(block.caption)}*"
        case Beside(blocks):
            for inner in blocks:
                yield from (*_lines(inner, prefix, figures), "")
        case Folded(title, inner):
            yield from (f"**{_safe(title)}**", "", *_lines(inner, prefix, figures))


def _table(table: Table) -> Iterator[str]:
    yield from (f"{_safe(table.caption)}:", "")
    rule = ["---" if i < table.texts else "---:" for i in range(len(table.head))]
    for row in (table.head, rule, *table.rows):
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(value: object) -> str:
    return value if value in ("---", "---:") and isinstance(value, str) else _safe(value)


def _safe(value: object) -> str:
    """Escape what Markdown, or HTML within it, would take as its own."""
    return SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def blocks(sections: Iterable[Section]) -> Iterator[Block]:
    """Give every block of the sections, those within others, too."""
    todo: list[Block] = [b for section in sections for b in section.blocks]
    while todo:
        block = todo.pop(0)
        match block:
            case Beside(inner):
                todo = [*inner, *todo]
            case Folded(_, one):
                todo = [one, *todo]
            case _:
                yield block


def write_tables(sections: Sequence[Section], prefix: str, folder: Path) -> list[Path]:
    """Write every table as a CSV file."""
    written = []
    for block in blocks(sections):
        if isinstance(block, Table):
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n").writerows([block.head, *block.rows])
            written.append(folder / f"{prefix}{filename(block.name)}.csv")
            store.write_text(written[-1], buffer.getvalue())
    return written


def write_figures(sections: Sequence[Section], prefix: str, folder: Path) -> list[Path]:
    """Write every figure as SVG, and those of matplotlib as PDF, too."""
    written = []
    for block in blocks(sections):
        if isinstance(block, Figure):
            path = folder / f"{prefix}{filename(block.name)}.svg"
            plot = block.drawing
            drawing = plot.svg(block.name) if isinstance(plot, Plot) else plot
            store.write_text(path, markup.standalone(drawing))
            written.append(path)
            if isinstance(plot, Plot):
                written.append(path.with_suffix(".pdf"))
                with store.atomic_write(written[-1]) as file:
                    file.write(plot.pdf())
    return written


def filename(name: str) -> str:
    """Make a name that every file system takes, and that stays in its folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "unnamed"
