"""`sleeptools evaluate`: the numbers of a finished run, from its saved predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sleeptools import evaluation, runs
from sleeptools.evaluation import Evaluation

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    run: Path, *, partial: bool = False, progress: Callable[[str], None] | None = None
) -> Evaluation:
    """Evaluate a run and write metrics.parquet and metrics.csv into it.

    Parameters
    ----------
    run
        The run folder that `train` wrote.
    partial
        Take an incomplete run; the result says so.
    progress
        Called with a line of text for every step.

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
    """
    say = progress or (lambda _: None)
    opened = runs.open_run(run, partial=partial)
    say(f"{run}: {len(opened.done)} trainings of {opened.model}")
    found = evaluation.compute(opened)
    say(f"{run}: wrote {evaluation.write(found).name} and metrics.csv")
    return found
