"""`sleeptools evaluate`: the numbers of a run, from saved predictions, or of an external test."""

from __future__ import annotations

from pathlib import Path

from sleeptools.commands import external_test
from sleeptools.evaluation import evaluation
from sleeptools.evaluation.evaluation import Evaluation, compare
from sleeptools.runs.run import open_run

__all__ = ["Evaluation", "compare", "compute", "evaluate", "score_external"]

score_external = external_test.score


def evaluate(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write metrics.parquet, review.csv and `evaluation/` into it.

    Parameters
    ----------
    run
        The run folder that `train` wrote.
    partial
        Take an incomplete run; the result says so.

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
        If the run cannot be written to; `compute` gives the numbers without writing.
    """
    found = compute(run, partial=partial)
    evaluation.write(found)
    return found


def compute(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write nothing; otherwise as `evaluate`."""
    return evaluation.compute(open_run(run, partial=partial))
