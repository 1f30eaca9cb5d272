"""`sleeptools evaluate`: the numbers of a run, from saved predictions, or of an external test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.commands import external_test
from sleeptools.errors import OutputError
from sleeptools.evaluation.evaluation import Evaluation, compare_evaluations, compute_evaluation
from sleeptools.evaluation.output import evaluation_json, write_evaluation
from sleeptools.runs.run import CONFIG_FILE, open_run

__all__ = [
    "Evaluation",
    "compare_evaluations",
    "evaluate",
    "evaluate_only",
    "evaluation_json",
    "score_external",
    "write_evaluation",
]

WAIT: Final = 30.0  # s for another process that writes into the run

score_external = external_test.score


def evaluate(
    run: Path, *, partial: bool = False, on_read_only: Callable[[str], None] | None = None
) -> Evaluation:
    """Evaluate a run and write metrics.parquet, review.csv and `evaluation/` into it.

    Parameters
    ----------
    run
        Run folder that `train` wrote.
    partial
        Take an incomplete run; the evaluation says so.
    on_read_only
        Called with the reason where the run cannot be written to, and nothing is; if left out, that
        is an error.

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
    if not (run / CONFIG_FILE).exists():
        open_run(run)  # raises
    try:
        with store.lock(run, "evaluation", wait=WAIT):
            evaluation = evaluate_only(run, partial=partial)
            write_evaluation(evaluation)
            return evaluation
    except OutputError as e:
        if on_read_only is None:
            raise
        on_read_only(str(e))
        return evaluate_only(run, partial=partial)


def evaluate_only(run: Path, *, partial: bool = False) -> Evaluation:
    """Evaluate a run and write nothing; otherwise as `evaluate`."""
    return compute_evaluation(open_run(run, partial=partial))
