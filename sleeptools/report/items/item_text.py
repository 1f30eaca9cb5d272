"""An item as Markdown, as LaTeX, and its tables as rows of CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sleeptools.report.html import PURPOSE
from sleeptools.report.items.content import ItemContent
from sleeptools.report.items.item_table import ItemTable, Value
from sleeptools.report.items.latex import latex_table, latex_text
from sleeptools.report.items.run_source import verdict_words
from sleeptools.report.numbers import is_missing
from sleeptools.report.plain import markdown_text

TITLE: Final = "Sleep staging report: "
"""How the texts begin, by which a later command knows them as ours."""
DIGITS: Final = 10
NUMBERED: Final = ("Table", "Fig", "Supplementary Table")
"""Beginnings of the places that have a number."""


def item_title(item: Mapping[str, Any]) -> str:
    """Name an item: "Table 3 of MMASleepNet's paper"."""
    if item["paper"] in ("", "several") or item["source"] == "several":
        return capitalised(str(item["shows"]))
    paper = str(item["paper"])
    paper = "the mouse report" if paper == "Mouse report" else f"{paper}'s paper"
    place = str(item["place"])
    if place.startswith(NUMBERED):
        return f"{place} of {paper}"
    return f"{capitalised(paper)}: {place}"


def capitalised(text: str) -> str:
    """Write the first letter large, and leave the others."""
    return f"{text[:1].upper()}{text[1:]}"


def verdict_lines(content: ItemContent) -> list[str]:
    """Say of each of our lines whether it can be compared with the print."""
    lines: dict[str, None] = {}
    for table in content.tables:
        by_verdict: dict[tuple[str, str, str], list[str]] = {}
        for row in table.rows:
            if row.comparable:
                key = (row.run, row.comparable, row.differences)
                by_verdict.setdefault(key, []).append(", ".join(filter(None, row.labels)))
        for (run, comparable, why), labels in by_verdict.items():
            rows = f" ({labels[0]})" if len(labels) == 1 else ""
            lines[f"{run}{rows}: {verdict_words(comparable)}: {why}"] = None
    return [*lines, *content.verdicts]


def print_notes(item: Mapping[str, Any]) -> list[str]:
    """Say what is known of the print: its arrangement, aggregation and contradictions."""
    notes = []
    if item["aggregate"]:
        notes.append(f"Aggregation in print: {item['aggregate']}.")
    if item["numbers"]:
        notes.append(f"Numbers of the print: {item['numbers']}.")
    if item["note"]:
        notes.append(f"Note: {item['note']}.")
    return notes


def csv_rows(table: ItemTable) -> list[tuple[object, ...]]:
    """Lay out a table: its labels, whose line it is, the numbers as numbers, and the verdict."""
    judged = any(row.comparable for row in table.rows)
    tail = ("remark", *(("comparable", "differences") if judged else ()))
    head = (*table.labels, "result", "run", *(c.title for c in table.columns), *tail)
    rows = [head]
    for row in table.rows:
        values = [_number(v) for v in row.values] or [""] * len(table.columns)
        verdict = (row.comparable, row.differences) if judged else ()
        rows.append((*row.labels, row.origin, row.run, *values, row.remark, *verdict))
    return rows


def _number(value: Value) -> object:
    """Give a number without the noise of binary fractions; an empty cell where there is none."""
    if value is None or is_missing(value):
        return ""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def item_markdown(
    item: Mapping[str, Any],
    content: ItemContent,
    banners: Sequence[tuple[str, str]],
    figures: Mapping[str, str],
) -> str:
    """Write an item as Markdown.

    Parameters
    ----------
    banners
        What must be seen first: head and text.
    figures
        Name of a figure to the address of its file; none where they were not written.
    """
    lines = [
        f"# {TITLE}{markdown_text(item_title(item))}",
        "",
        f"{capitalised(markdown_text(item['shows']))}.",
        "",
    ]
    lines += [f"> **{markdown_text(head)}** {markdown_text(text)}\n" for head, text in banners]
    for table in content.tables:
        lines += [*_table(table), ""]
    for figure in content.figures:
        if figure.name in figures:
            lines.append(f"![{markdown_text(figure.label)}](<{figures[figure.name]}>)")
        lines += ["", markdown_text(figure.caption), ""]
    for head, texts in sections(item, content):
        lines += [f"## {head}", "", *(f"- {markdown_text(text)}" for text in texts), ""]
    return "\n".join([*lines, PURPOSE, ""])


def sections(item: Mapping[str, Any], content: ItemContent) -> list[tuple[str, list[str]]]:
    """Give the lists below tables and figures: heading and texts; empty ones are left out."""
    lists = {
        "Comparability": verdict_lines(content),
        "Notes": list(content.notes),
        "The print": [*print_notes(item), f"Source: {item['source']}, {item['place']}."],
    }
    return [(head, texts) for head, texts in lists.items() if texts]


def _table(table: ItemTable) -> Iterator[str]:
    yield from (f"{markdown_text(table.caption)}:", "")
    heads = [*table.labels, "Result", *(column.title for column in table.columns)]
    texts = len(table.labels) + 1
    yield f"| {' | '.join(map(markdown_text, heads))} |"
    yield f"|{'|'.join(['---'] * texts + ['---:'] * len(table.columns))}|"
    bold = table.bold()
    for i, row in enumerate(table.rows):
        cells = [markdown_text(text) for text in (*table.labels_of(i), row.whose)]
        if row.remark:
            cells += [markdown_text(row.remark), *[""] * (len(table.columns) - 1)]
        else:
            for j in range(len(table.columns)):
                text = markdown_text(table.text(row, j))
                cells.append(f"**{text}**" if (i, j) in bold else text)
        yield f"| {' | '.join(cells)} |"


def item_latex(
    item: Mapping[str, Any],
    content: ItemContent,
    banners: Sequence[tuple[str, str]],
    figures: Mapping[str, str],
) -> str:
    """Write an item as LaTeX to be included: its tables and figures, and the notes as comments."""
    comments = [TITLE + item_title(item), "needs the packages booktabs, graphicx and textcomp"]
    comments += [f"{head}: {text}" for head, text in banners]
    lines = [f"% {latex_text(text)}" for text in comments]
    for table in content.tables:
        lines += ["", latex_table(table, "-".join(filter(None, (item["item"], table.name))))]
    for figure in content.figures:
        if figure.name in figures:
            lines += [
                r"\begin{figure}",
                r"\centering",
                rf"\includegraphics[width=\linewidth]{{{figures[figure.name]}}}",
                rf"\caption{{{latex_text(figure.caption)}}}",
                r"\end{figure}",
                "",
            ]
    for head, texts in sections(item, content):
        lines += [f"% {head}: {latex_text(text)}" for text in texts]
    return "\n".join(lines) + "\n"
