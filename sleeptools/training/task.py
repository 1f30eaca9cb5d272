"""One training: a fold under a protocol with a seed, or the final model on all subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sleeptools.models.recipe.recipe import Recipe
from sleeptools.runs.folds import BEST_ON_TEST, FOLD_PROTOCOLS, HELD_OUT, Split
from sleeptools.runs.parent import Parent
from sleeptools.runs.run import FINAL, STATE, TrainingId, is_done

__all__ = ["FINAL", "PROTOCOLS", "STATE", "Task"]

PROTOCOLS = (*FOLD_PROTOCOLS, FINAL)  # the place is part of the seeds: append only


@dataclass(frozen=True)
class Task:
    """One training to be done.

    Parameters
    ----------
    protocol
        "leak-free", "best-on-test", or "final" (all subjects train but those held out, on
        which it is tested).
    seed
        Seed of the weights, the order of the epochs and the dropout.
    fold
        Subjects or epochs of each role.
    folder
        Folder of its files.
    model, config
        Name and settings of the model.
    recipe
        Complete recipe.
    facts
        Facts for the model's `config.json`.
    explain
        Whether to write explain.safetensors for the test epochs.
    watch_test
        Also judge the test fold after every pass, for the log alone: it selects nothing.
    parent
        The model that it begins with; None for fresh weights.
    continued
        State that it begins with, of a finished training of fewer passes; None for none.
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
    parent: Parent | None = None
    continued: Path | None = None

    @property
    def done(self) -> bool:
        """Whether it has its last files, and no checkpoint."""
        tested = self.tested_in is None or is_done(self.tested_in)
        return is_done(self.folder, final=self.protocol == FINAL) and tested

    @property
    def tested_in(self) -> Path | None:
        """Folder of what the final model predicts of held-out subjects; None where there are none.

        The predictions of a fold are in its own folder.
        """
        if self.protocol != FINAL or not self.fold.subjects("test"):
            return None
        return TrainingId(HELD_OUT, self.seed, 0).folder(self.folder.parent)

    def __str__(self) -> str:
        if self.protocol == FINAL:
            return FINAL
        return str(TrainingId(self.protocol, self.seed, self.fold.number))

    @property
    def selects_on_test(self) -> bool:
        """Whether a pass is judged on the test fold."""
        return self.protocol == BEST_ON_TEST

    @property
    def selection(self) -> str:
        """Metric that selects the pass; "last" where nothing does."""
        if self.selects_on_test:
            return self.recipe.selection_on_test
        return self.recipe.selection if self.fold.validated else "last"

    @property
    def unselected(self) -> bool:
        """Whether the recipe would select a pass, and there is no validation subject to do so."""
        return self.selection == "last" != self.recipe.selection

    def seeds(self, *numbers: int) -> list[int]:
        """Seeds of a random generator of this training."""
        return [self.seed, PROTOCOLS.index(self.protocol), self.fold.number, *numbers]
