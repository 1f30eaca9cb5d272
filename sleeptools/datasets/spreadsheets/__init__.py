"""Spreadsheets of data sets: reading the first sheet of a workbook (.xlsx, .xls) or a .csv.

Only values are read: no formulas, no formats, no macros. A date or a time of day stays the number
that the workbook holds, in days.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.datasets.spreadsheets.xls import STARTS_XLS, read_xls
from sleeptools.datasets.spreadsheets.xlsx import STARTS_XLSX, read_xlsx, write_xlsx
from sleeptools.errors import DataError

__all__ = ["Row", "columns", "read", "write_xlsx"]

LARGEST: Final = 16 << 20  # bytes: a hundred times a data set's table
MOST_CELLS: Final = 1 << 20  # rows times columns, empty ones too
TableRow = list[str | float | None]
"""One row: texts without surrounding blanks, numbers, and None for an empty cell."""


def read_table(path: Path) -> list[TableRow]:
    """Read all rows of a table; the format is recognised by its content.

    Returns
    -------
    rows
        Rows of equal length.

    Raises
    ------
    DataError
        If the table is damaged, too large, or a workbook of a kind that this small reader does not
        read.
    """
    size = store.need(path).stat().st_size
    if size > LARGEST:
        raise DataError(
            f"{path.name}: {size >> 20} MiB; a data set's table has at most {LARGEST >> 20}",
            code="SHEET-SIZE",
        )
    data = path.read_bytes()
    if data.startswith(STARTS_XLSX):
        cells = read_xlsx(path, data)
    elif data.startswith(STARTS_XLS):
        cells = read_xls(path, data)
    else:
        cells = _csv_cells(path, data)
    width = 1 + max((column for _, column in cells), default=-1)
    height = 1 + max((row for row, _ in cells), default=-1)
    if width * height > MOST_CELLS:
        raise DataError(
            f"{path.name}: {height} rows of {width} columns; a data set's table has at most "
            f"{MOST_CELLS} cells",
            hint="a cell far off the others? save the table without it",
            code="SHEET-SIZE",
        )
    rows: list[TableRow] = [[None] * width for _ in range(height)]
    for (row, column), value in cells.items():
        rows[row][column] = (value.strip() or None) if isinstance(value, str) else value
    return rows


def _csv_cells(path: Path, data: bytes) -> dict[tuple[int, int], str | float]:
    text = data.decode("utf-8-sig", errors="replace")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    rows = csv.reader(text.splitlines(), delimiter=delimiter)
    cells: dict[tuple[int, int], str | float] = {}
    try:
        for i, row in enumerate(rows):
            cells |= {(i, k): _value(cell) for k, cell in enumerate(row)}
            if len(cells) > MOST_CELLS:
                break  # too many, which the caller says
    except csv.Error as e:
        raise DataError(f"{path.name}: line {rows.line_num}: {e}", code="SHEET-READ") from e
    return cells


def _value(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell


def find_columns(rows: list[TableRow], *names: str, source: Path) -> tuple[int, list[int]]:
    """Find the row of headings, and the columns with these names in upper or lower case.

    Parameters
    ----------
    rows
        Rows of a table.
    names
        Headings to find.
    source
        File of the table, for messages.

    Returns
    -------
    row, columns
        Index of the row of headings, and of each name's column.

    Raises
    ------
    DataError
        If no row holds all of them.
    """
    for number, row in enumerate(rows):
        heads = [str(cell).lower() for cell in row]
        if all(name.lower() in heads for name in names):
            return number, [heads.index(name.lower()) for name in names]
    raise DataError(
        f"{source.name}: has no row of headings with {', '.join(names)}", code="SHEET-HEADS"
    )
