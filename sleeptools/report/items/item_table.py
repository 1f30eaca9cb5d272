"""A table in the arrangement of a paper: headings over columns, and lines of numbers below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from sleeptools.report.numbers import DASH, is_missing

OURS: Final = "ours"
PRINTED: Final = "printed"
RECOMPUTED: Final = "recomputed"
NOT_AT_HAND: Final = "printed, not at hand"
NO_RUN: Final = "no run given"
Value = float | int | str | None
"""A number in the unit of its column, a text, or None for what there is not."""


@dataclass(frozen=True)
class ItemColumn:
    """A column of numbers.

    Parameters
    ----------
    heading
        Its heading.
    group
        Heading over it and its neighbours of the same group; "" if there is none.
    form
        Format specification of its numbers.
    """

    heading: str
    group: str = ""
    form: str = ".2f"

    @property
    def title(self) -> str:
        """Both headings in one."""
        return f"{self.group} {self.heading}".strip()


@dataclass(frozen=True)
class ItemRow:
    """A line of a table.

    Parameters
    ----------
    labels
        What the line is about, a text for each of the table's label columns.
    origin
        `OURS`, `PRINTED` or `RECOMPUTED` (by us from printed numbers), with what is to be added.
    values
        (columns,) the numbers; empty where `remark` stands instead.
    run
        Name of the run that ours is from.
    remark
        Why there are no numbers.
    comparable
        "yes", "no" or "not known"; "" where nothing is compared.
    differences
        What forbids the comparison, or is not known.
    """

    labels: tuple[str, ...]
    origin: str
    values: tuple[Value, ...] = ()
    run: str = ""
    remark: str = ""
    comparable: str = ""
    differences: str = ""

    @property
    def whose(self) -> str:
        """Whose line it is, with the name of the run: "ours: RUN, best-on-test (optimistic)"."""
        head, comma, marks = self.origin.partition(", ")
        return f"{head}: {self.run}{comma}{marks}" if self.run else self.origin


@dataclass(frozen=True)
class ItemTable:
    """A table.

    Parameters
    ----------
    name
        Name of its file behind that of the item; "" for the item itself.
    caption
        What it shows, with its units.
    labels
        Headings of the label columns.
    columns
        The columns of numbers.
    rows
        The lines.
    best
        Whether the largest number of a column is bold, among the lines of one first label and
        origin.
    """

    name: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[ItemColumn, ...]
    rows: tuple[ItemRow, ...] = field(repr=False)
    best: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row.labels) == len(self.labels), row
            assert len(row.values) == (0 if row.remark else len(self.columns)), row

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over the columns, each with how many columns it is over."""
        return [(name, len(list(c))) for name, c in groupby(self.columns, lambda c: c.group)]

    def text(self, row: ItemRow, column: int) -> str:
        """Write a number as the table shows it."""
        return value_text(row.values[column], self.columns[column].form)

    def bold(self) -> frozenset[tuple[int, int]]:
        """Row and column of the numbers that are the best of their block; see `best`."""
        if not self.best:
            return frozenset()
        blocks: dict[tuple[str, str], list[int]] = {}
        for i, row in enumerate(self.rows):
            if row.values:
                blocks.setdefault((row.labels[0], row.origin.split(",")[0]), []).append(i)
        cells = [
            (i, j)
            for block in blocks.values()
            for j in range(len(self.columns))
            for i in self._largest(block, j)
        ]
        return frozenset(cells)

    def _largest(self, block: Sequence[int], column: int) -> Iterator[int]:
        numbers = {i: v for i in block if isinstance(v := self.rows[i].values[column], int | float)}
        defined = {i: v for i, v in numbers.items() if not is_missing(v)}
        if len(block) > 1 and defined:
            largest = max(defined.values())
            yield from (i for i, v in defined.items() if v == largest)

    def labels_of(self, number: int) -> tuple[str, ...]:
        """Labels of a line; "" where the line above has the same, and the same before it."""
        labels = self.rows[number].labels
        above = self.rows[number - 1].labels if number else ()
        equal = 0
        while equal < len(above) and above[equal] == labels[equal]:
            equal += 1
        return ("",) * equal + labels[equal:]

    def span(self, number: int, label: int) -> int:
        """Count the lines that a label stands for, from the line where it stands."""
        count = 1
        for i in range(number + 1, len(self.rows)):
            if self.labels_of(i)[label]:
                break
            count += 1
        return count


def value_text(value: Value, form: str) -> str:
    """Write a number by a format specification; a text as it is; a dash where there is none."""
    if isinstance(value, str):
        return value
    if value is None or is_missing(value):
        return DASH
    return f"{value:,}" if isinstance(value, int) else format(value, form)
