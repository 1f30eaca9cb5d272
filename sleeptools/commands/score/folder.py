"""A folder of scores as other commands take it: one hypnogram file of every night, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.store import batch

SCORES_KIND: Final = "sleeptools-scores"
SCORES_VERSION: Final = 2
"""Version 1 had a table of probabilities as .parquet, and neither page nor sleep.csv."""
SHIPS: Final = "ships"
"""Fact of the manifest: the name by which a model of the package scored."""
HYPNOGRAM_ENDINGS: Final = (".csv", ".edf", ".tsv")
"""Endings of a night's files that hold its stages, the one that holds most first."""


SCORES_FACTS: Final = {"recordings": "table", "files": "hashes", "made_by": "table?"}
NIGHT_FACTS: Final = {
    "files": "texts",
    "warnings": "texts",
    "spans": "text",
    "sleep": "table",
    "bins": "tables",
}
"""Kinds of the facts of a manifest, and of a night in it."""


def is_scores_folder(folder: Path) -> bool:
    """Tell whether `score` wrote a folder."""
    path = folder / store.MANIFEST
    if not path.is_file():
        return False
    facts = store.read_json(path)
    return isinstance(facts, dict) and facts.get("format") == SCORES_KIND


def read_scores_manifest(folder: Path, *, oldest: int = 1) -> dict[str, Any]:
    """Read the manifest of a folder of scores, and check what others take from it.

    Parameters
    ----------
    oldest
        The oldest version that will do.

    Raises
    ------
    DataError
        If it is damaged, or older.
    """
    facts = store.read_manifest(folder, SCORES_KIND, SCORES_VERSION)
    path, version = folder / store.MANIFEST, facts.get("version", 1)
    if version < oldest:
        raise DataError(
            f"{folder}: an earlier sleeptools wrote these scores (version {version}), "
            "without sleep statistics",
            hint="score the recordings again, into another folder",
            code="FACT-OLDER",
        )
    store.check_facts(facts, path, SCORES_FACTS)
    for name, row in facts["recordings"].items():
        store.check_facts(row, path, NIGHT_FACTS if version > 1 else {}, place=name)
    return facts


def failed_nights(facts: dict[str, Any]) -> dict[str, str]:
    """Say of each recording that a folder of scores lacks why it could not be scored."""
    failed = facts.get("failed") or {}
    return {name: str(batch.listed_failure(entry)["message"]) for name, entry in failed.items()}


def _none_scored(folder: Path, facts: dict[str, Any]) -> DataError:
    failed = failed_nights(facts)
    if not failed:
        return DataError(
            f"{folder}: no night is scored in it yet",
            hint="score recordings into it",
            code="SCORES-NONE",
        )
    name, message = next(iter(failed.items()))
    count = f"{len(failed)} recordings failed, the first of them" if len(failed) > 1 else "failed:"
    return DataError(
        f"{folder}: no night is scored in it: {count} {name}: {message.removeprefix(f'{name}: ')}",
        hint=f"{folder / batch.FAILURES} has the cures; then score them into it again",
        code="SCORES-NONE",
    )


def read_scores(folder: Path, *, oldest: int = 1) -> tuple[dict[str, Any], dict[str, Path]]:
    """Read a folder of scores.

    Parameters
    ----------
    oldest
        As of `read_scores_manifest`.

    Returns
    -------
    facts
        Contents of its manifest.
    hypnograms
        The file of each night that holds its stages, with its sum checked.

    Raises
    ------
    DataError
        If it is older or damaged, or a file is missing, changed or not of the folder; or if no
        night is scored.
    """
    facts = read_scores_manifest(folder, oldest=oldest)
    if not facts["recordings"]:
        raise _none_scored(folder, facts)
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
        if not store.check_listed(hypnograms[name]):
            raise DataError(
                f"{folder / store.MANIFEST}: has no sum of {staged[0]}", code="FACT-MISSING"
            )
    return facts, hypnograms
