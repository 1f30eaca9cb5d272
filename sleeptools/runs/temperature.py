"""The temperature of a trained model: what its config.json says of calibration.

A fold's is fitted on its validation subjects when its training ends (Guo et al. 2017, arXiv
1706.04599), `final` has the median of those of its run. Folders written before have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

from sleeptools import store
from sleeptools.runs import model_folder
from sleeptools.runs.folds import LEAK_FREE
from sleeptools.runs.run import is_done

CALIBRATION = "calibration"
"""Entry of config.json, a table as `fold_facts` and `final_facts` give it, or `uncalibrated`."""
CALIBRATION_FACTS = {
    "temperature": "positive?",
    "fitted_on": "text?",
    "why": "text?",
}
BEFORE = "the model was trained before folds kept a temperature"


@dataclass(frozen=True)
class ModelCalibration:
    """How the probabilities of a model are calibrated; as a text, a line for people.

    Parameters
    ----------
    temperature
        The logits are divided by it; None for raw probabilities.
    origin
        What it was fitted on, or why there is none.
    """

    temperature: float | None
    origin: str

    @classmethod
    def of_model(cls, facts: Mapping[str, Any], path: Path) -> Self:
        """Read it from the facts of a config.json; `path` is for messages.

        Raises
        ------
        DataError
            If the entry is of another kind.
        """
        stored = facts.get(CALIBRATION, uncalibrated(BEFORE))
        store.check_facts(stored, path, CALIBRATION_FACTS, place=CALIBRATION)
        temperature = stored.get("temperature")
        origin = stored.get("why" if temperature is None else "fitted_on")
        return cls(temperature, origin or "unknown")

    def __str__(self) -> str:
        if self.temperature is None:
            return f"uncalibrated: {self.origin}"
        return f"calibrated by T = {self.temperature:.2f} ({self.origin})"

    def elsewhere(self, where: str) -> ModelCalibration:
        """Say that the temperature was fitted under other conditions than those of its use."""
        fitted = self.temperature is not None
        return replace(self, origin=f"{self.origin}, {where}") if fitted else self

    def facts(self) -> dict[str, Any]:
        """Facts for the manifest of what was scored with it."""
        return {"temperature": self.temperature, "says": str(self)}


RAW: Final = ModelCalibration(None, "as asked for")


def uncalibrated(why: str) -> dict[str, Any]:
    """Give the entry of a model that has no temperature."""
    return {"temperature": None, "why": why}


def fold_facts(
    fold: int, temperature: float, losses: tuple[float, float], subjects: Sequence[str], epochs: int
) -> dict[str, Any]:
    """Give the entry of a fold.

    Parameters
    ----------
    fold
        Number of the fold.
    temperature
        The one of the least log loss of the validation epochs.
    losses
        Their log loss per epoch before and after, natural logarithm.
    subjects, epochs
        Validation subjects, and the number of their epochs.
    """
    return {
        "temperature": temperature,
        "fitted_on": f"validation subjects of fold {fold}",
        "subjects": list(subjects),
        "epochs": epochs,
        "nll_before": losses[0],
        "nll_after": losses[1],
    }


def final_facts(run: Path) -> dict[str, Any]:
    """Give the entry of `final`: the median over the leak-free folds that the run has by now."""
    folders = sorted(path for path in run.glob(f"{LEAK_FREE}/seed-*/fold-*") if is_done(path))
    read = [ModelCalibration.of_model(model_folder.read_config(f), f) for f in folders]
    temperatures = [c.temperature for c in read if c.temperature is not None]
    if not temperatures:
        return uncalibrated("the run had no calibrated leak-free fold when final was trained")
    low, high = min(temperatures), max(temperatures)
    return {
        "temperature": median(temperatures),
        "fitted_on": f"median of {len(temperatures)} leak-free folds, {low:.2f} to {high:.2f}",
        "folds": len(temperatures),
        "range": [low, high],
    }
