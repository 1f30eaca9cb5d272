"""HTML and SVG elements as strings, with every text and attribute escaped.

What a file, a person or a data set named reaches a page only through `escape` or an attribute here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

from sleeptools import store
from sleeptools.report import colours

Markup = NewType("Markup", str)
"""A string of HTML or SVG in which every text is escaped."""
DENSE_COLUMNS = 6
"""Largest number of columns in type of normal size."""
LONGEST_WORD = 20
"""Largest number of letters that a cell never breaks."""
VOID_ELEMENTS = frozenset({"br", "hr", "col", "path", "rect", "line", "circle", "meta"})


def escape(value: object) -> Markup:
    """Escape a text; control characters, which no XML may hold, are written as escapes."""
    return Markup(html.escape("\n".join(map(store.visible, str(value).split("\n")))))


def join(pieces: Iterable[object], between: str = "") -> Markup:
    """Join pieces of markup; all of them must be escaped already."""
    return Markup(escape(between).join(str(piece) for piece in pieces))


def element(name: str, *content: Markup, **attributes: object) -> Markup:
    """Write an element.

    Parameters
    ----------
    name
        For example "td".
    content
        Markup, put one behind the other.
    attributes
        A trailing underscore is dropped (`class_`), other underscores become hyphens; None leaves
        the attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not content and name in VOID_ELEMENTS:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{''.join(content)}</{name}>")


def paragraph(value: object, **attributes: object) -> Markup:
    """Write a paragraph of escaped text."""
    return element("p", escape(value), **attributes)


def bullet_list(values: Iterable[object]) -> Markup:
    """Write a bulleted list of escaped texts."""
    return element("ul", *(element("li", escape(v)) for v in values))


def table_element(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    strong: frozenset[int] = frozenset(),
    texts: int = 1,
    narrow: bool = False,
    label: str = "",
) -> Markup:
    """Write a table that can be scrolled sideways, by keyboard as well.

    Parameters
    ----------
    head
        Column headings.
    rows
        Cells as text; the first of a row is its heading.
    caption
        Says what the table shows; read out first by a screen reader.
    strong
        Indices of the rows that are highlighted.
    texts
        Number of leading columns that are text, aligned left; the others are numbers.
    narrow
        Whether it is only as wide as its content.
    label
        What tells its region from others on the page; the caption if left out.
    """
    headings = element("tr", *(_cell("th", h, i < texts, scope="col") for i, h in enumerate(head)))
    body = [
        element(
            "tr",
            *(
                _cell("td" if i else "th", value, i < texts, scope=None if i else "row")
                for i, value in enumerate(row)
            ),
            class_="strong" if number in strong else None,
        )
        for number, row in enumerate(rows)
    ]
    return scrolled(
        element(
            "table",
            element("caption", element("span", escape(caption))),
            element("thead", headings),
            element("tbody", *body),
            class_="narrow" if narrow else "dense" if len(head) > DENSE_COLUMNS else None,
        ),
        label=label or caption,
    )


def _cell(name: str, value: object, is_text: bool, *, scope: str | None) -> Markup:
    words = str(value).split()
    kinds = ["t"] * is_text + ["long"] * any(len(word) > LONGEST_WORD for word in words)
    return element(name, escape(value), scope=scope, class_=" ".join(kinds) or None)


def scrolled(content: Markup, *, label: str, class_: str | None = None) -> Markup:
    """Let wide content scroll sideways within the page, reachable by keyboard."""
    named = f"scroll {class_}" if class_ else "scroll"
    return element("div", content, class_=named, role="region", tabindex=0, aria_label=label)


def svg_element(
    content: Iterable[Markup], width: float, height: float, description: str, **attributes: object
) -> Markup:
    """Write an inline drawing.

    Parameters
    ----------
    width, height
        In the drawing's own units; on a page it is as wide as there is room, and no wider.
    description
        What it shows, for those who cannot see it.
    attributes
        Further attributes, as in `element`.
    """
    return element(
        "svg",
        element("title", escape(description)),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=description,
        xmlns="http://www.w3.org/2000/svg",
        style=f"min-width:{min(width, 640):g}px;max-width:{width:g}px",
        **attributes,
    )


def standalone(drawing: Markup) -> str:
    """Turn an inline drawing into a file of its own: the colours of the light page, and a font."""
    return colours.fixed_colours(drawing).replace(
        "<svg ", '<svg font-family="DejaVu Sans, Arial, sans-serif" ', 1
    )
