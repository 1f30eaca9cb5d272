"""The plan of a training command, checked against the epochs and the run before the first step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from sleeptools import registry, store
from sleeptools.errors import UsageError
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.recipe import (
    FINE_TUNING,
    TUNING_SETTINGS,
    Recipe,
    brought_settings,
    resolve_recipe,
)
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.runs import model_folder, writing
from sleeptools.runs.folds import (
    FOLD_PROTOCOLS,
    HELD_OUT,
    LEAK_FREE,
    EpochFold,
    Split,
    protocol_folds,
)
from sleeptools.runs.leakage import check_unseen, learnt_subjects
from sleeptools.runs.parent import Parent, read_parent
from sleeptools.runs.run import CONFIG_FILE, LAST_STATE, TrainingId
from sleeptools.store import settings
from sleeptools.training import continuation, fine_tuning, fitting, run_config, splits
from sleeptools.training.continuation import ContinuedRun, read_continued
from sleeptools.training.optimisation import make_optimiser
from sleeptools.training.options import TrainOptions
from sleeptools.training.task import FINAL, Task


@dataclass
class Plan:
    """What a command trains in a run.

    Parameters
    ----------
    run
        The run folder.
    options
        Options of the command.
    data
        The epochs.
    model_config
        All settings of the model.
    recipe
        The complete recipe.
    folds
        The folds without validation; empty where only `final` is trained.
    parameters
        Number of the model's parameters.
    parent
        The model that every training begins with; None for fresh weights.
    continued
        The run that every training goes on with; None where they begin anew.
    leakage
        How tested subjects were compared with those that the parent has learnt from.
    config
        Content of config.toml: what the folder holds and what this command adds.
    """

    run: Path
    options: TrainOptions
    data: EpochSet
    model_config: dict[str, Any]
    recipe: Recipe
    folds: Sequence[Split]
    parameters: int
    parent: Parent | None = None
    continued: ContinuedRun | None = None
    leakage: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def tasks(self) -> Iterator[Task]:
        """Every training of this command, done or not."""
        names = self.options.names
        return (task for task in self._tasks() if not names or str(task) in names)

    def _tasks(self) -> Iterator[Task]:
        for protocol in self.options.protocols if self.folds else ():
            folds = protocol_folds(protocol, self.folds, self.options.folds_seed)
            for seed in self.options.seeds:
                for fold in folds:
                    if self.options.fold in {None, fold.number}:
                        yield self.task(protocol, seed, fold)
        if self.options.final:
            fold = splits.final_fold(self.data, self.options)
            yield self.task(FINAL, self.options.seeds[0], fold)

    def task(self, protocol: str, seed: int, fold: Split) -> Task:
        """Make one training."""
        final = protocol == FINAL
        facts = writing.signal_facts(self.data) | {
            "preprocessing": _preprocessing(self.data),
            "trained_on": writing.origin_facts(self.data),
            **self.origin(),
            "protocol": protocol,
            "seed": seed,
            "fold": None if final else fold.number,
            "train_subjects": list(fold.subjects("train")),
            "validation_subjects": list(fold.subjects("val")),
        }
        if isinstance(fold, EpochFold):
            facts |= {"split": self.options.split, "leaky": True}
        if self.parent:
            facts |= {"parent": self.parent.table}
        if varied := self.recipe.augmentation.montage:
            facts |= {"recipe": varied}
        name = FINAL if final else str(TrainingId(protocol, seed, fold.number))
        if self.continued:
            facts |= {"continued": self.continued.table}
        return Task(
            protocol=protocol,
            seed=seed,
            fold=fold,
            folder=self.run / name,
            model=self.options.model,
            config=self.model_config,
            recipe=self.recipe,
            facts=facts,
            explain=self.options.explain,
            watch_test=self.options.watch_test and protocol == LEAK_FREE,
            parent=self.parent,
            continued=self.continued.folder / name / LAST_STATE if self.continued else None,
        )

    def origin(self) -> dict[str, Any]:
        """Tell whether anything that a model of this run has learnt from is simulated."""
        return self.parent.origin(self.data) if self.parent else writing.origin_facts(self.data)

    def notes(self) -> list[str]:
        """Tell what of these epochs is not as the parent learnt it; one sentence each."""
        if self.parent is None:
            return []
        notes = [*self.parent.notes(self.data)]
        validated = {s for task in self.tasks() for s in task.fold.subjects("val")}
        shared = sorted(validated & learnt_subjects(self.parent.facts))
        if shared and not self.options.allow_shared_subject_ids:
            notes.append(
                f"{len(shared)} validation subjects trained the parent: the pass they choose, and "
                "the temperature, lean on what it has learnt."
            )
        return notes

    def request(self) -> dict[str, Any]:
        """Content of config.toml as this command alone would write it."""
        return run_config.request_config(
            self.options,
            self.data,
            self.model_config,
            self.recipe,
            self.folds,
            self.parent,
            self.continued.table if self.continued else None,
        )

    def written(self) -> bool:
        """Whether nothing is left to write about the run as a whole."""
        path = self.run / CONFIG_FILE
        complete = path.exists() and (self.run / "manifest.json").exists()
        return complete and store.read_toml(path) == self.config and writing.all_listed(self.run)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the run as a whole, for the moment that its common files take; wait for others.

        Inside, `config` is what the folder holds at that moment and what this command adds.

        Raises
        ------
        OutputError
            If another process holds it for too long, or left other settings there meanwhile.
        """
        with run_config.hold_run(self.run):
            self.config = run_config.merge_config(self.run, self.request())
            yield

    def write(self) -> None:
        """Write what describes the run where it is missing or changes; call it holding."""
        if self.folds or not self.config["folds"]:
            seed = self.options.folds_seed
            folds = {p: protocol_folds(p, self.folds, seed) for p in FOLD_PROTOCOLS}
            if self.options.hold_out:
                folds[HELD_OUT] = [splits.final_fold(self.data, self.options)]
            writing.write_folds(self.run, self.data, folds)
        writing.write_nights(self.run, self.data)
        writing.write_config(self.run, self.config)

    def check(self) -> None:
        """Compare with the settings in the folder: another process may have replaced them.

        Raises
        ------
        OutputError
            If they are no longer those of this command.
        """
        run_config.extend_config(self.run, self.request())

    def facts(self) -> dict[str, Any]:
        """Facts of the run for its manifest."""
        changed = self.threads_changed()
        return {
            "model": self.options.model,
            "model_config": self.model_config,
            "parameters": self.parameters,
            **writing.signal_facts(self.data),
            **writing.data_facts(self.data),
            "epochs": self.config["epochs"],
            "folds": self.config["folds"],
            "protocols": self.config["protocols"],
            "seeds": self.config["seeds"],
            "final": self.config["final"],
            **{k: self.config[k] for k in ("hold_out",) if k in self.config},
            **{k: self.config[k] for k in ("split", "leaky") if self.config.get("leaky")},
            "selection": self.selection(),
            "recipe": self.recipe.table(fine_tuned=self.parent is not None),
            **({"parent": self._parent_facts(self.parent)} if self.parent else {}),
            **({"continued": self.continued.facts} if self.continued else {}),
            **({"threads_changed": changed} if changed else {}),
        }

    def _parent_facts(self, parent: Parent) -> dict[str, Any]:
        """Facts of the parent for the manifest; the marks of its nights are in every model."""
        table = {k: v for k, v in parent.table.items() if k != "night_marks"}
        allowed = {"shared_subject_ids_allowed": True}
        return (
            table
            | {"leakage": self.leakage, "notes": self.notes()}
            | (allowed if self.options.allow_shared_subject_ids else {})
        )

    def threads_changed(self) -> dict[str, list[int]]:
        """Trainings that were continued with another number of CPU threads, and the numbers."""
        changed = {}
        for path in writing.finished_files(self.run):
            if path.name == "config.json":
                threads = model_folder.read_config(path.parent).get("threads", [])
                if len(threads) > 1:
                    changed[str(path.parent.relative_to(self.run))] = threads
        return changed

    def selection(self) -> dict[str, list[str]]:
        """Tell what the pass is selected by under each protocol; "last" where nothing selects."""
        folds = self.folds
        if self.config["folds"] and not folds:  # by an earlier command; this one has only `final`
            divided = {name: self.config[name] for name in ("folds", "folds_from", "split")}
            folds = splits.choose_folds(self.data, replace(self.options, **divided))
        seed = self.options.folds_seed
        return {
            protocol: sorted(
                {
                    self.task(protocol, 0, fold).selection
                    for fold in protocol_folds(protocol, folds, seed)
                }
            )
            for protocol in self.config["protocols"]
        }


