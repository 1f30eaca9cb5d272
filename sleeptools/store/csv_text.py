"""Texts of files in tables: no cell begins a formula, and no control character is written raw.

A spreadsheet runs a cell that begins with =, +, -, @, a tab or a carriage return; the label of a
signal or a note can begin so. Such a text gets an apostrophe in front; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that are no text: control characters, halves of pairs, and what XML forbids."""
FORMULA: Final = re.compile(r"[=+\-@\t\r]")
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?|[+-]?inf|-")


def visible(text: str) -> str:
    """Write control characters as the escapes that Python has for them."""
    return CONTROLS.sub(lambda c: repr(c[0])[1:-1], text)


def safe_cell(value: object) -> object:
    """Make a cell that no spreadsheet takes for a formula; what is no text stays as it is."""
    if not isinstance(value, str) or (value[:1].isalnum() and value.isprintable()):
        return value
    begins = FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{visible(value)}" if begins else visible(value)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV, with a line feed behind each."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([map(safe_cell, row) for row in rows])
    return buffer.getvalue()


def table_csv(table: pl.DataFrame) -> str:
    """Write a table as CSV; only its columns of texts, and its names of columns, can change."""
    import polars as pl

    safe = table.with_columns(
        pl.Series(c.name, [safe_cell(v) for v in c], pl.String)
        for c in table.select(pl.col(pl.String))
        if c.str.contains(r"^[=+\-@]|[\x00-\x1f\x7f-\x{9f}\x{fffe}\x{ffff}]").any()
    )
    return safe.rename({c: str(safe_cell(c)) for c in safe.columns}).write_csv()
