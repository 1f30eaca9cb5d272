"""Work on many recordings: one failure stops none of the others, and every failure is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import DataError, OutputError, SleeptoolsError, StorageError

OURS = (StorageError, OutputError)
"""Failures that concern the whole batch, not one recording."""


@dataclass(frozen=True)
class Step:
    """One recording is done: the `number`-th of `total`.

    Parameters
    ----------
    text
        What came out, or why it failed.
    """

    id: str
    number: int
    total: int
    text: str = ""
    failed: bool = False


Progress = Callable[[Step], None]


def ignore(step: Step) -> None:
    """Take a step's report and do nothing."""
    del step


@dataclass(frozen=True)
class Outcome:
    """Rows of what worked and what did not, by recording."""

    rows: list[dict[str, Any]]
    failures: dict[str, str]

    def raise_failures(self, folder: Path) -> None:
        """Raise if anything failed, now that the rest is done.

        Raises
        ------
        DataError
            Naming the first failure and where all of them are listed.
        """
        if self.failures:
            name, text = next(iter(self.failures.items()))
            raise DataError(
                f"{len(self.failures)} of {len(self.failures) + len(self.rows)} recordings "
                f"failed, the first of them {name}: {text}",
                hint=f"all of them are listed in {folder / 'failures.csv'}",
            )


def run(
    items: Iterable[tuple[str, Callable[[], tuple[dict[str, Any], str]]]],
    folder: Path,
    progress: Progress = ignore,
) -> Outcome:
    """Run one piece of work per recording; list the failures in `folder`/failures.csv.

    Parameters
    ----------
    items
        Name of a recording and the work, which returns its row of the index and a line of text.
    """
    work = list(items)
    outcome = Outcome([], {})
    for i, (name, task) in enumerate(work):
        try:
            row, text = task()
            outcome.rows.append(row)
        except OURS:
            raise
        except SleeptoolsError as e:
            text = str(e)
            outcome.failures[name] = text
        progress(Step(name, i + 1, len(work), text, name in outcome.failures))
    _write_failures(folder, outcome.failures)
    return outcome


def _write_failures(folder: Path, failures: dict[str, str]) -> None:
    if not failures:
        (folder / "failures.csv").unlink(missing_ok=True)
        return
    import polars as pl

    table = pl.DataFrame({"recording": list(failures), "error": list(failures.values())})
    store.write_text(folder / "failures.csv", table.write_csv())
