"""One training to be done: a fold under a protocol with a seed, or everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sleeptools.models.recipe.recipe import Recipe
from sleeptools.runs.folds import BEST_ON_TEST, FOLD_PROTOCOLS, Split
from sleeptools.runs.run import FINAL, STATE, TrainingId, is_done

__all__ = ["FINAL", "PROTOCOLS", "STATE", "Task"]

PROTOCOLS = (*FOLD_PROTOCOLS, FINAL)  # the place is part of the seeds: append only


@dataclass(frozen=True)
class Task:
    """What one training is asked to do.

    Parameters
    ----------
    protocol
        "leak-free", "best-on-test", or "final" (everybody trains, nothing is held out).
    seed
        Of the weights, the order and the dropout.
    fold
        Who does what.
    folder
        Where its files go.
    model, config
        Name and settings of the model.
    recipe
        How it is trained.
    facts
        What goes into the model's `config.json`.
    explain
        Whether to write explain.safetensors for the test epochs.
    watch_test
        Also judge the test fold after every pass, for the log alone: nothing is chosen by it.
    """

    protocol: str
    seed: int
    fold: Split
    folder: Path
    model: str
    config: Mapping[str, Any] = field(repr=False)
    recipe: Recipe = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    explain: bool = True
    watch_test: bool = False

    @property
    def done(self) -> bool:
        """Whether its last file is there, and nothing that only an unfinished training has."""
        return is_done(self.folder, final=self.protocol == FINAL)

    def __str__(self) -> str:
        if self.protocol == FINAL:
            return FINAL
        return str(TrainingId(self.protocol, self.seed, self.fold.number))

    @property
    def selection(self) -> str:
        """What the kept pass is the best in, "last" where nothing chooses."""
        if self.protocol == BEST_ON_TEST:
            return "accuracy"
        return self.recipe.selection if self.fold.validated else "last"

    @property
    def unselected(self) -> bool:
        """Whether the recipe would select a pass, and there is no validation subject to do so."""
        return self.selection == "last" != self.recipe.selection

    def seeds(self, *more: int) -> list[int]:
        """Seed of a generator of this training."""
        return [self.seed, PROTOCOLS.index(self.protocol), self.fold.number, *more]
