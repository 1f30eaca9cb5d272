"""The temperature that a training stores beside its weights, fitted on no test epoch.

That of `final` is the median of the folds that are done when it is written; folds trained later do
not change a finished model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.evaluation.calibration import (
    fit_temperature,
    negative_log_likelihood,
    scale_by_temperature,
)
from sleeptools.runs import temperature
from sleeptools.runs.folds import BEST_ON_TEST, EpochFold
from sleeptools.training.task import FINAL, Task


def calibrate(task: Task, p: npt.NDArray[np.float32], stages: npt.NDArray[Any]) -> dict[str, Any]:
    """Give the entry `calibration` of a training's config.json.

    Parameters
    ----------
    task
        The training.
    p, stages
        (epochs, stages) probabilities of its validation epochs under the kept weights, and
        (epochs,) their stages; none where it has no validation.
    """
    if task.protocol == FINAL:
        return temperature.final_facts(task.folder.parent)
    if task.protocol == BEST_ON_TEST:
        return temperature.uncalibrated("best-on-test has no validation subjects beside its test")
    if isinstance(task.fold, EpochFold):
        return temperature.uncalibrated("LEAKY: the subjects of the validation epochs train, too")
    if not len(p):
        return temperature.uncalibrated(f"fold {task.fold.number} has no validation subject")
    fitted = fit_temperature(p, stages)
    before, after = (
        float(negative_log_likelihood(q, stages).mean())
        for q in (p, scale_by_temperature(p, fitted))
    )
    subjects = task.fold.subjects("val")
    return temperature.fold_facts(task.fold.number, fitted, (before, after), subjects, len(p))
