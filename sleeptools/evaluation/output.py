"""Output of an evaluation: metrics.parquet, review.csv, the folder `evaluation/`, and JSON."""

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

METRICS_FORMAT: Final = "sleeptools-metrics"
METRICS_VERSION: Final = 2
LEFT_OUT_OF_JSON: Final = {"sleep", "day"}
"""Tables with a row per night and statistic, which are long; they are in `evaluation/`."""


def write_evaluation(evaluation: Evaluation) -> Path:
    """Write metrics.parquet, review.csv and `evaluation/`; return the path of metrics.parquet."""
    folder = evaluation.run.folder
    metrics_path = folder / "metrics.parquet"
    store.write_table(metrics_path, evaluation.table("metrics"), csv=True)
    store.write_text(folder / "review.csv", store.table_csv(evaluation.table("review")))
    for name in FOLDER_TABLES:
        table, path = evaluation.table(name), folder / "evaluation" / f"{name}.parquet"
        if len(table):
            store.write_table(path, table, csv=True)
        else:  # of an earlier evaluation
            path.unlink(missing_ok=True)
            path.with_suffix(".csv").unlink(missing_ok=True)
    return metrics_path


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
