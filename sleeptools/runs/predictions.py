"""Predictions of a run, read and checked against its folds; and subjects that leak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.runs.folds import HELD_OUT, MIXED
from sleeptools.runs.run import FINAL, FOLDS_EPOCHS, PREDICTIONS_FILE, Run, TrainingId

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("recording", "subject", "night", "epoch", "onset", "role", "stage", "predicted")
ROLES = ("val", "test")
SUM_TOLERANCE = 1e-2  # from 1; probabilities are float32 and may have been quantised


def read_predictions(run: Run, *, role: str | None = "test") -> pl.DataFrame:
    """Read and check the predictions of every training that is done.

    Parameters
    ----------
    role
        "test" or "val"; None for both.

    Returns
    -------
    table
        protocol, seed, fold, and the columns of predictions.parquet; the rows of the role,
        sorted by protocol as in the run, seed, fold (not if mixed), recording, onset.

    Raises
    ------
    DataError
        If a file lacks a column, holds an impossible value or the wrong subjects, or a
        recording (an epoch, if mixed) is tested twice under one protocol and seed, unless the
        run's splits overlap.
    """
    import polars as pl

    table = pl.concat([_read_checked(run, trained) for trained in run.done])
    tested = table.filter(pl.col("role") == "test")
    keys = ["protocol", "seed", "recording", *(["epoch"] if run.mixed else [])]
    twice = tested.group_by(keys).agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1)
    if len(twice) and not run.overlapping:
        raise DataError(
            f"{run.folder}: tested in more than one fold: {_listed(twice, 'recording')}",
            code="RUN-TWICE",
        )
    if role is not None:
        table = table.filter(pl.col("role") == role)
    if run.mixed:  # the folds of a recording side by side, so that its epochs are in their order
        trainings = table.partition_by("protocol", "seed", maintain_order=True)
        table = pl.concat([scored.sort("recording", "onset") for scored in trainings])
    return table


def first_of_each(table: pl.DataFrame) -> pl.DataFrame:
    """Keep one prediction of an epoch in a role, that of the first fold; the order stays."""
    import polars as pl

    keys = ["protocol", "seed", "role", "recording", "epoch"]
    return table.filter(pl.col("fold") == pl.col("fold").min().over(keys))


def _read_checked(run: Run, trained: TrainingId) -> pl.DataFrame:
    import polars as pl

    path = run.check_listed(trained.folder(run.folder) / PREDICTIONS_FILE)
    table = store.read_table(path)
    columns = [*COLUMNS, *(f"p_{name}" for name in run.stages)]
    if lacking := [c for c in columns if c not in table.columns]:
        raise DataError(f"{path}: lacks column {', '.join(lacking)}", code="TAB-COLUMNS")
    for problem in _problems(table, run.stages):
        raise DataError(f"{path}: {problem}", code="TAB-VALUES")
    by_epoch = run.mixed and trained.protocol != HELD_OUT
    if by_epoch:
        _check_held_out(run, trained, table, path)
    tested = set(table.filter(pl.col("role") == "test")["subject"])
    expected = tested if by_epoch else set(_subjects(run, trained, "test"))
    if tested != expected:
        raise DataError(
            f"{path}: tested subjects {_names(tested)}; folds.parquet says {_names(expected)}",
            code="RUN-FOLDS",
        )
    whose = [pl.lit(trained.protocol).alias("protocol"), pl.lit(trained.seed).alias("seed")]
    return table.select(*whose, pl.lit(trained.fold).alias("fold"), *columns).sort(
        "recording", "onset"
    )


def _check_held_out(run: Run, trained: TrainingId, table: pl.DataFrame, path: Path) -> None:
    """Compare the scored epochs and their roles with folds_epochs.parquet."""
    import polars as pl

    in_fold = (pl.col("protocol") == trained.protocol) & (pl.col("fold") == trained.fold)
    columns = ["recording", "epoch", "role"]
    expected = run.held_out.filter(in_fold).select(columns)
    scored = table.select(pl.col("recording"), pl.col("epoch").cast(pl.Int32), pl.col("role"))
    if len(scored.join(expected, on=columns, how="semi")) != max(len(scored), len(expected)):
        raise DataError(f"{path}: other epochs than {FOLDS_EPOCHS} says", code="RUN-FOLDS")


def _problems(table: pl.DataFrame, stages: Sequence[str]) -> Iterator[str]:
    """Say what is wrong with a table of predictions."""
    import polars as pl

    if unknown := set(table["role"].unique()) - set(ROLES):
        yield f"role {_names(unknown)}; expected {' or '.join(ROLES)}"
    for column in ("stage", "predicted"):
        bad = table.filter(
            ~pl.col(column).is_between(0, len(stages) - 1) | pl.col(column).is_null()
        )
        if len(bad):
            yield f"{column} {bad[column][0]} in {len(bad)} rows; expected 0 to {len(stages) - 1}"
    total = pl.sum_horizontal(pl.col(f"p_{name}") for name in stages)
    bad = table.filter(((total - 1).abs() < SUM_TOLERANCE).not_() | total.is_nan())
    if len(bad):
        yield f"probabilities of {len(bad)} epochs do not add up to 1 ({bad['recording'][0]})"
    if len(table) != len(table.unique(["role", "recording", "epoch"])):
        yield "an epoch is listed twice"


def _subjects(run: Run, trained: TrainingId, *roles: str) -> list[str]:
    import polars as pl

    in_fold = (pl.col("protocol") == trained.protocol) & (pl.col("fold") == trained.fold)
    return run.folds.filter(in_fold & pl.col("role").is_in(roles))["subject"].to_list()


def _names(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def _listed(table: pl.DataFrame, column: str) -> str:
    return _names(set(table[column].head(8)))


def tested_subjects(run: Run) -> set[str]:
    """List who is tested in the trainings that are done."""
    return {s for trained in run.done for s in _subjects(run, trained, "test", MIXED)}


def leaks(run: Run) -> list[str]:
    """List the subjects that train or validate and are also tested in a fold; there must be none.

    Returns
    -------
    lines
        "leak-free fold 3: SC400, SC401", one per fold that leaks.
    """
    lines = []
    for protocol, fold in sorted({(t.protocol, t.fold) for t in run.done}):
        trained = TrainingId(protocol, 0, fold)
        learned = set(_subjects(run, trained, "train", "val", MIXED))
        if leaked := learned & set(_subjects(run, trained, "test", MIXED)):
            lines.append(f"{protocol} fold {fold}: {_names(leaked)}")
    return lines + unseen_leaks(run)


def unseen_leaks(run: Run) -> list[str]:
    """List the held-out subjects that train or validate anywhere in a run; there must be none.

    Returns
    -------
    lines
        "leak-free fold 3: held-out M10", one per fold, and one for the final model.
    """
    unseen, path = {*run.unseen}, run.folder / FINAL / "config.json"
    learned = {
        f"{protocol} fold {fold}": set(
            _subjects(run, TrainingId(protocol, 0, fold), "train", "val", MIXED)
        )
        for protocol, fold in sorted(run.folds.select("protocol", "fold").unique().rows())
    }
    if unseen and path.exists():
        learned[FINAL] = {*store.read_json(path).get("train_subjects", ())}
    return [
        f"{name}: held-out {_names(unseen & subjects)}"
        for name, subjects in learned.items()
        if unseen & subjects
    ]
