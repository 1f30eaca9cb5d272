"""Read text files: lines, tables, numbers, clock times and dates, with strict checks."""

from __future__ import annotations

import codecs
import csv
import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, time
from pathlib import Path
from typing import overload

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError

LARGEST = 64 << 20  # bytes; a week of 1-s epochs at 100 bytes a line
MOST_LINES, MOST_TABLE_CELLS = 1 << 20, 1 << 23
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DATES = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y-%m-%d", "%d.%m.%Y", "%d-%m-%Y")
CLOCK = re.compile(r"(\d{1,2})[:.](\d\d)[:.](\d\d)(?:\.(\d{1,6}))?(?: ?([ap])\.?m\.?)?", re.I)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NOON = 12
FIRST_YEAR, LAST_YEAR = 1900, 2200


def head_lines(head: bytes) -> list[str]:
    """Decode the start of a file to its complete lines; empty if it is not text."""
    encoding = _encoding(head)
    text = composed(head.decode(encoding, errors="ignore"))
    if "\0" in text:
        return []
    lines = text.splitlines()
    return lines if text.endswith(("\n", "\r")) or len(lines) < 2 else lines[:-1]  # noqa: PLR2004


def read_lines(path: Path, *, fallback: str | None = None) -> list[str]:
    """Read a text file in UTF-8, or UTF-16 with a byte order mark, without blank lines at its end.

    Parameters
    ----------
    fallback
        Encoding of a file that is not UTF-8; if left out, such a file is an error.

    Raises
    ------
    DataError
        If the file is larger than a hypnogram can be, or not text in these encodings.
    NoStagesError
        If the file is empty.
    """
    size = store.need(path).stat().st_size
    if size > LARGEST:
        raise DataError(
            f"{path.name}: {size >> 20} MiB; a hypnogram has at most {LARGEST >> 20}",
            code="FILE-BUDGET",
        )
    raw = path.read_bytes()
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError as e:
        if fallback is None:
            raise DataError(
                f"{path.name}: byte {raw[e.start]:#04x} at {e.start} is not {e.encoding}",
                hint="save the file as UTF-8",
                code="TEXT-ENCODING",
            ) from e
        text = raw.decode(fallback)
    if "\0" in text:
        raise DataError(f"{path.name}: holds zero bytes; it is not a text file", code="TEXT-ZERO")
    text = text.rstrip()
    if not text:
        raise NoStagesError(f"{path.name}: holds no lines", code="TEXT-EMPTY")
    if text.count("\n") + text.count("\r") > MOST_LINES:
        raise DataError(f"{path.name}: more than {MOST_LINES} lines", code="FILE-BUDGET")
    return composed(text).splitlines()


def composed(text: str) -> str:
    """Write a letter with its accent as one character: some systems write two, which look alike."""
    return unicodedata.normalize("NFC", text)


def header_cells(head: bytes, separator: str) -> list[str]:
    """Column names of a table, in lower case, from the start of its file; [""] if not text."""
    first = "".join(head_lines(head)[:1])
    return [c.strip().lower() for c in split_line(first, separator, "line 1")]


class TableRows(Sequence[dict[str, str]]):
    """Rows of a table, each a dict when it is asked for; kept as tuples, which are small."""

    def __init__(self, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
        self._columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> TableRows: ...
    def __getitem__(self, index: int | slice) -> dict[str, str] | TableRows:
        if isinstance(index, slice):
            return TableRows(self._columns, self._rows[index])
        return dict(zip(self._columns, self._rows[index], strict=True))


def read_table(path: Path, separator: str) -> TableRows:
    """Read a table with a header, a dict for each row; column names are in lower case.

    Raises
    ------
    DataError
        If a row has another number of cells than the header; the message has the line.
    """
    lines = read_lines(path)
    columns = [c.strip().lower() for c in split_line(lines[0], separator, f"{path.name}: line 1")]
    while len(columns) > 1 and not columns[-1]:  # a separator at the end, as spreadsheets write it
        columns.pop()
    if twice := next((c for c in columns if columns.count(c) > 1), None):
        raise DataError(f"{path.name}: two columns are named {twice!r}", code="TEXT-COLUMNS")
    if len(columns) * len(lines) > MOST_TABLE_CELLS:
        raise DataError(
            f"{path.name}: {len(lines)} rows of {len(columns)} columns", code="FILE-BUDGET"
        )
    rows = []
    for i, line in enumerate(lines[1:], 2):
        cells = [c.strip() for c in split_line(line, separator, f"{path.name}: line {i}")]
        while len(cells) > len(columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(columns):
            raise DataError(
                f"{path.name}: line {i} has {len(cells)} cells, the header {len(columns)}: "
                f"{line[:60]!r}",
                code="TEXT-CELLS",
            )
        rows.append(tuple(cells))
    return TableRows(columns, rows)


def split_line(line: str, separator: str, location: str) -> list[str]:
    """Split a line of a table at its separators that are not in quotes.

    Raises
    ------
    DataError
        If a cell has more than 131,072 letters.
    """
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [""])
    except csv.Error as e:
        raise DataError(f"{location}: {line[:30]!r}...: {e}", code="TEXT-CELLS") from e


def decimal_text(value: float) -> str:
    """Write seconds to the microsecond, without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _encoding(raw: bytes) -> str:
    return next((name for bom, name in BOMS if raw.startswith(bom)), "utf-8")


def parse_number(text: str, location: str) -> float:
    """Read a decimal number; a decimal comma is an error.

    Parameters
    ----------
    location
        File, line or field, for the message.

    Raises
    ------
    DataError
        If the text is not a number.
    """
    if NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    hint = "decimal comma? write a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else None
    raise DataError(f"{location}: {text[:40]!r} is not a number", hint=hint, code="TEXT-NUMBER")


def parse_clock(text: str) -> time | None:
    """Read a time of day with seconds, such as "22:45:12" or "10:45:12 pm"; else None."""
    match = CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, half = int(match[1]), (match[5] or "").lower()
    if half:
        hour = hour % NOON + NOON * (half == "p")
    try:
        return time(hour, int(match[2]), int(match[3]), int((match[4] or "0").ljust(6, "0")))
    except ValueError:
        return None


def parse_moments(texts: Sequence[str], location: str) -> list[datetime]:
    """Read the dates and times of a column, all written in the same form.

    If day and month could be in either order, the order with the shorter time from the first to
    the last moment is taken, and day first if both are equal.

    Raises
    ------
    DataError
        If no known form fits all of them.
    """
    readings = [r for form in DATES if (r := _moments(texts, form)) is not None]
    if not readings:
        raise DataError(
            f"{location}: {texts[0][:40]!r} and what follows are no dates with times",
            code="TEXT-DATE",
        )
    return min(readings, key=lambda r: max(r) - min(r))


def _moments(texts: Sequence[str], form: str) -> list[datetime] | None:
    moments: list[datetime] = []
    days: dict[str, datetime] = {}
    for text in texts:
        day, _, clock_text = text.replace("T", " ", 1).partition(" ")
        clock = parse_clock(clock_text.strip())
        try:
            date = days.get(day) or days.setdefault(day, datetime.strptime(day, form))
        except ValueError:
            return None
        if clock is None or not FIRST_YEAR <= date.year <= LAST_YEAR:
            return None
        moments.append(datetime.combine(date, clock))
    return moments
