"""Blocks that a section consists of: texts, tables and figures, whatever they are shown on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sleeptools.report.markup import Markup
from sleeptools.report.plots.canvas import Plot


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Parameters
    ----------
    text
        Plain text, as every text in a block.
    kind
        "muted", "lead" or "".
    bold
        Text in bold type before it.
    tag
        Mark after it.
    warn
        Whether the mark is a warning.
    """

    text: str
    kind: str = ""
    bold: str = ""
    tag: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class BulletList:
    """A bulleted list."""

    values: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """Numbers in large type, to be seen first.

    Parameters
    ----------
    values
        Name, value, and the text below it, one triple per tile.
    """

    values: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    name
        Name of its file.
    head
        Column headings.
    rows
        Cells; the first of a row is its heading.
    caption
        What it shows.
    strong
        Indices of the rows that are highlighted.
    texts
        Number of leading columns that are text; the others are numbers.
    narrow
        Whether it is only as wide as its content.
    """

    name: str
    head: Sequence[object]
    rows: Sequence[Sequence[object]] = field(repr=False)
    caption: str = ""
    strong: frozenset[int] = frozenset()
    texts: int = 1
    narrow: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure.

    Parameters
    ----------
    name
        Name of its file; different from that of any other figure of the run.
    drawing
        An SVG, or a plot still to be drawn.
    label
        Short name for those who cannot see it.
    caption
        What it shows.
    zoom
        Whether its time axis can be zoomed.
    """

    name: str
    drawing: Markup | Plot = field(repr=False)
    label: str
    caption: str = ""
    zoom: bool = False


@dataclass(frozen=True)
class SideBySide:
    """Blocks shown side by side where there is room."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Collapsible:
    """A block that is hidden until its title is clicked.

    Parameters
    ----------
    title
        What is seen of it before.
    block
        What is hidden.
    printed
        Whether it is on paper, too, where nothing can be clicked.
    """

    title: str
    block: Block
    printed: bool = False


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is, such as a BibTeX entry."""

    text: str


Block = Text | Code | Heading | BulletList | Tiles | Table | Figure | SideBySide | Collapsible
