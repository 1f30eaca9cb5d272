"""A run that goes on with a finished one: the last states of its trainings, and more passes.

A training keeps the state after its last pass (`last.safetensors`). Another run may begin there and
ends, on a CPU with as many threads, in the same bits as one of all its passes without a break: the
weights, the optimiser, the best pass so far and the log are in that state, and what is random
follows from seed, protocol, fold and step. The test fold is read a second time, after its first
result was known; audit.csv has both readings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.runs.run import CONFIG_FILE, RUN_KIND, RUN_VERSION, STATE
from sleeptools.store import settings
from sleeptools.training import run_config
from sleeptools.training.task import Task

SHOWN: Final = 4  # trainings in a message


@dataclass(frozen=True)
class ContinuedRun:
    """A finished run that another one goes on with.

    Parameters
    ----------
    folder
        The run folder.
    passes
        Passes of its trainings.
    """

    folder: Path
    passes: int

    @property
    def table(self) -> dict[str, Any]:
        """Table [continued] of config.toml, and of the model folders."""
        return {"run": self.folder.resolve().name, "passes": self.passes}

    @property
    def facts(self) -> dict[str, Any]:
        """What the new run's manifest says of it."""
        manifest = self.folder / store.MANIFEST
        listed = {"manifest_sha256": store.sha256(manifest)} if manifest.exists() else {}
        return {**self.table, "folder": str(self.folder), **listed}


def read_continued(folder: Path) -> ContinuedRun:
    """Read how many passes a run has.

    Raises
    ------
    MissingInputError, DataError
        If the folder is missing, or is no run's.
    """
    path = store.need(folder, "run folder") / CONFIG_FILE
    config = store.read_toml(path)
    store.check_format(config, path, RUN_KIND, RUN_VERSION)
    recipe = settings.settings_table(config, "recipe")
    store.check_facts(recipe, path, {"passes": "whole"})
    return ContinuedRun(folder, recipe["passes"])


def check_passes(continued: ContinuedRun, recipe: Recipe) -> None:
    """Refuse a number of passes that does not continue a run, and a schedule that cannot.

    Raises
    ------
    UsageError
        With the reason.
    """
    if recipe.schedule.depends_on_passes:
        raise UsageError(
            f"{continued.folder} cannot be continued: its schedule, {recipe.schedule.kind}, spans "
            f"all passes of a training, and has come to its end after {continued.passes}",
            hint="train all passes anew, or begin with its weights by `parent=MODEL`",
            code="USE-TOGETHER",
        )
    if recipe.passes <= continued.passes:
        raise UsageError(
            f"`passes={recipe.passes}`: {continued.folder} has {continued.passes} passes already",
            hint="`passes` is the number of all passes, with those that are done",
            code="USE-VALUE",
        )


def check_settings(continued: ContinuedRun, request: dict[str, Any], run: Path) -> None:
    """Compare what is requested with the settings of the run that it goes on with.

    Raises
    ------
    UsageError
        If anything but the passes differs.
    DataError
        If the epochs are others.
    """
    if run.resolve() == continued.folder.resolve():
        raise UsageError(
            f"{run} cannot be continued in its own folder: its results stay as they are",
            hint="give another run folder",
            code="USE-TOGETHER",
        )
    same = {"recipe": {**request["recipe"], "passes": continued.passes}}
    old = store.read_toml(continued.folder / CONFIG_FILE)
    same |= {"continued": old["continued"]} if "continued" in old else {}
    requested = {k: v for k, v in request.items() if k != "continued"} | same
    _, lines = run_config.compare_config(continued.folder, requested)
    if any(line.startswith("epochs.") for line in lines):
        raise DataError(
            f"{continued.folder} was trained on other epochs: {'; '.join(lines)}",
            hint="give the epochs that it was trained on",
            code="RUN-EPOCHS",
        )
    if lines:
        raise UsageError(
            f"{continued.folder} has other settings: {'; '.join(lines)}",
            hint="leave them out: all but the number of passes is that run's",
            code="USE-TOGETHER",
        )


def check_states(continued: ContinuedRun, tasks: Iterable[Task]) -> None:
    """Refuse trainings that have no state to begin with.

    Raises
    ------
    MissingInputError
        With the first ones.
    """
    lacking = [
        str(task)
        for task in tasks
        if not (task.done or (task.folder / STATE).exists())
        and task.continued is not None
        and not task.continued.exists()
    ]
    if lacking:
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        raise MissingInputError(
            f"{continued.folder}: no last state of {', '.join(lacking[:SHOWN])}{more}",
            hint="a training has one when it is finished, and none of an earlier version has; "
            "finish it, or train all passes anew",
            code="RUN-STATE",
        )
