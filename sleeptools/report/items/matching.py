"""Which run feeds which row of an item: from its model, its data and its settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sleeptools.errors import DataError, UsageError
from sleeptools.evaluation.published import DATASET_FAMILIES
from sleeptools.report.items.run_source import RunSource

SUBSETS: Final = {
    "20": "Sleep-EDF-20",
    "78": "Sleep-EDF-78",
    "I": "ISRUC-Sleep-1",
    "III": "ISRUC-Sleep-3",
}
"""Subset that a set of epochs was made of, and the papers' name of that data set."""
SIZES: Final = {
    "Sleep-EDF-20": 20,
    "Sleep-EDF-78": 78,
    "ISRUC-Sleep-1": 100,
    "ISRUC-Sleep-3": 10,
}
"""Subjects of the data sets that the papers name."""


def refuse(name: str, item: str, why: str, hint: str = "") -> DataError:
    """Make the error for a run, or a set of epochs, that cannot feed an item."""
    return DataError(
        f"{name}: cannot feed {item}: {why}",
        hint=hint or f"'sleeptools list published' says what {item} shows",
        code="ITEM-RUN",
    )


def taken_twice(first: str, second: str, row: str) -> UsageError:
    """Make the error for two runs that feed one row."""
    return UsageError(
        f"{first} and {second} both feed the row {row}",
        hint="give one of them; ROW=RUN puts a run into another row",
        code="ITEM-TWICE",
    )


def dataset_of(preset: str, subjects: int, subset: str, row: str, names: Iterable[str]) -> str:
    """Tell which data set of the papers some data is, or "" if it is none of them.

    Parameters
    ----------
    preset, subjects, subset
        Preset of the epochs, number of subjects, and subset that the epochs were made of, or "".
    row
        What the caller said, which settles it; "" if nothing.
    names
        Data sets to choose from.
    """
    names = list(dict.fromkeys(names))
    if row:
        return row if row in names else ""
    family = DATASET_FAMILIES.get(preset, "")
    alike = [name for name in names if family and name.startswith(family)]
    if SUBSETS.get(subset) in alike:
        return SUBSETS[subset]
    if len(alike) < 2 or not all(name in SIZES for name in alike):  # noqa: PLR2004 - no choice
        return alike[0] if alike else ""
    return min(alike, key=lambda name: abs(math.log(SIZES[name] / max(subjects, 1))))


def run_dataset(source: RunSource, names: Iterable[str]) -> str:
    """Tell which data set of the papers a run was made on, or ""; see `dataset_of`."""
    subset = str(source.evaluation.run.data.get("subset") or "")
    return dataset_of(source.design.preset, source.design.subjects, subset, source.row, names)


def match_results(
    runs: Sequence[RunSource], results: Sequence[Mapping[str, Any]], item: str
) -> dict[str, RunSource]:
    """Find the printed result that each run stands beside.

    Returns
    -------
    sources
        Id of the result to the run.

    Raises
    ------
    DataError
        If a run is of no model or data of the item.
    UsageError
        If two runs stand beside one result.
    """
    sources: dict[str, RunSource] = {}
    for source in runs:
        of_model = [row for row in results if row["model"] == source.model]
        if not of_model:
            models = ", ".join(dict.fromkeys(row["model"] for row in results if row["model"]))
            raise refuse(source.name, item, f"it is of {source.model}; the rows are of {models}")
        row = _of_data(source, of_model, item)
        if row["id"] in sources:
            label = f"{row['printed_model']} on {row['dataset']}"
            raise taken_twice(sources[row["id"]].name, source.name, label)
        sources[row["id"]] = source
    return sources


def _of_data(source: RunSource, rows: Sequence[Mapping[str, Any]], item: str) -> Mapping[str, Any]:
    """Choose the row of a run's data; where the print names no data of ours, its only row."""
    families = tuple(DATASET_FAMILIES.values())
    if not any(str(row["dataset"]).startswith(families) for row in rows):
        return rows[0]
    dataset = run_dataset(source, [row["dataset"] for row in rows])
    if not dataset:
        names = ", ".join(dict.fromkeys(row["dataset"] for row in rows))
        preset = source.row or f"the preset {source.design.preset or 'unknown'}"
        raise refuse(source.name, item, f"it is on data of {preset}; the rows are on {names}")
    return next(row for row in rows if row["dataset"] == dataset)


def match_variants(
    runs: Sequence[RunSource],
    variants: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    item: str,
) -> dict[str, RunSource]:
    """Find the variant of its model that each run is.

    Parameters
    ----------
    variants
        Name of each variant to the settings that differ from `defaults`.
    defaults
        The settings that make a variant, as the model has them if nothing is set.

    Raises
    ------
    DataError
        If a run is none of the variants.
    UsageError
        If two runs are the same one.
    """
    sources: dict[str, RunSource] = {}
    for source in runs:
        settings = source.evaluation.run.settings
        chosen = {key: settings.get(key, value) for key, value in defaults.items()}
        name = next((n for n, s in variants.items() if {**defaults, **s} == chosen), "")
        if not name:
            wording = ", ".join(f"{key} {value}" for key, value in chosen.items())
            raise refuse(source.name, item, f"no row has its settings ({wording})")
        if name in sources:
            raise taken_twice(sources[name].name, source.name, name)
        sources[name] = source
    return sources
