"""Sections as Markdown, tables as CSV files, and figures as files of their own: for papers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.report import markup
from sleeptools.report.blocks import (
    Block,
    BulletList,
    Code,
    Collapsible,
    Figure,
    Heading,
    SideBySide,
    Table,
    Text,
    Tiles,
)
from sleeptools.report.html import Section
from sleeptools.report.numbers import DASH, NumberText
from sleeptools.report.plots.canvas import Plot
from sleeptools.report.plots.drawings import drawing_plot

MARKDOWN_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>|])")


def markdown(sections: Sequence[Section], prefix: str, figures: str) -> str:
    """Write the sections of a run.

    Parameters
    ----------
    prefix
        Prefix of the names of its figures' files.
    figures
        Folder of these files, relative to the text; empty if they were not written.
    """
    lines: list[str] = []
    for section in sections:
        lines += [f"## {markdown_text(section.title)}", ""]
        for block in section.blocks:
            lines += [*_lines(block, prefix, figures), ""]
    return "\n".join(lines)


def _lines(block: Block, prefix: str, figures: str) -> Iterator[str]:
    match block:
        case Text():
            bold = f"**{markdown_text(block.bold)}**" if block.bold else ""
            tag = f"({markdown_text(block.tag)})" if block.tag else ""
            yield " ".join(filter(None, (bold, markdown_text(block.text), tag)))
        case Code(text):
            yield from ("```", "\n".join(map(store.visible, text.split("\n"))), "```")
        case Heading(text):
            yield f"### {markdown_text(text)}"
        case BulletList(values):
            yield from (f"- {markdown_text(value)}" for value in values)
        case Tiles(values):
            rows = [list(map(markdown_text, v)) for v in values]
            yield from (f"- {name}: **{value}** ({below})" for name, value, below in rows)
        case Table():
            yield from _table(block)
        case Figure() if figures:
            file = f"{figures}/{prefix}{safe_filename(block.name)}.svg"
            yield f"![{markdown_text(block.label)}](<{file}>)"
            yield f"\n{markdown_text(block.caption)}"
        case Figure():
            yield f"*{markdown_text(block.label)} (a figure): {markdown_text(block.caption)}*"
        case SideBySide(blocks):
            for inner in blocks:
                yield from (*_lines(inner, prefix, figures), "")
        case Collapsible(title, inner, _):
            yield from (f"**{markdown_text(title)}**", "", *_lines(inner, prefix, figures))


def _table(table: Table) -> Iterator[str]:
    yield from (f"{markdown_text(table.caption)}:", "")
    rule = ["---" if i < table.texts else "---:" for i in range(len(table.head))]
    for row in (table.head, rule, *table.rows):
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(value: object) -> str:
    return value if value in ("---", "---:") and isinstance(value, str) else markdown_text(value)


def markdown_text(value: object) -> str:
    """Escape characters that have a meaning in Markdown, or in HTML within it."""
    return MARKDOWN_SPECIAL.sub(r"\\\1", store.visible(" ".join(str(value).split())))


def all_blocks(sections: Iterable[Section]) -> Iterator[Block]:
    """Give every block of the sections, including those inside other blocks."""
    queue: list[Block] = [b for section in sections for b in section.blocks]
    while queue:
        block = queue.pop(0)
        match block:
            case SideBySide(inner):
                queue = [*inner, *queue]
            case Collapsible(_, content, _):
                queue = [content, *queue]
            case _:
                yield block


def write_tables(sections: Sequence[Section], prefix: str, folder: Path) -> list[Path]:
    """Write every table as a CSV file."""
    written = []
    for block in all_blocks(sections):
        if isinstance(block, Table):
            written.append(folder / f"{prefix}{safe_filename(block.name)}.csv")
            store.write_text(written[-1], store.csv_text(_data_rows(block)))
    return written


def _data_rows(table: Table) -> list[list[object]]:
    """Give head and rows of numbers; the ends of intervals are columns of their own."""
    with_interval = [
        any(isinstance(cell, NumberText) and len(cell.numbers) > 1 for cell in column)
        for column in zip(*table.rows, strict=True)
    ]
    head: list[object] = []
    for i, title in enumerate(table.head):
        ends = (f"{title}, low", f"{title}, high") if i < len(with_interval) else ()
        head += [title, *(ends if ends and with_interval[i] else ())]
    rows = [
        [c for cell, wide in zip(row, with_interval, strict=True) for c in _data_cells(cell, wide)]
        for row in table.rows
    ]
    return [head, *rows]


def _data_cells(cell: object, with_interval: bool) -> list[object]:
    """Give a cell's number, with the ends of its interval where the column has such."""
    if isinstance(cell, NumberText):
        numbers: list[object] = [
            float(f"{n:.10g}") if isinstance(n, float) else n for n in cell.numbers
        ]
        return numbers + [""] * (3 * with_interval - len(numbers))
    return ["" if cell == DASH else cell] + ["", ""] * with_interval


def write_figures(sections: Sequence[Section], prefix: str, folder: Path) -> list[Path]:
    """Write every figure as SVG, PDF and PNG."""
    written = []
    for block in all_blocks(sections):
        if isinstance(block, Figure):
            path = folder / f"{prefix}{safe_filename(block.name)}.svg"
            plot = block.drawing
            if isinstance(plot, Plot):
                drawing = plot.svg(block.name)
            else:
                drawing, plot = plot, drawing_plot(plot)
            store.write_text(path, markup.standalone(drawing))
            written.append(path)
            for suffix, content in ((".pdf", plot.pdf()), (".png", plot.png())):
                written.append(path.with_suffix(suffix))
                with store.atomic_write(written[-1]) as file:
                    file.write(content)
    return written


def safe_filename(name: str) -> str:
    """Make a file name that every file system accepts and that cannot leave its folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "unnamed"
