"""`sleeptools verify`: whether files are as written, and numbers follow from predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sleeptools import store
from sleeptools.commands.evaluate import evaluate_only
from sleeptools.commands.score.check import score_differences
from sleeptools.commands.score.folder import is_scores_folder
from sleeptools.evaluation.confusion import KEY_COLUMNS, VALUE_COLUMNS
from sleeptools.evaluation.output import EVALUATION_FOLDER, EVALUATION_MANIFEST
from sleeptools.runs import model_folder
from sleeptools.runs.run import PLAN_FOLDER, run_progress

if TYPE_CHECKING:
    import polars as pl

TOLERANCE: Final = 1e-9
"""Largest relative difference of a number computed again, with other versions of the libraries."""
LISTED: Final = 5
"""Largest number of differing rows that are listed for each column."""


@dataclass(frozen=True)
class Verification:
    """What came of verifying a folder.

    Parameters
    ----------
    problems
        One line for each file that is missing or differs, and each number that does not follow.
    unchecked
        Files that no manifest lists, so that nothing can be said about them.
    has_numbers
        Whether the numbers of an evaluation were computed again.
    """

    problems: list[str]
    unchecked: list[str]
    has_numbers: bool = False


def verify(folder: Path) -> Verification:
    """Compare a folder with its manifest, and numbers with what they follow from.

    An evaluation follows from a run's predictions; stages and sleep statistics of scores from the
    probabilities.

    Raises
    ------
    MissingInputError, DataError
        If there is no manifest, or it is none of ours; if a run's predictions are damaged or do not
        fit the folds.
    """
    if (folder.parent / EVALUATION_MANIFEST).is_file() and folder.name == EVALUATION_FOLDER:
        folder = folder.parent  # the evaluation is part of its run
    if model_folder.is_model_folder(folder):
        return verify_model(folder)
    problems = store.verify(folder)
    if is_scores_folder(folder):
        numbers = [] if problems else score_differences(folder)
        return Verification(problems + numbers, store.unlisted(folder), not problems)
    evaluated = (folder / EVALUATION_MANIFEST).is_file()
    if evaluated:
        problems += store.verify(folder, EVALUATION_MANIFEST)
    tables = [EVALUATION_MANIFEST] if evaluated else []
    unchecked = [n for n in store.unlisted(folder, *tables) if not n.startswith(f"{PLAN_FOLDER}/")]
    is_run = (folder / "config.toml").exists() and (folder / "folds.parquet").exists()
    if problems or not is_run or not run_progress(folder)["done"]:
        return Verification(problems, unchecked)
    problems = [*_other_parents(folder), *verify_numbers(folder), *_torn(folder)]
    has_numbers = (folder / "metrics.parquet").exists()
    csv = {"metrics.parquet", "metrics.csv"} | {n for n in unchecked if _has_table(folder, n)}
    return Verification(problems, [n for n in unchecked if n not in csv], has_numbers)


def verify_model(folder: Path) -> Verification:
    """Compare the files of a model folder with the sums that they, or a manifest, have of them.

    That is what happens whenever they are used: a file that differs is an error.

    Raises
    ------
    DataError
        If they differ.
    """
    model_folder.read_weights(folder)
    own = [model_folder.CONFIG, model_folder.WEIGHTS]
    listed = [] if model_folder.unverified(folder) else own
    names = [p.name for p in sorted(folder.iterdir()) if p.is_file() and p.name[0] != "."]
    return Verification(
        [],
        [
            n
            for n in names
            if n not in {*listed, store.MANIFEST}
            and not store.check_listed(folder / n, model_folder.LEVELS)
        ],
    )


def _other_parents(run: Path) -> Iterator[str]:
    """Name the models that began with other weights than the run's config.toml says."""
    progress = run_progress(run)
    expected = progress.get("parent", {}).get("weights")
    for name in progress["done"]:
        if not (run / name / model_folder.CONFIG).exists():
            continue  # an external test has no model
        facts = store.read_json(run / name / model_folder.CONFIG)
        began = (facts.get("parent") or {}).get("weights")
        if began != expected:
            yield f"{name}: began with weights {began}; config.toml says {expected}"


def _torn(run: Path) -> Iterator[str]:
    """Name the CSV files that differ from the parquet file beside them."""
    for path in sorted([run / "metrics.parquet", *(run / EVALUATION_FOLDER).glob("*.parquet")]):
        csv = path.with_suffix(".csv")
        if (
            path.exists()
            and csv.exists()
            and csv.read_bytes() != store.csv_bytes(store.read_table(path))
        ):
            yield f"{csv.relative_to(run)}: differs from {path.name}"


def _has_table(run: Path, name: str) -> bool:
    """Whether a file is a CSV with the parquet file of the same table beside it."""
    return name.endswith(".csv") and (run / name).with_suffix(".parquet").exists()


def verify_numbers(run: Path) -> list[str]:
    """Compute a run's numbers again and compare them with its metrics.parquet.

    Returns
    -------
    problems
        One line each; empty if every number is the same, or if the run was not evaluated.

    Raises
    ------
    DataError
        If the predictions are damaged or do not fit the folds.
    """
    path = run / "metrics.parquet"
    computed = evaluate_only(run, partial=True).table("metrics")
    if not path.exists():
        return []
    return [f"metrics.parquet: {line}" for line in _differences(store.read_table(path), computed)]


def _differences(saved: pl.DataFrame, computed: pl.DataFrame) -> Iterator[str]:
    """Compare two tidy tables; one of version 1 has fewer columns and rows, which is fine."""
    import polars as pl

    keys = [c for c in (*KEY_COLUMNS, "level", "metric", "stage") if c in saved.columns]
    values = [c for c in VALUE_COLUMNS if c in saved.columns]
    if lacking := {"protocol", "seed", "metric", "stage", "value"} - {*saved.columns}:
        yield f"lacks column {', '.join(sorted(lacking))}"
        return
    if "level" not in saved.columns:
        computed = computed.filter(pl.col("seed").is_not_null())
    joined = saved.join(computed, on=keys, how="full", suffix=" again", nulls_equal=True)
    absent = len(joined.filter(pl.col("protocol").is_null()))
    if absent and "level" in saved.columns:
        yield f"lacks {absent} numbers"
    if surplus := len(joined.filter(pl.col("protocol again").is_null())):
        yield f"has {surplus} numbers that the predictions do not give"
    matched = joined.drop_nulls(["protocol", "protocol again"])
    for column in values:
        a, b = pl.col(column), pl.col(f"{column} again")
        differs = (a - b).abs() > TOLERANCE * (1 + b.abs())
        wrong = matched.filter(differs.fill_null(False) | (a.is_null() != b.is_null()))
        for row in wrong.head(LISTED).to_dicts():
            expected = row[f"{column} again"]
            yield f"{_key(row, keys)}: {column} {row[column]}; the predictions give {expected}"
        if len(wrong) > LISTED:
            yield f"and {len(wrong) - LISTED} more of {column}"


def _key(row: dict[str, Any], keys: Sequence[str]) -> str:
    return " ".join(str(row[k]) for k in keys if row[k] is not None)