def make_plan(epochs: Path, run: Path, options: TrainOptions) -> Plan:
    """Resolve the options, and check everything that can be checked before the first step."""
    parent = None if options.parent is None else read_parent(options.parent)
    if parent is not None:
        options = replace(options, model=parent.model)
    module = registry.load("models", options.model)
    settings.check_keys(options.settings, ("model", "recipe"), section="settings")
    recipe = _resolve_recipe(module, options, parent)
    begun = brought_settings(module, recipe.variant) if parent is None else parent.facts["config"]
    changes = settings.settings_table(options.settings, "model")
    model = settings.resolve(module.Config, {**begun, **changes}, section="model")
    settings.check_keys(options.protocols, FOLD_PROTOCOLS, section="`protocol`")
    data = open_epochs(epochs)
    if parent is not None:
        fitting.check_parent_fit(data, model, parent)
    fitting.check_fit(data, model, recipe)
    splits.check_split(options, model)
    folds = splits.choose_folds(data, options)
    model_config = model.model_dump(mode="json", exclude_none=True)
    parameters = _count_parameters(model_config, recipe, options.model, parent)
    writing.refuse_foreign(run)
    plan = Plan(run, options, data, model_config, recipe, folds, parameters, parent)
    if options.continued is not None:
        plan.continued = read_continued(options.continued)
        continuation.check_passes(plan.continued, recipe)
        continuation.check_settings(plan.continued, plan.request(), run)
        continuation.check_states(plan.continued, plan.tasks())
    plan.leakage = _check_tested(plan)
    plan.config = run_config.merge_config(run, plan.request())
    return plan


