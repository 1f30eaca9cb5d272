"""An item as one HTML page, in the look of the report; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sleeptools.report import html, markup
from sleeptools.report.html import PURPOSE, banner, block_html
from sleeptools.report.items.content import ItemContent
from sleeptools.report.items.item_table import ItemRow, ItemTable
from sleeptools.report.items.item_text import TITLE, capitalised, item_title, sections
from sleeptools.report.markup import Markup


def item_html(
    item: Mapping[str, Any], content: ItemContent, banners: Sequence[tuple[str, str]]
) -> str:
    """Write the page of an item.

    Parameters
    ----------
    banners
        What must be seen first: head and text.
    """
    title = item_title(item)
    time = f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"
    shows = str(item["shows"])
    header = markup.join(
        [
            markup.element("h1", markup.escape(title)),
            markup.paragraph(
                f"{capitalised(shows)}. Written by sleeptools on {time}", class_="lead"
            ),
            *(banner(head, text) for head, text in banners),
            markup.paragraph(PURPOSE, class_="purpose"),
        ]
    )
    body = [*_shown(content), *_lists(item, content)]
    return html.page_html(TITLE + title, header, body, markup.paragraph(PURPOSE))


def _section(key: str, title: str, content: Sequence[Markup]) -> Markup:
    heading = markup.element("h2", markup.escape(title), id=f"{key}-h")
    return markup.element("section", heading, *content, id=key, aria_labelledby=f"{key}-h")


def _shown(content: ItemContent) -> Iterator[Markup]:
    """Give the figures, which are seen first, and the tables."""
    if content.figures:
        named = (replace(f, label=f"Figure: {f.label}") for f in content.figures)
        figures = [block_html(figure, 1) for figure in named]  # a table may have the same label
        yield _section("figures", "Figures" if len(figures) > 1 else "Figure", figures)
    if content.tables:
        tables = [table_html(table) for table in content.tables]
        yield _section("numbers", "Numbers", tables)


def _lists(item: Mapping[str, Any], content: ItemContent) -> Iterator[Markup]:
    for head, texts in sections(item, content):
        key = head.lower().replace(" ", "-")
        yield _section(key, head, [markup.bullet_list(texts)])


def table_html(table: ItemTable) -> Markup:
    """Write a table with headings over groups of columns, and labels that span their lines."""
    element, escape = markup.element, markup.escape
    caption = element("caption", element("span", escape(table.caption)))
    body = [_row(table, i) for i in range(len(table.rows))]
    wide = len(table.labels) + len(table.columns) > markup.DENSE_COLUMNS
    content = element(
        "table",
        caption,
        element("thead", *_head(table)),
        element("tbody", *body),
        class_="item dense" if wide else "item",
    )
    return markup.scrolled(content, label=table.caption)


def _head(table: ItemTable) -> Iterator[Markup]:
    grouped = any(name for name, _ in table.groups)
    over = 2 if grouped else None
    texts = [
        markup.element("th", markup.escape(h), scope="col", rowspan=over, class_="t")
        for h in (*table.labels, "Result")
    ]
    if not grouped:
        heads = (markup.element("th", markup.escape(c.heading), scope="col") for c in table.columns)
        yield markup.element("tr", *texts, *heads)
        return
    first, second, number = [], [], 0
    for name, width in table.groups:
        columns = table.columns[number : number + width]
        number += width
        if name:
            first.append(
                markup.element(
                    "th", markup.escape(name), scope="colgroup", colspan=width, class_="group"
                )
            )
            second += [markup.element("th", markup.escape(c.heading), scope="col") for c in columns]
        else:
            first += [
                markup.element("th", markup.escape(c.heading), scope="col", rowspan=2)
                for c in columns
            ]
    yield markup.element("tr", *texts, *first)
    yield markup.element("tr", *second)


def _origin(row: ItemRow) -> Iterator[Markup]:
    """Write whose line it is: "ours: RUN" or "printed", and what is to be added below.

    Where the columns are of several runs, their headings tell them apart.
    """
    head, _, marks = row.origin.partition(", ")
    yield markup.escape(f"{head}: {row.run}" if row.run and ", " not in row.run else head)
    if marks:
        yield markup.element("small", markup.escape(marks))


def _row(table: ItemTable, number: int) -> Markup:
    row, bold = table.rows[number], table.bold()
    cells = []
    for i, label in enumerate(table.labels_of(number)):
        span = table.span(number, i)
        if label or not row.labels[i]:
            rows = span if span > 1 and label else None
            scope = "rowgroup" if rows else "row"
            cells.append(
                markup.element("th", markup.escape(label), scope=scope, rowspan=rows, class_="t")
            )
    cells.append(markup.element("td", *_origin(row), class_="t origin"))
    if row.remark:
        remark = markup.escape(row.remark)
        cells.append(markup.element("td", remark, colspan=len(table.columns), class_="t remark"))
    for j in range(len(row.values)):
        text = markup.escape(table.text(row, j))
        is_text = isinstance(row.values[j], str)
        content = markup.element("strong", text) if (number, j) in bold else text
        cells.append(markup.element("td", content, class_="t" if is_text else None))
    ours = row.origin.startswith("ours") and not row.remark
    first = bool(number) and bool(table.labels_of(number)[0])
    classes = " ".join(filter(None, ("ours" if ours else "", "begins" if first else "")))
    return markup.element("tr", *cells, class_=classes or None)
