"""A folder of scores as other commands take it: one hypnogram file of every night, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.errors import DataError

SCORES_KIND: Final = "sleeptools-scores"
SCORES_VERSION: Final = 2
"""Version 1 had a table of probabilities as .parquet, and neither page nor sleep.csv."""
HYPNOGRAM_ENDINGS: Final = (".csv", ".edf", ".tsv")
"""Endings of a night's files that hold its stages, the one that holds most first."""


def is_scores_folder(folder: Path) -> bool:
    """Tell whether `score` wrote a folder."""
    path = folder / store.MANIFEST
    if not path.is_file():
        return False
    facts = store.read_json(path)
    return isinstance(facts, dict) and facts.get("format") == SCORES_KIND


def read_scores(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Read a folder of scores.

    Returns
    -------
    facts
        Contents of its manifest.
    hypnograms
        The file of each night that holds its stages, with its sum checked.

    Raises
    ------
    DataError
        If it is of an earlier version, or a file is missing or changed.
    """
    facts = store.read_manifest(folder, SCORES_KIND, SCORES_VERSION)
    hypnograms: dict[str, Path] = {}
    for name, row in facts["recordings"].items():
        files = row.get("files", [f"{name}-hypnogram.edf"])  # which version 1 did not list
        staged = [f for ending in HYPNOGRAM_ENDINGS for f in files if f.endswith(ending)]
        if not staged:
            raise DataError(
                f"{folder}: holds only pages of {name}",
                hint="score it again, with `only=csv` or without `only`",
                code="HYP-NONE",
            )
        hypnograms[name] = store.need(folder / staged[0])
        store.check_listed(hypnograms[name])
    return facts, hypnograms
