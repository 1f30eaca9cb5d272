"""`sleeptools evaluate`: the numbers of a run, from saved predictions, or of an external test."""

from __future__ import annotations

from pathlib import Path

from sleeptools.commands import external_test
from sleeptools.evaluation.evaluation import Evaluation, compare_evaluations, compute_evaluation
from sleeptools.evaluation.output import evaluation_json, write_evaluation
from sleeptools.runs.run import open_run

__all__ = [
    "Evaluation",
    "compare_evaluations",
    "evaluate",
    "evaluate_only",
    "evaluation_json",
    "score_external",
    "write_evaluation",
]

score_external = external_test.score


def evaluate(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write metrics.parquet, review.csv and `evaluation/` into it.

    Parameters
    ----------
    run
        Run folder that `train` wrote.
    partial
        Take an incomplete run; the evaluation says so.

    Returns
    -------
    evaluation
        All numbers, leakage check and notes.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If it is no run, lacks folds, or its predictions do not fit its folds.
    OutputError
        If the run cannot be written to; `evaluate_only` gives the numbers without writing.
    """
    evaluation = evaluate_only(run, partial=partial)
    write_evaluation(evaluation)
    return evaluation


def evaluate_only(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write nothing; otherwise as `evaluate`."""
    return compute_evaluation(open_run(run, partial=partial))
