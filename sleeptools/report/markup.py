"""HTML and SVG elements as strings, with every text and attribute escaped.

What a file, a person or a data set named reaches a page only through `text` or an attribute here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

from sleeptools.report import colours

Markup = NewType("Markup", str)
"""A string that is escaped already."""
DENSE = 7
"""Columns; a table of more is set in smaller type."""
VOID = frozenset({"br", "hr", "col", "path", "rect", "line", "circle", "meta"})


def text(value: object) -> Markup:
    """Escape a text."""
    return Markup(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Put markup together; what is not markup yet must not be among the parts."""
    return Markup(text(between).join(str(part) for part in parts))


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
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not content and name in VOID:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{''.join(content)}</{name}>")


def paragraph(value: object, **attributes: object) -> Markup:
    """Write a paragraph of escaped text."""
    return element("p", text(value), **attributes)


def items(values: Iterable[object]) -> Markup:
    """Write a bulleted list of escaped texts."""
    return element("ul", *(element("li", text(v)) for v in values))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    strong: frozenset[int] = frozenset(),
    texts: int = 1,
    narrow: bool = False,
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
        Numbers of the rows to stand out.
    texts
        How many of the first columns are text, set to the left; the others are numbers.
    narrow
        Only as wide as its content.
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
            element("caption", element("span", text(caption))),
            element("thead", headings),
            element("tbody", *body),
            class_="narrow" if narrow else "dense" if len(head) > DENSE else None,
        ),
        label=caption,
    )


def _cell(name: str, value: object, is_text: bool, *, scope: str | None) -> Markup:
    return element(name, text(value), scope=scope, class_="t" if is_text else None)


def scrolled(content: Markup, *, label: str, class_: str | None = None) -> Markup:
    """Let wide content scroll sideways within the page, reachable by keyboard."""
    named = f"scroll {class_}" if class_ else "scroll"
    return element("div", content, class_=named, role="region", tabindex=0, aria_label=label)


def svg(
    parts: Iterable[Markup], width: float, height: float, said: str, **attributes: object
) -> Markup:
    """Put an inline drawing together.

    Parameters
    ----------
    width, height
        In the drawing's own units; on a page it is as wide as there is room, and no wider.
    said
        What it shows, for those who cannot see it.
    attributes
        Others, as of `element`.
    """
    return element(
        "svg",
        element("title", text(said)),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=said,
        xmlns="http://www.w3.org/2000/svg",
        style=f"min-width:{min(width, 640):g}px;max-width:{width:g}px",
        **attributes,
    )


def standalone(drawing: Markup) -> str:
    """Make a file of an inline drawing: the colours of the light page, and a font."""
    return colours.fixed(drawing).replace(
        "<svg ", '<svg font-family="DejaVu Sans, Arial, sans-serif" ', 1
    )
