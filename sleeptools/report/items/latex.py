"""Tables as LaTeX for papers: booktabs, every text escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from sleeptools import store
from sleeptools.report.items.item_table import ItemTable
from sleeptools.report.numbers import DASH

SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    DASH: "--",
    "µ": r"\textmu{}",
    "²": r"\textsuperscript{2}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\N{MINUS SIGN}": "$-$",
}
"""Characters that have a meaning in LaTeX, or none in its older engines."""
ONE_OF: Final = re.compile("[" + re.escape("".join(SPECIAL)) + "]")
BRACKET: Final = "{[}"
NOT_TYPESET: Final = re.compile(
    "[^ -~¡-ª¬-º¼-ÏÑ-Ýß-ïñ-ýÿ\u2013\u2014\u2018\u2019\u201c\u201d\u2026]"
)
"""Characters that pdflatex does not know without further packages."""
LONG: Final = 30
"""Characters of a text that is broken into lines."""
LINE: Final = "14em"
"""Width of such a column."""
FITTED: Final = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
"""What comes before a table: it is drawn smaller where it is wider than the text."""


def latex_text(value: object) -> str:
    """Escape a text; an opening bracket too, which behind a line's end would be an option.

    A character that pdflatex does not know is written as its number, for example [U+03BA].
    """
    plain = unicodedata.normalize("NFC", store.visible(" ".join(str(value).split())))
    known = NOT_TYPESET.sub(lambda c: c[0] if c[0] in SPECIAL else f"[U+{ord(c[0]):04X}]", plain)
    return ONE_OF.sub(lambda c: SPECIAL[c[0]], known).replace("[", BRACKET)


def latex_table(table: ItemTable, label: str) -> str:
    """Write a table as an environment `table` with `tabular` in it; it needs booktabs, graphicx."""
    count = len(table.labels) + 1
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', label)}}}",
        rf"{FITTED}\begin{{tabular}}{{{''.join(_alignments(table))}}}",
        r"\toprule",
        *_head(table, count),
        r"\midrule",
        *_rows(table, count),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _alignments(table: ItemTable) -> Iterator[str]:
    """Give each column's letter: numbers to the right, long texts in lines."""
    rows = [row for row in table.rows if not row.remark]
    labels = [[row.labels[i] for row in table.rows] for i in range(len(table.labels))]
    for texts in (*labels, [row.whose for row in table.rows]):
        yield _text_alignment(texts)
    for j in range(len(table.columns)):
        values = [row.values[j] for row in rows if row.values[j] not in {None, ""}]
        if values and all(isinstance(value, str) for value in values):
            yield _text_alignment(values)
        else:
            yield "r"


def _text_alignment(texts: Iterable[object]) -> str:
    longest = max((len(str(text)) for text in texts), default=0)
    return f"p{{{LINE}}}" if longest > LONG else "l"


def _head(table: ItemTable, count: int) -> Iterator[str]:
    if any(name for name, _ in table.groups):
        cells, rules, first = [""] * count, [], count + 1
        for name, width in table.groups:
            over = rf"\multicolumn{{{width}}}{{c}}{{{latex_text(name)}}}"
            cells += [over] if name else [""] * width
            if name:
                rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
            first += width
        yield f"{' & '.join(cells)} \\\\"
        yield "".join(rules)
    heads = [*table.labels, "Result", *(column.heading for column in table.columns)]
    yield _line(map(latex_text, heads))


def _rows(table: ItemTable, count: int) -> Iterator[str]:
    bold = table.bold()
    for i, row in enumerate(table.rows):
        labels = table.labels_of(i)
        if i and labels[0]:
            yield r"\addlinespace"
        texts = [latex_text(label) for label in (*labels, row.whose)]
        if row.remark:
            width = len(table.columns)
            yield _line([*texts, rf"\multicolumn{{{width}}}{{l}}{{{latex_text(row.remark)}}}"])
            continue
        for j in range(len(table.columns)):
            text = latex_text(table.text(row, j))
            texts.append(rf"\textbf{{{text}}}" if (i, j) in bold else text)
        assert len(texts) == count + len(table.columns)
        yield _line(texts)


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
