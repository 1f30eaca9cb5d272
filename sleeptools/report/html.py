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
from sleeptools.report.markup import Markup
from sleeptools.report.plots.canvas import Plot

PURPOSE: Final = "Research software, not a medical device; not for diagnosis."
ZOOM_HELP: Final = (
    "Zoom: click into the figure, then turn the wheel, drag, or press + and -, the arrows, and 0."
)
WITHIN_RUN: Final = "h4"
"""Level of a heading within a section where a page has several runs."""


@dataclass(frozen=True)
class Section:
    """A section of a run.

    Parameters
    ----------
    key
        Anchor of the section, without the run's number.
    title
        Heading.
    blocks
        Blocks in the order in which they are shown.
    """

    key: str
    title: str
    blocks: tuple[Block, ...] = field(repr=False)


def section_html(section: Section, number: int, level: str) -> Markup:
    """Write a section of the run of that number; `level` is the element of its heading."""
    anchor = f"{section.key}-{number}"
    heading = markup.element(
        level, markup.escape(section.title), id=f"{anchor}-h", class_="section"
    )
    sublevel = f"h{int(level[1]) + 1}"
    content = markup.join([heading, *(block_html(b, number, sublevel) for b in section.blocks)])
    names = f"run-{number} {anchor}-h" if level != "h2" else f"{anchor}-h"
    return markup.element("section", content, id=anchor, aria_labelledby=names)


def block_html(block: Block, number: int, level: str = "h3") -> Markup:  # noqa: PLR0911 - one each
    """Write one block; `number` is that of the run, `level` the element of a heading within."""
    which = f", run {number}" if level == WITHIN_RUN else ""
    match block:
        case Text():
            return _text(block)
        case Code(text):
            copied = markup.element("pre", markup.escape(text))
            return markup.scrolled(copied, label=f"To copy{which}")
        case Heading(text):
            return markup.element(level, markup.escape(text))
        case BulletList(values):
            return markup.bullet_list(values)
        case Tiles(values):
            return markup.element("dl", *(_tile(*value) for value in values), class_="tiles")
        case Table():
            return markup.table_element(
                [_tight(heading) for heading in block.head],
                [[_tight(cell) for cell in row] for row in block.rows],
                caption=block.caption,
                strong=block.strong,
                texts=block.texts,
                narrow=block.narrow,
                label=f"{block.caption}{which}",
            )
        case Figure():
            return _figure(block, number, which)
        case SideBySide(blocks):
            content = (block_html(b, number, level) for b in blocks)
            return markup.element("div", *content, class_="pair")
        case Collapsible(title, content, printed):
            summary = markup.element("summary", markup.escape(title))
            inner = block_html(content, number, level)
            return markup.element("details", summary, inner, class_="printed" if printed else None)


def _text(block: Text) -> Markup:
    content = [markup.escape(block.text)]
    if block.bold:
        content[:0] = [markup.element("strong", markup.escape(block.bold)), markup.escape(" ")]
    if block.tag:
        kind = "tag" if block.warn else "tag good"
        tag = markup.element("span", markup.escape(block.tag), class_=kind)
        content += [markup.escape(" "), tag]
    return markup.element("p", *content, class_=block.kind or None)


def _tile(name: str, value: str, below: str) -> Markup:
    note = markup.element("small", markup.escape(below))
    number = markup.element("dd", markup.escape(value), note)
    return markup.element("div", markup.element("dt", markup.escape(name)), number, class_="tile")


def _tight(cell: object) -> object:
    """Keep "n = 20" on one line."""
    return cell.replace("n = ", "n\u00a0=\u00a0") if isinstance(cell, str) else cell


def _figure(figure: Figure, number: int, which: str) -> Markup:
    plot = figure.drawing
    drawing = plot.svg(f"{figure.name}-{number}") if isinstance(plot, Plot) else plot
    kind = "zooms" if figure.zoom else None
    region = markup.scrolled(drawing, label=f"{figure.label}{which}", class_=kind)
    if not figure.caption:
        return markup.element("figure", region)
    content = [markup.escape(figure.caption)]
    if figure.zoom:
        content.append(markup.element("span", markup.escape(f" {ZOOM_HELP}"), class_="screen"))
    caption = markup.element("figcaption", *content)
    return markup.element("figure", region, caption)


def banner(head: str, text: str) -> Markup:
    """Write what must be seen first."""
    return markup.element(
        "div",
        markup.element("strong", markup.escape(head)),
        markup.paragraph(text),
        class_="banner",
        role="note",
    )


def page_html(title: str, header: Markup, body: Sequence[Markup], footer: Markup) -> str:
    """Assemble the page.

    Its content security policy names the page's own script by its hash, and forbids any other
    script and anything that would have to be fetched.
    """
    data = resources.files("sleeptools.report")
    frame, style, script = (
        data.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    script = f"\n{script}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(frame).substitute(
        title=markup.escape(title),
        header=header,
        body=markup.join(body),
        footer=footer,
        style=style,
        script=script,
        digest=digest,
    )
