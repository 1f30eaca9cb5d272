"""What a section is made of: texts, tables and figures, before it is known where they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sleeptools.report.markup import Markup
from sleeptools.report.plots import Plot


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Parameters
    ----------
    said
        Plain text, as every text in a block.
    kind
        "muted", "lead" or "".
    bold
        Stands before it.
    tag
        Stands after it, as a mark.
    warn
        Whether the mark warns.
    """

    said: str
    kind: str = ""
    bold: str = ""
    tag: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    said: str


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    values: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """Numbers to be seen first.

    Parameters
    ----------
    values
        Name, value, and what is said below it.
    """

    values: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    name
        Of its file.
    head
        Column headings.
    rows
        Cells; the first of a row is its heading.
    caption
        What it shows.
    strong
        Numbers of the rows to stand out.
    texts
        How many of the first columns are text; the others are numbers.
    narrow
        Only as wide as its content.
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
        Of its file; unlike any other of the run.
    drawing
        An SVG, or a plot still to be drawn.
    label
        Short; names it for those who cannot see it.
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
class Beside:
    """Blocks that stand side by side where there is room."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """A block to be opened by its title."""

    title: str
    block: Block


Block = Text | Heading | Items | Tiles | Table | Figure | Beside | Folded
