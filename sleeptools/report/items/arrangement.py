"""How an item is built, and which runs and epochs can feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sleeptools.evaluation.comparison import UNSEEN
from sleeptools.report.items.content import Builder, ItemRequest
from sleeptools.report.items.matching import refuse
from sleeptools.report.items.run_source import RunSource

HUMAN: Final = "people"
MOUSE: Final = "mice"


@dataclass(frozen=True)
class Arrangement:
    """How an item is built, and from what.

    Parameters
    ----------
    build
        The builder.
    results
        Items whose printed results stand beside ours; the item itself if left out.
    species
        Whose runs and epochs it takes: `HUMAN`, `MOUSE`, or "" for none.
    models
        Models whose runs it takes; any if empty.
    takes_runs, takes_epochs
        Whether it takes runs, and sets of epochs.
    external
        True: only runs of an external test. False: all others only. None: any.
    reason
        Why nothing of ours stands beside it.
    """

    build: Builder
    results: tuple[str, ...] = ()
    species: str = ""
    models: frozenset[str] = frozenset()
    takes_runs: bool = True
    takes_epochs: bool = False
    external: bool | None = None
    reason: str = field(default="")

    def check(self, request: ItemRequest) -> None:
        """Refuse runs and epochs that cannot feed the item.

        Raises
        ------
        DataError
            Naming the first of them, and why.
        """
        for source in request.runs:
            if why := self._unfit(source):
                raise refuse(source.name, request.name, why)
        for data in request.epochs:
            name = str(data.folder)
            if not self.takes_epochs:
                why = self.reason or "it is drawn from runs, not from epochs"
                raise refuse(name, request.name, why)
            if why := self._other_species(data.names):
                raise refuse(name, request.name, why)

    def _unfit(self, source: RunSource) -> str:
        """Say why a run cannot feed the item; "" if it can."""
        if not self.takes_runs:
            return self.reason or "it is drawn from a folder of epochs; a run holds no signals"
        if why := self._other_species(source.stages):
            return why
        if self.models and source.model not in self.models:
            return f"it is of {source.model}; the item is of {', '.join(sorted(self.models))}"
        is_external = source.protocol in UNSEEN
        if self.external is False and is_external:
            return "it is a test of unseen subjects, and the item shows the folds of a training"
        if self.external and source.evaluation.run.mixed and not is_external:
            return "animals that it tests were trained on, and the item shows unseen ones"
        return ""

    def _other_species(self, stages: tuple[str, ...]) -> str:
        if self.species and ("NREM" in stages) != (self.species == MOUSE):
            return f"its stages are {', '.join(stages)}; the item is of {self.species}"
        return ""
