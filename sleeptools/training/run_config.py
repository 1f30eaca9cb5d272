"""config.toml of a run: what a command requests, merged with what the folder holds under its lock.

A run grows: later commands may add protocols, seeds and the final model, and nothing else that
changes a result. Several processes may train in one run; what describes the run as a whole is
written by one of them at a time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import OutputError, quoted
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs import writing
from sleeptools.runs.folds import SUBJECTS, Split
from sleeptools.runs.parent import Parent
from sleeptools.runs.run import (
    CONFIG_FILE,
    FINAL,
    PREDICTIONS_FILE,
    RUN_KIND,
    RUN_VERSION,
    STATE,
)
from sleeptools.runs.task_table import in_plan
from sleeptools.store import settings
from sleeptools.training.options import TrainOptions, complete_model

SPLIT_KEYS = ("split", "folds", "folds_from", "leaky")
"""Keys that say who is tested: a run that holds only `final` takes those of a later command."""
TRAINED_FILES = (STATE, "model.safetensors", PREDICTIONS_FILE)
"""Files of which one exists as soon as anything of a run is worth keeping."""
OLDER_RECIPE = {"precision": "fp32", "selection_on_test": "accuracy"}
"""Settings of a recipe that runs from before there were these do not have."""
LOCK_WAIT = 30.0  # s for another process to write the files of the run as a whole


def request_config(
    options: TrainOptions,
    data: EpochSet,
    model: Mapping[str, Any],
    recipe: Recipe,
    folds: Sequence[Split],
    parent: Parent | None = None,
    continued: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Give the content of config.toml for a command.

    Parameters
    ----------
    options
        Options of the command.
    data
        The epochs.
    model
        All settings of the model.
    recipe
        The complete recipe.
    folds
        The folds without validation; empty where only `final` is trained.
    parent
        The model that the training begins with.
    continued
        Name and passes of the run that this one goes on with.
    """
    return {
        "format": RUN_KIND,
        "version": RUN_VERSION,
        "split": options.split,
        "folds": len(folds),
        "folds_from": options.folds_from,
        "folds_seed": options.folds_seed,
        "protocols": list(options.protocols) if folds else [],
        "seeds": list(options.seeds),
        "final": options.final,
        **({"hold_out": sorted(options.hold_out)} if options.hold_out else {}),
        "model": {"name": options.model, **model},
        "recipe": recipe.table(fine_tuned=parent is not None),
        "epochs": writing.epochs_fingerprint(data),
        **({"parent": {"name": parent.model, "weights": parent.weights}} if parent else {}),
        **({"continued": dict(continued)} if continued else {}),
        **({"leaky": True} if folds and options.split != SUBJECTS else {}),
    }


def merge_config(run: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Give the settings of an existing run together with what a command adds.

    A run in which nothing was trained yet takes the new settings, whatever it had, unless tasks of
    it were planned: jobs that wait would train with others than they were submitted with.

    Raises
    ------
    OutputError
        If the two differ in anything that changes a result.
    """
    if not (run / CONFIG_FILE).exists():
        return request
    try:
        return extend_config(run, request)
    except OutputError:
        if any(any(run.rglob(name)) for name in TRAINED_FILES) or _in_use(run) or in_plan(run):
            raise
        return request


def extend_config(run: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Compare with the settings in the folder, and add to them.

    Raises
    ------
    OutputError
        If the two differ in anything that changes a result.
    """
    merged, lines = compare_config(run, request)
    if lines:
        hint = (
            f"give another run folder; 'sleeptools train EPOCHS {quoted(run)} "
            f"`config={run / CONFIG_FILE}`' goes on as this one began"
        )
        passes = re.fullmatch(r"recipe.passes: (\d+) there, (\d+) now", lines[0])
        if len(lines) == 1 and passes and int(passes[1]) < int(passes[2]):
            hint += (
                f"; 'sleeptools train EPOCHS NEW_RUN `continue={quoted(run)}` "
                f"`passes={passes[2]}`' goes on with it to more passes, in a folder of its own"
            )
        raise OutputError(
            f"{run}: this run exists with other settings: {'; '.join(lines)}",
            hint=hint,
            code="OUT-SETTINGS",
        )
    return merged


def compare_config(run: Path, request: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Join what a command requests with the settings in a folder.

    Returns
    -------
    merged
        The settings of both.
    differences
        A line for each setting that changes a result and differs; none if they go together.
    """
    path = run / CONFIG_FILE
    old = {"split": SUBJECTS} | store.read_toml(path)  # older runs lack it, as others below
    store.check_format(old, path, RUN_KIND, RUN_VERSION)
    old["model"] = complete_model(old)
    recipe: dict[str, Any] = OLDER_RECIPE | settings.settings_table(old, "recipe")
    augmentation = settings.settings_table(recipe, "augmentation")
    recipe["augmentation"] = Augmentation().model_dump(mode="json") | augmentation
    old["recipe"] = recipe
    merged = dict(request)
    if not request["folds"] or not old.get("folds"):  # one of the two has only `final`
        divided = old if old.get("folds") else request
        merged |= {key: divided[key] for key in SPLIT_KEYS if key in divided}
    for key in ("protocols", "seeds"):
        merged[key] = list(dict.fromkeys([*old.get(key, []), *request[key]]))
    merged["final"] = bool(old.get("final")) or request["final"]
    growing = {"protocols": merged["protocols"], "seeds": merged["seeds"], "final": merged["final"]}
    if not old.get("folds"):
        growing |= {key: merged[key] for key in SPLIT_KEYS if key in merged}
    return merged, settings.difference({**old, **growing}, merged)


@contextlib.contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Lock a run, waiting for a moment where a living process has it.

    Raises
    ------
    OutputError
        If that process holds it for too long, or the folder cannot be written to.
    """
    with store.lock(run, wait=LOCK_WAIT):
        yield


def clear_stale_locks(run: Path) -> None:
    """Clear what killed processes left in a run, also in trainings that are done."""
    for folder in (run, run / FINAL, *run.glob("*/seed-*/fold-*")):
        store.clear_stale_lock(folder)


def _in_use(run: Path) -> bool:
    """Whether a living process trains in this run."""
    return any(not store.clear_stale_lock(path.parent) for path in run.glob("*/**/.lock"))