def _resolve_recipe(module: ModuleType, options: TrainOptions, parent: Parent | None) -> Recipe:
    """Resolve the recipe; with a parent the one for fine-tuning, with the parent's augmentation.

    Raises
    ------
    UsageError
        For settings of fine-tuning without a parent, and as `resolve_recipe`.
    """
    changes = settings.settings_table(options.settings, "recipe")
    if options.passes is not None:
        changes["passes"] = options.passes
    if parent is not None:
        changes = {"variant": FINE_TUNING, **changes}
        varied = parent.facts.get("recipe") or {}
        requested = settings.settings_table(changes, "augmentation")
        if varied and changes["variant"] == FINE_TUNING:
            changes |= {"augmentation": {**varied, **requested}}
        return resolve_recipe(module, changes)
    recipe = resolve_recipe(module, changes)
    if recipe.variant == FINE_TUNING:
        raise UsageError(
            "`recipe.variant=fine-tuning` without `parent`: there is nothing trained yet to tune",
            hint="`parent=MODEL` begins with a trained model",
            code="USE-TOGETHER",
        )
    fresh = Recipe()
    for name in TUNING_SETTINGS:
        if getattr(recipe, name) != getattr(fresh, name):
            raise UsageError(
                f"`recipe.{name}` without `parent`: there is nothing trained yet to keep",
                hint="`parent=MODEL` begins with a trained model",
                code="USE-TOGETHER",
            )
    return recipe


def _check_tested(plan: Plan) -> str:
    """Compare the subjects that this command tests with those that the parent has learnt from.

    Raises
    ------
    DataError
        If it has learnt from any of them, and their ids are not said to be those of others.
    """
    if plan.parent is None:
        return ""
    tested = sorted({s for task in plan.tasks() for s in task.fold.subjects("test")})
    if not tested:
        return "nobody is tested"
    allowed = plan.options.allow_shared_subject_ids
    return check_unseen(plan.parent.facts, plan.data, tested, allow_shared_subject_ids=allowed)


def _preprocessing(data: EpochSet) -> Any:
    """Tell what was done to the signals, from the manifest of the epochs."""
    keys = ("preset", "preprocessing")
    return {k: data.manifest[k] for k in keys if k in data.manifest}


def _count_parameters(
    config: Mapping[str, Any], recipe: Recipe, name: str, parent: Parent | None
) -> int:
    """Count a model's parameters without making them; what its optimiser refuses shows here.

    So do a parent's weights that do not fit, and parts to freeze that there are not.
    """
    with torch.device("meta"):
        model = build_model(name, config)
    if parent is not None:
        fine_tuning.check_parent(parent, model)
        fine_tuning.frozen_parts(model, recipe)
    try:
        make_optimiser(list(model.parameters()), recipe)
    except ValueError as e:
        raise UsageError(f"recipe: {e}") from e
    return sum(p.numel() for p in model.parameters())
