"""The plan of a training command, checked against the epochs and the run before the first step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sleeptools import registry, store
from sleeptools.errors import DataError, UsageError
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.recipe import Recipe, brought_settings, resolve_recipe
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.runs import model_folder, writing
from sleeptools.runs.folds import (
    FOLD_PROTOCOLS,
    LEAK_FREE,
    EpochFold,
    Fold,
    Split,
    protocol_folds,
)
from sleeptools.runs.run import CONFIG_FILE, TrainingId
from sleeptools.store import settings
from sleeptools.training import run_config, splits
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
    config: dict[str, Any] = field(default_factory=dict)

    def tasks(self) -> Iterator[Task]:
        """Every training of this command, done or not."""
        for protocol in self.options.protocols if self.folds else ():
            folds = protocol_folds(protocol, self.folds, self.options.folds_seed)
            for seed in self.options.seeds:
                for fold in folds:
                    if self.options.fold in {None, fold.number}:
                        yield self.task(protocol, seed, fold)
        if self.options.final:
            yield self.task(FINAL, self.options.seeds[0], Fold(0, self.data.subjects, (), ()))

    def task(self, protocol: str, seed: int, fold: Split) -> Task:
        """Make one training."""
        final = protocol == FINAL
        facts = writing.signal_facts(self.data) | {
            "preprocessing": _preprocessing(self.data),
            "simulated": self.data.simulated,
            "simulators": self.data.simulators,
            "randomised": self.data.randomised,
            "protocol": protocol,
            "seed": seed,
            "fold": None if final else fold.number,
            "train_subjects": list(fold.subjects("train")),
            "validation_subjects": list(fold.subjects("val")),
        }
        if isinstance(fold, EpochFold):
            facts |= {"split": self.options.split, "leaky": True}
        if varied := self.recipe.augmentation.montage:
            facts |= {"recipe": varied}
        folder = TrainingId(protocol, seed, fold.number).folder(self.run)
        return Task(
            protocol=protocol,
            seed=seed,
            fold=fold,
            folder=self.run / FINAL if final else folder,
            model=self.options.model,
            config=self.model_config,
            recipe=self.recipe,
            facts=facts,
            explain=self.options.explain,
            watch_test=self.options.watch_test and protocol == LEAK_FREE,
        )

    def request(self) -> dict[str, Any]:
        """Content of config.toml as this command alone would write it."""
        return run_config.request_config(
            self.options, self.data, self.model_config, self.recipe, self.folds
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
            **{k: self.config[k] for k in ("split", "leaky") if self.config.get("leaky")},
            "selection": self.selection(),
            "recipe": self.recipe.model_dump(mode="json"),
            **({"threads_changed": changed} if changed else {}),
        }

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
    module = registry.load("models", options.model)
    settings.check_keys(options.settings, ("model", "recipe"), section="settings")
    changes = settings.settings_table(options.settings, "recipe")
    if options.passes is not None:
        changes["passes"] = options.passes
    recipe = resolve_recipe(module, changes)
    given = settings.settings_table(options.settings, "model")
    model = settings.resolve(
        module.Config, brought_settings(module, recipe.variant) | given, section="model"
    )
    settings.check_keys(options.protocols, FOLD_PROTOCOLS, section="`protocol`")
    data = open_epochs(epochs)
    _check_fit(data, model, recipe)
    splits.check_split(options, model)
    folds = splits.choose_folds(data, options)
    model_config = model.model_dump(mode="json", exclude_none=True)
    parameters = _count_parameters(options.model, model_config, recipe)
    writing.refuse_foreign(run)
    plan = Plan(run, options, data, model_config, recipe, folds, parameters)
    plan.config = run_config.merge_config(run, plan.request())
    return plan


def _check_fit(data: EpochSet, model: Any, recipe: Recipe) -> None:
    """Compare a set of epochs with the input and output of a model.

    Raises
    ------
    DataError
        With what differs first, expected and found.
    """
    epochs = {
        "channels": ("channels", len(data.montage)),
        "sample_rate": ("a sample rate in Hz of", data.sample_rate),
        "epoch_seconds": ("seconds an epoch", data.epoch_seconds),
        "stages": ("stages", len(data.names)),
    }
    wrong = [key for key, (_, value) in epochs.items() if getattr(model, key) != value]
    if wrong:
        quantity, value = epochs[wrong[0]]
        fields = type(model).model_fields
        if all(key in fields for key in wrong):
            mend = " ".join(f"`model.{key}={epochs[key][1]:g}`" for key in wrong)
            mend = f"{mend} makes it fit"
        else:
            mend = f"`model.NAME=VALUE` changes {', '.join(fields)}"
        raise DataError(
            f"{data.folder}: the model expects {quantity} {getattr(model, wrong[0]):g}, the epochs "
            f"have {value:g}",
            hint=f"montage {', '.join(data.montage)}; stages {' '.join(data.names)}; {mend}",
            code="MODEL-FIT",
        )
    if recipe.class_weights and len(recipe.class_weights) != len(data.names):
        raise DataError(
            f"{data.folder}: {len(data.names)} stages, but recipe.class_weights has "
            f"{len(recipe.class_weights)} values",
            hint="`recipe.class_weights=[]` weighs all stages alike",
            code="MODEL-FIT",
        )
    if recipe.augmentation.modality_dropout and len({*data.modalities}) == 1:
        raise DataError(
            f"{data.folder}: all channels are one modality, {data.modalities[0]}: none can be left "
            "out",
            hint="`recipe.augmentation.modality_dropout=0` leaves none out",
            code="MODEL-FIT",
        )


def _preprocessing(data: EpochSet) -> Any:
    """Tell what was done to the signals, from the manifest of the epochs."""
    keys = ("preset", "preprocessing")
    return {k: data.manifest[k] for k in keys if k in data.manifest}


def _count_parameters(name: str, config: Mapping[str, Any], recipe: Recipe) -> int:
    """Count a model's parameters without making them; what its optimiser refuses shows here."""
    with torch.device("meta"):
        model = build_model(name, config)
    try:
        make_optimiser(list(model.parameters()), recipe)
    except ValueError as e:
        raise UsageError(f"recipe: {e}") from e
    return sum(p.numel() for p in model.parameters())
