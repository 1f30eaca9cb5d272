"""What a builder gets and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.report.blocks import Figure
from sleeptools.report.items.item_table import ItemTable
from sleeptools.report.items.phases import PhaseTable
from sleeptools.report.items.run_source import RunSource


@dataclass(frozen=True)
class ItemRequest:
    """An item, and what is to be drawn in its arrangement.

    Parameters
    ----------
    item
        Row of `published_items`.
    results
        Rows of results.csv that the item prints, or that its figure is drawn from.
    runs
        The runs.
    epochs
        The sets of epochs.
    recordings
        Folder of the recordings behind the epochs.
    phases
        Which hours of a mouse's recording are which.
    rows
        Folder of a set of epochs to the data set that the caller said it is.
    models
        Facts of our models, by name.
    """

    item: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]] = field(repr=False)
    runs: Sequence[RunSource] = ()
    epochs: Sequence[EpochSet] = ()
    recordings: Path | None = None
    phases: PhaseTable | None = None
    rows: Mapping[Path, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Id of the item."""
        return str(self.item["item"])


@dataclass(frozen=True)
class ItemContent:
    """What is shown of an item.

    Parameters
    ----------
    tables, figures
        In the order in which they are shown.
    notes
        What a reader must know, a sentence each.
    verdicts
        Whether ours can be compared with the print, where no line of a table says so.
    """

    tables: Sequence[ItemTable] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    verdicts: Sequence[str] = ()


Builder = Callable[[ItemRequest], ItemContent]
