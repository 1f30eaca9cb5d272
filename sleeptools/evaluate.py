"""`sleeptools evaluate`: the numbers of a finished run, from its saved predictions."""

from __future__ import annotations

from pathlib import Path

from sleeptools import evaluation, runs
from sleeptools.evaluation import Evaluation

__all__ = ["Evaluation", "compute", "evaluate"]


def evaluate(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write metrics.parquet and metrics.csv into it.

    Parameters
    ----------
    run
        The run folder that `train` wrote.
    partial
        Take an incomplete run; the result says so.

    Returns
    -------
    evaluation
        Tidy table, pooled confusion matrices, subjects, leakage check and notes.

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
    return evaluation.compute(runs.open_run(run, partial=partial))
