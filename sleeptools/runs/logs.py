"""The training logs of a run, how often each test fold was read, and how long scoring took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.runs.folds import HELD_OUT
from sleeptools.runs.run import Run, TrainingId

if TYPE_CHECKING:
    import polars as pl


AUDIT_FILE, LOG_FILE, SCORING_FILE = "audit.csv", "log.csv", "scoring.json"
LOGGED_VALUES = (
    "loss",
    "train_accuracy",
    "val_accuracy",
    "val_kappa",
    "val_macro_f1",
    "test_accuracy",
    "test_kappa",
    "test_macro_f1",
    "seconds",
)
LOG_COLUMNS = ("pass", "step", *LOGGED_VALUES, "selected")
WATCH = "watch"
"""Purpose, in audit.csv, of a reading of the test fold that decides nothing."""


def count_test_readings(run: Run, *, watching: bool = True) -> dict[str, int]:
    """Count the readings of a test fold, per protocol the highest, from audit.csv; once is right.

    A protocol without such files is left out. Raises as `training_logs`.

    Parameters
    ----------
    watching
        Count the readings of `watch_test`, too, which decide nothing.
    """
    counts: dict[str, int] = {}
    for trained in run.done:
        path = trained.folder(run.folder) / AUDIT_FILE
        if path.exists():
            lines = run.check_listed(path).read_text("utf-8", "replace").splitlines()[1:]
            read = sum(watching or not line.endswith(f",{WATCH}") for line in lines)
            counts[trained.protocol] = max(counts.get(trained.protocol, 0), read)
    return counts


def scoring_time(run: Run) -> tuple[float, int]:
    """Tell how long the final model took to score the held-out subjects.

    Returns
    -------
    seconds, epochs
        Time of the network and of what it does to signals, without reading them, s, and number of
        epochs scored; zeros where no subject is held out, or the run is older than the file.

    Raises
    ------
    DataError
        If the file is damaged, or not the one that `train` wrote.
    """
    for trained in run.done:
        path = trained.folder(run.folder) / SCORING_FILE
        if trained.protocol == HELD_OUT and path.exists():
            facts = store.read_json(run.check_listed(path))
            store.check_facts(facts, path, {"seconds": "positive", "epochs": "positive"})
            return float(facts["seconds"]), int(facts["epochs"])
    return 0.0, 0


def training_logs(run: Run) -> pl.DataFrame:
    """Read the training logs of all finished trainings.

    Returns
    -------
    table
        protocol, seed, fold (int), pass (int), and float64 loss, train_accuracy, val_accuracy,
        val_kappa, val_macro_f1, test_accuracy, test_kappa, test_macro_f1, seconds (null where not
        logged), and selected (bool: the pass that was kept).

    Raises
    ------
    DataError
        If a file is damaged, or not the one that `train` wrote.
    """
    import polars as pl

    schema = {"protocol": pl.String, "seed": pl.Int64, "fold": pl.Int64, "pass": pl.Int64}
    tables = [
        pl.DataFrame(
            schema=schema | dict.fromkeys(LOGGED_VALUES, pl.Float64) | {"selected": pl.Boolean}
        )
    ]
    for trained in run.done:
        path = trained.folder(run.folder) / LOG_FILE
        if path.exists():
            tables.append(_read_log(run.check_listed(path), trained))
    return pl.concat(tables)


def training_seconds(path: Path) -> float:
    """Read from a log.csv how long the training took, without breaks, s.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    return float(_read_log(path, TrainingId("", 0, 0))["seconds"].max() or 0)  # type: ignore[arg-type]


def _read_log(path: Path, trained: TrainingId) -> pl.DataFrame:
    import polars as pl

    try:
        raw = pl.read_csv(path, infer_schema=False)
        number = raw["pass"].cast(pl.Int64)
        values = [
            raw[c].cast(pl.Float64) if c in raw.columns else pl.lit(None, pl.Float64).alias(c)
            for c in LOGGED_VALUES
        ]
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{path}: not a readable training log: {e}", code="RUN-LOG") from e
    chosen = (
        raw["selected"] if "selected" in raw.columns else pl.Series("selected", [""] * len(raw))
    )
    # every better pass is marked while training goes on; the last of them is the one kept
    marked = chosen.fill_null("").str.to_lowercase().is_in(["true", "1"])
    last = marked.arg_true().max()
    return pl.select(
        pl.lit(trained.protocol).alias("protocol"),
        pl.lit(trained.seed, pl.Int64).alias("seed"),
        pl.lit(trained.fold, pl.Int64).alias("fold"),
        number,
        *values,
        (pl.int_range(len(raw)) == (-1 if last is None else last)).alias("selected"),
    )
