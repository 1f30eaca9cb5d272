#!/usr/bin/env python3
"""Draw docs/architecture.svg from the contracts of pyproject.toml, and write who imports whom.

Rows and rooms are the layers that `lint-imports` enforces, top to bottom; the sentence in a room is
the first line of its docstring. The table between the marks in docs/architecture.md has the direct
imports between rooms, as grimp finds them. Run it again after a room, its sentence or an import
between rooms has changed: tests/project/test_architecture.py compares.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
SVG = ROOT / "docs/architecture.svg"
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- imports: by docs/draw_architecture.py -->\n", "<!-- end of imports -->\n"

WIDTH, MARGIN, GAP, ARROW = 980, 24, 16, 22  # px
CHARACTER, LINE = 7.5, 18  # px: a wide sans-serif letter at 12.5 px, and the step to the next line
STYLE = """
svg { color-scheme: light dark; font-family: system-ui, "DejaVu Sans", sans-serif }
.paper { fill: #ffffff } .box { fill: #f3f6fa; stroke: #8a9bb0 }
.torch { fill: #fdf1e3; stroke: #b9803a }
.name { fill: #10233c; font: bold 15px ui-monospace, "DejaVu Sans Mono", monospace }
.text { fill: #2c3b4e; font-size: 12.5px } .mark { fill: #7a4b10; font-size: 11.5px }
.arrow { stroke: #5b6b7f; stroke-width: 1.5; fill: none } .head { fill: #5b6b7f }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0f151d } .box { fill: #1a2431; stroke: #5f7085 }
  .torch { fill: #2b2216; stroke: #b98a4f }
  .name { fill: #eaf1fa } .text { fill: #c6d2e0 } .mark { fill: #e8bd86 }
  .arrow { stroke: #93a4b8 } .head { fill: #93a4b8 }
}"""


def contracts() -> tuple[list[list[str]], set[str], set[str]]:
    """Rows of rooms from top to bottom, the rooms that may import torch, those that may talk."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    by_type = {"layers": [], "torch": [], "onnxruntime": [], "typer": []}
    for contract in table["contracts"]:
        key = "layers" if contract["type"] == "layers" else contract["forbidden_modules"][0]
        by_type[key].append(contract)
    rows = [layer.split(" | ") for layer in by_type["layers"][0]["layers"]]
    rooms = {room for row in rows for room in row}

    def allowed(library: str) -> set[str]:
        forbidden = {m.removeprefix("sleeptools.") for m in by_type[library][0]["source_modules"]}
        return rooms - forbidden

    return rows, allowed("torch") - {"cli"}, allowed("typer")


def sentence(room: str) -> str:
    """First line of a room's docstring."""
    folder = ROOT / ("cli" if room == "cli" else f"sleeptools/{room}")
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.splitlines()[0].replace("`", "")


def _box(room: str, mark: str, x: float, y: float, width: float, height: float) -> list[str]:
    lines = textwrap.wrap(sentence(room), int((width - 24) / CHARACTER))
    kind = "torch" if mark == "torch" else "box"
    folder = "cli/" if room == "cli" else room + "/"
    name = folder if room == "cli" or (ROOT / "sleeptools" / room).is_dir() else room + ".py"
    out = [
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>',
        f'<text class="name" x="{x + 12:g}" y="{y + 22:g}">{name}</text>',
    ]
    if mark:
        at_end = f'x="{x + width - 12:g}" y="{y + 22:g}" text-anchor="end"'
        out.append(f'<text class="mark" {at_end}>{mark}</text>')
    for i, line in enumerate(lines):
        spot = f'x="{x + 12:g}" y="{y + 42 + i * LINE:g}"'
        out.append(f'<text class="text" {spot}>{escape(line)}</text>')
    return out


def _row_height(row: list[str], width: float) -> float:
    letters = int((width - 24) / CHARACTER)
    return 34 + LINE * max(len(textwrap.wrap(sentence(room), letters)) for room in row)


def _arrow(y: float) -> list[str]:
    x, tip = WIDTH / 2, y + ARROW - 4
    return [
        f'<path class="arrow" d="M{x:g} {y + 4:g}V{tip - 6:g}"/>',
        f'<path class="head" d="M{x - 5:g} {tip - 7:g}h10l-5 7z"/>',
    ]


def draw() -> str:
    """Return the drawing as SVG text."""
    rows, torch, talks = contracts()
    marks = dict.fromkeys(torch, "torch") | dict.fromkeys(talks, "typer, rich")
    body: list[str] = []
    y = float(MARGIN)
    for number, row in enumerate(rows):
        if number:
            body += _arrow(y)
            y += ARROW
        width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        height = _row_height(row, width)
        for column, room in enumerate(row):
            x = MARGIN + column * (width + GAP)
            body += _box(room, marks.get(room, ""), x, y, width, height)
        y += height
    caption = (
        "A room imports rooms of the rows below it, never of its own row or above."
        " Marked rooms may import torch; only cli talks to people."
    )
    body.append(f'<text class="text" x="{MARGIN}" y="{y + 26:g}">{caption}</text>')
    y += 26 + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}"'
            f' width="{WIDTH}" height="{y:g}" role="img" aria-labelledby="title">',
            '<title id="title">The rooms of sleeptools in rows: imports go downwards</title>',
            f"<style>{STYLE}\n</style>",
            f'<rect class="paper" width="{WIDTH}" height="{y:g}"/>',
            *body,
            "</svg>\n",
        ]
    )


def imports() -> str:
    """Return the table of direct imports between rooms as Markdown, the top row first."""
    graph = grimp.build_graph("sleeptools", cache_dir=None)
    rooms = [room for row in contracts()[0] for room in row]
    for room in rooms:
        if f"sleeptools.{room}" in graph.modules:
            graph.squash_module(f"sleeptools.{room}")
    lines = ["| room | imports |\n", "|---|---|\n"]
    for room in rooms:
        direct = graph.find_modules_directly_imported_by(f"sleeptools.{room}")
        below = [r for r in rooms if f"sleeptools.{r}" in direct and r != room]
        lines.append(f"| `{room}` | {' '.join(f'`{r}`' for r in below) or 'none'} |\n")
    return "".join(lines)


def with_imports(page: str) -> str:
    """Return the text of docs/architecture.md with the table of imports of today."""
    head, _, tail = page.partition(BEGIN)
    return head + BEGIN + "\n" + imports() + "\n" + END + tail.partition(END)[2]


if __name__ == "__main__":
    SVG.write_text(draw())
    PAGE.write_text(with_imports(PAGE.read_text()))
