"""Blocks and sections as HTML, and the page around them: report.html, report.css, report.js."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Final

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
from sleeptools.report.markup import Markup
from sleeptools.report.plots import Plot

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
    heading = markup.element(level, markup.text(found.title), id=f"{anchor}-h", class_="section")
    sub = f"h{int(level[1]) + 1}"
    inside = markup.join([heading, *(block(b, number, sub) for b in found.blocks)])
    return markup.element("section", inside, id=anchor, aria_labelledby=f"{anchor}-h")


def block(found: Block, number: int, level: str = "h3") -> Markup:  # noqa: PLR0911 - one each
    """Draw one block; `number` is that of the run, `level` the element of a heading within."""
    match found:
        case Text():
            return _text(found)
        case Heading(said):
            return markup.element(level, markup.text(said))
        case Items(values):
            return markup.items(values)
        case Tiles(values):
            return markup.element("dl", *(_tile(*value) for value in values), class_="tiles")
        case Table():
            return markup.table(
                [_tight(h) for h in found.head],
                [[_tight(c) for c in row] for row in found.rows],
                caption=found.caption,
                strong=found.strong,
                texts=found.texts,
                narrow=found.narrow,
            )
        case Figure():
            return _figure(found, number)
        case Beside(blocks):
            return markup.element("div", *(block(b, number, level) for b in blocks), class_="pair")
        case Folded(title, inner):
            said = markup.element("summary", markup.text(title))
            return markup.element("details", said, block(inner, number, level))


def _text(found: Text) -> Markup:
    bold = (
        [markup.element("strong", markup.text(found.bold)), markup.text(" ")] if found.bold else []
    )
    kind = "tag" if found.warn else "tag good"
    tag = (
        [markup.text(" "), markup.element("span", markup.text(found.tag), class_=kind)]
        if found.tag
        else []
    )
    return markup.element("p", *bold, markup.text(found.said), *tag, class_=found.kind or None)


def _tile(name: str, value: str, below: str) -> Markup:
    shown = markup.element("dd", markup.text(value), markup.element("small", markup.text(below)))
    return markup.element("div", markup.element("dt", markup.text(name)), shown, class_="tile")


def _tight(cell: object) -> object:
    """Keep "n = 20" on one line."""
    return cell.replace("n = ", "n\u00a0=\u00a0") if isinstance(cell, str) else cell


def _figure(found: Figure, number: int) -> Markup:
    plot = found.drawing
    drawing = plot.svg(f"{found.name}-{number}") if isinstance(plot, Plot) else plot
    shown = markup.scrolled(drawing, label=found.label, class_="zooms" if found.zoom else None)
    caption = [markup.element("figcaption", markup.text(found.caption))] if found.caption else []
    return markup.element("figure", shown, *caption)


def page(title: str, header: Markup, body: Sequence[Markup], footer: Markup) -> str:
    """Put the page together.

    Its own script is named by its hash in the content security policy, which forbids every other
    one and everything that would have to be fetched.
    """
    data = resources.files("sleeptools.report")
    frame, style, script = (
        data.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    script = f"\n{script}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(frame).substitute(
        title=markup.text(title),
        header=header,
        body=markup.join(body),
        footer=footer,
        style=style,
        script=script,
        digest=digest,
    )
