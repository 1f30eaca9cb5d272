"""Output of an evaluation: metrics.parquet, review.csv, the folder `evaluation/`, and JSON.

The files of one evaluation get their names together, and its manifest, with their sums, last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from sleeptools import store
from sleeptools.evaluation import metrics, uncertain_epochs
from sleeptools.evaluation.evaluation import FOLDER_TABLES, Evaluation
from sleeptools.evaluation.metrics import Counts
from sleeptools.evaluation.selection import protocol_difference
from sleeptools.runs.folds import BEST_ON_TEST
from sleeptools.runs.nights import NIGHTS_FILE
from sleeptools.runs.run import CONFIG_FILE, FOLDS_EPOCHS, FOLDS_FILE, PREDICTIONS_FILE, Run

METRICS_FORMAT: Final = "sleeptools-metrics"
METRICS_VERSION: Final = 2
EVALUATION_KIND: Final = "sleeptools-evaluation"
EVALUATION_VERSION: Final = 1
EVALUATION_FOLDER: Final = "evaluation"
EVALUATION_MANIFEST: Final = f"{EVALUATION_FOLDER}/manifest.json"
"""Manifest of an evaluation; the files in it are named from the run's folder."""
PARENT_FACTS: Final = ("name", "weights", "trained_as")
LEFT_OUT_OF_JSON: Final = {"sleep", "day"}
"""Tables with a row per night and statistic, which are long; they are in `evaluation/`."""


def write_evaluation(evaluation: Evaluation) -> Path:
    """Write metrics.parquet, review.csv and `evaluation/`, whose manifest names all of them.

    Call it with the run locked. A reader who finds the manifest's sums right has all files of one
    evaluation.

    Returns
    -------
    path
        That of metrics.parquet.
    """
    run = evaluation.run
    tables = {"metrics": evaluation.table("metrics")}
    tables |= {f"{EVALUATION_FOLDER}/{name}": evaluation.table(name) for name in FOLDER_TABLES}
    contents = {"review.csv": store.csv_bytes(evaluation.table("review"))}
    for name, table in tables.items():
        if len(table):
            contents[f"{name}.parquet"] = store.parquet_bytes(table)
            contents[f"{name}.csv"] = store.csv_bytes(table)
    facts = {
        "run": run.name,
        "simulated": run.simulated,
        "complete": not run.missing,
        "inputs": {str(p.relative_to(run.folder)): store.sha256(p) for p in _inputs(run)},
    }
    manifest = store.Manifest(EVALUATION_KIND, EVALUATION_VERSION, facts)
    store.write_folder(run.folder, contents, manifest, EVALUATION_MANIFEST)
    for name in tables:
        for path in (run.folder / f"{name}.parquet", run.folder / f"{name}.csv"):
            if str(path.relative_to(run.folder)) not in contents:  # of an earlier evaluation
                path.unlink(missing_ok=True)
    return run.folder / "metrics.parquet"


def _inputs(run: Run) -> list[Path]:
    """List the files of a run that its numbers follow from."""
    files = [run.folder / name for name in (CONFIG_FILE, FOLDS_FILE, FOLDS_EPOCHS, NIGHTS_FILE)]
    files += [trained.folder(run.folder) / PREDICTIONS_FILE for trained in run.done]
    return [path for path in files if path.exists()]


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Turn an evaluation into plain values, for JSON; the keys are stable, NaN is null."""
    run = evaluation.run
    facts = {
        "format": METRICS_FORMAT,
        "version": METRICS_VERSION,
        "run": run.name,
        "model": run.model,
        "stages": run.stages,
        "simulated": run.simulated,
        "complete": not run.missing,
        "missing": [str(training) for training in run.missing],
        **({"parent": {k: run.parent.get(k) for k in PARENT_FACTS}} if run.parent else {}),
        "leakage": evaluation.leakage,
        "notes": evaluation.notes,
        "results": [
            _result(evaluation, protocol, seed, matrix)
            for protocol, pooled in evaluation.pooled.items()
            for seed, matrix in zip(pooled.seeds, pooled.matrices, strict=True)
        ],
        "difference": protocol_difference(run, evaluation.pooled),
        "intervals": {p: table.to_dicts() for p, table in evaluation.intervals.items()},
        **{
            name: evaluation.table(name).to_dicts()
            for name in FOLDER_TABLES
            if name not in LEFT_OUT_OF_JSON
        },
        "review": {
            "protocol": evaluation.headline,
            "share": uncertain_epochs.LISTED_SHARE,
            "epochs": len(evaluation.table("review")),
            "errors_found": uncertain_epochs.share_of_errors(evaluation.ranking),
        },
    }
    plain: dict[str, Any] = store.plain_values(facts)
    return plain


def _result(evaluation: Evaluation, protocol: str, seed: int, matrix: Counts) -> dict[str, Any]:
    """Give the pooled metrics of one protocol and seed, and those of its subjects."""
    run = evaluation.run
    subjects = evaluation.table("subjects").filter(
        pl.col("protocol") == protocol, pl.col("seed") == seed
    )
    per_stage = metrics.stage_metrics(matrix) | {"epochs": metrics.support(matrix)}
    return {
        "protocol": protocol,
        "seed": seed,
        "optimistic": protocol == BEST_ON_TEST,
        "folds": run.count(protocol, seed),
        "subjects": len(subjects),
        "recordings": subjects["nights"].sum(),
        "epochs": matrix.sum(),
        "macro_over_stages": metrics.count_true_stages(matrix),
        "metrics": metrics.overall_metrics(matrix),
        "per_stage": {
            name: {metric: values[i] for metric, values in per_stage.items()}
            for i, name in enumerate(run.stages)
        },
        "confusion": matrix.tolist(),
        "per_subject": subjects.drop("protocol", "seed").to_dicts(),
    }
