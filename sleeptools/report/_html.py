"""Blocks and sections as HTML, and the page around them: data/report.html, .css and .js."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Final

from sleeptools import markup as m
from sleeptools.markup import Markup
from sleeptools.plots import Plot
from sleeptools.report._blocks import (
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

ZOOM: Final = (
    "Zoom: click into the figure, then turn the wheel, drag, or press + and -, the arrows, and 0."
)


@dataclass(frozen=True)
class Section:
    """A section of a run.

    Parameters
    ----------
    key
        Its anchor, without the run's number.
    title
        Its heading.
    blocks
        What it shows.
    """

    key: str
    title: str
    blocks: tuple[Block, ...] = field(repr=False)


def section(found: Section, number: int, level: str) -> Markup:
    """Draw a section of the run of that number; `level` is the element of its heading."""
    anchor = f"{found.key}-{number}"
    heading = m.element(level, m.text(found.title), id=f"{anchor}-h", class_="section")
    sub = f"h{int(level[1]) + 1}"
    inside = m.join([heading, *(block(b, number, sub) for b in found.blocks)])
    return m.element("section", inside, id=anchor, aria_labelledby=f"{anchor}-h")


def block(found: Block, number: int, level: str = "h3") -> Markup:  # noqa: PLR0911 - one each
    """Draw one block; `number` is that of the run, `level` the element of a heading within."""
    match found:
        case Text():
            return _text(found)
        case Heading(said):
            return m.element(level, m.text(said))
        case Items(values):
            return m.items(values)
        case Tiles(values):
            return m.element("dl", *(_tile(*value) for value in values), class_="tiles")
        case Table():
            return m.table(
                [_tight(h) for h in found.head], [[_tight(c) for c in row] for row in found.rows],
                caption=found.caption, strong=found.strong, texts=found.texts, narrow=found.narrow,
            )  # fmt: skip
        case Figure():
            return _figure(found, number)
        case Beside(blocks):
            return m.element("div", *(block(b, number, level) for b in blocks), class_="pair")
        case Folded(title, inner):
            said = m.element("summary", m.text(title))
            return m.element("details", said, block(inner, number, level))


def _text(found: Text) -> Markup:
    bold = [m.element("strong", m.text(found.bold)), m.text(" ")] if found.bold else []
    kind = "tag" if found.warn else "tag good"
    tag = [m.text(" "), m.element("span", m.text(found.tag), class_=kind)] if found.tag else []
    return m.element("p", *bold, m.text(found.said), *tag, class_=found.kind or None)


def _tile(name: str, value: str, below: str) -> Markup:
    shown = m.element("dd", m.text(value), m.element("small", m.text(below)))
    return m.element("div", m.element("dt", m.text(name)), shown, class_="tile")


def _tight(cell: object) -> object:
    """Keep "n = 20" on one line."""
    return cell.replace("n = ", "n\u00a0=\u00a0") if isinstance(cell, str) else cell


def _figure(found: Figure, number: int) -> Markup:
    plot = found.drawing
    drawing = plot.svg(f"{found.name}-{number}") if isinstance(plot, Plot) else plot
    shown = m.scrolled(drawing, label=found.label, class_="zooms" if found.zoom else None)
    caption = [m.element("figcaption", m.text(found.caption))] if found.caption else []
    return m.element("figure", shown, *caption)


def page(title: str, header: Markup, body: Sequence[Markup], footer: Markup) -> str:
    """Put the page together.

    Its own script is named by its hash in the content security policy, which forbids every other
    one and everything that would have to be fetched.
    """
    data = resources.files("sleeptools").joinpath("data")
    frame, style, script = (
        data.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    script = f"\n{script}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(frame).substitute(
        title=m.text(title), header=header, body=m.join(body), footer=footer, style=style,
        script=script, digest=digest,
    )  # fmt: skip
