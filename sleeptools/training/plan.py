"""What a training command is asked for, checked against the epochs and the run that is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sleeptools import registry, store
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.recipe import Recipe, resolve_recipe
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.runs import model_folder, nights
from sleeptools.runs.folds import (
    FOLD_PROTOCOLS,
    LEAK_FREE,
    LEAKY,
    SUBJECTS,
    Division,
    EpochFold,
    Fold,
    folds_table,
    folds_under,
)
from sleeptools.runs.run import FOLDS_EPOCHS, RUN_KIND, RUN_VERSION, Trained, is_done
from sleeptools.store import settings
from sleeptools.training import splits
from sleeptools.training.optimisation import make_optimiser
from sleeptools.training.options import TrainOptions
from sleeptools.training.task import FINAL, STATE, Task

DEALT = ("split", "folds", "folds_from", "leaky")
"""Keys of config.toml that say who is tested: a run that holds only `final` takes a later one's."""
TRAINED = (STATE, "model.safetensors", "predictions.parquet")
"""Files of which one is there as soon as anything of a run is worth keeping."""
COMMON = ("config.toml", "folds.parquet", FOLDS_EPOCHS, nights.NIGHTS_FILE)
"""Files of a run as a whole."""
WAIT = 30.0  # s for another process to write the files of the run as a whole
LEFT_OUT = {"format", "version", "command", "environment", "files", "recordings", "inputs"}


@dataclass
class Plan:
    """A run as asked for: checked against the epochs, and against what the folder holds.

    Parameters
    ----------
    run
        The folder.
    options
        As given.
    data
        The epochs.
    chosen
        Settings of the model, complete.
    recipe
        Complete.
    folds
        Without validation; empty where only `final` is asked for.
    parameters
        Of the model.
    config
        config.toml: what is there, and what this command adds.
    """

    run: Path
    options: TrainOptions
    data: EpochSet
    chosen: dict[str, Any]
    recipe: Recipe
    folds: Sequence[Division]
    parameters: int
    config: dict[str, Any] = field(default_factory=dict)

    def tasks(self) -> Iterator[Task]:
        """Every training that this command asks for, done or not."""
        for protocol in self.options.protocols if self.folds else ():
            folds = folds_under(protocol, self.folds, self.options.folds_seed)
            for seed in self.options.seeds:
                for fold in folds:
                    if self.options.fold in {None, fold.number}:
                        yield self.task(protocol, seed, fold)
        if self.options.final:
            yield self.task(FINAL, self.options.seeds[0], Fold(0, self.data.subjects, (), ()))

    def task(self, protocol: str, seed: int, fold: Division) -> Task:
        """Make one training."""
        final = protocol == FINAL
        folder = Trained(protocol, seed, fold.number).folder(self.run)
        facts = self.signals() | {
            "preprocessing": _preprocessing(self.data),
            "simulated": self.data.simulated,
            "protocol": protocol,
            "seed": seed,
            "fold": None if final else fold.number,
            "train_subjects": list(fold.subjects("train")),
            "validation_subjects": list(fold.subjects("val")),
        }
        if isinstance(fold, EpochFold):
            facts |= LEAKY
        return Task(
            protocol,
            seed,
            fold,
            self.run / FINAL if final else folder,
            self.options.model,
            self.chosen,
            self.recipe,
            facts,
            self.options.explain,
            self.options.watch_test and protocol == LEAK_FREE,
        )

    def signals(self) -> dict[str, Any]:
        """Describe what a model of this run takes and gives."""
        return {
            "montage": list(self.data.montage),
            "sample_rate": self.data.sample_rate,
            "epoch_seconds": self.data.epoch_seconds,
            "stages": list(self.data.names),
        }

    def written(self) -> bool:
        """Whether nothing is left to write about the run as a whole."""
        path = self.run / "config.toml"
        there = path.exists() and (self.run / "manifest.json").exists()
        return there and store.read_toml(path) == self.config

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the run as a whole, for the moment that its common files take; wait for others.

        Inside, `config` is what the folder holds at that moment and what this command adds.

        Raises
        ------
        OutputError
            If another process holds it for too long, or left other settings there meanwhile.
        """
        with _held(self.run):
            self.config = _merged(self.run, _config(self), self.options)
            yield

    def write(self) -> None:
        """Write what describes the run where it is missing or changes; call it holding."""
        import polars as pl

        path = self.run / "config.toml"
        if self.folds or not self.config["folds"]:
            seed = self.options.folds_seed
            dealt = {p: folds_under(p, self.folds, seed) for p in FOLD_PROTOCOLS}
            for name, rows in (
                ("folds.parquet", pl.DataFrame(folds_table(dealt))),
                (FOLDS_EPOCHS, splits.table(self.data, dealt)),
            ):
                table = self.run / name
                if not len(rows):
                    table.unlink(missing_ok=True)  # of an attempt that came to nothing
                elif not table.exists() or not store.read_table(table).equals(rows):
                    store.write_table(table, rows)
        known, there = nights.nights_table(self.data), nights.read_nights(self.run)
        if there is None or not there.equals(known):
            store.write_table(self.run / nights.NIGHTS_FILE, known)
        if not path.exists() or store.read_toml(path) != self.config:
            store.write_toml(path, self.config)

    def check(self) -> None:
        """Compare with the settings in the folder: another process may have replaced them.

        Raises
        ------
        OutputError
            If they are no longer those of this command.
        """
        _grown(self.run, _config(self), self.options)

    def facts(self) -> dict[str, Any]:
        """Facts of the run for its manifest."""
        changed = self.threads_changed()
        return {
            "model": self.options.model,
            "model_config": self.chosen,
            "parameters": self.parameters,
            **self.signals(),
            "simulated": self.data.simulated,
            "data": {k: v for k, v in self.data.manifest.items() if k not in LEFT_OUT},
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
        found = {}
        for path in self.files():
            if path.name == "config.json":
                threads = model_folder.read_config(path.parent).get("threads", [])
                if len(threads) > 1:
                    found[str(path.parent.relative_to(self.run))] = threads
        return found

    def selection(self) -> dict[str, list[str]]:
        """Tell what the pass is kept by under each protocol, "last" where nothing chooses."""
        found: dict[str, list[str]] = {}
        dealt = self.folds
        if self.config["folds"] and not dealt:  # by an earlier command; this one has only `final`
            how = {name: self.config[name] for name in ("folds", "folds_from", "split")}
            dealt = splits.deal(self.data, replace(self.options, **how))
        for protocol in self.config["protocols"]:
            folds = folds_under(protocol, dealt, self.options.folds_seed)
            found[protocol] = sorted({self.task(protocol, 0, fold).selection for fold in folds})
        return found

    def files(self) -> list[Path]:
        """Files of the trainings that are done, and of the run itself."""
        done = [p for p in self.run.glob("*/seed-*/fold-*") if is_done(p)]
        done += [p for p in self.run.glob(FINAL) if is_done(p, final=True)]
        common = [self.run / name for name in COMMON]
        found = [path for folder in done for path in folder.glob("[!.]*.*")]
        return sorted([*found, *(p for p in common if p.exists())])


def make_plan(epochs: Path, run: Path, options: TrainOptions) -> Plan:
    """Resolve the options, and check everything that can be checked before the first step."""
    module = registry.load("models", options.model)
    settings.check_keys(options.settings, ("model", "recipe"), section="settings")
    given = settings.settings_table(options.settings, "model")
    chosen = settings.resolve(module.Config, given, section="model")
    values = settings.settings_table(options.settings, "recipe")
    if options.passes is not None:
        values["passes"] = options.passes
    recipe = resolve_recipe(module, values)
    settings.check_keys(options.protocols, FOLD_PROTOCOLS, section="`protocol`")
    data = open_epochs(epochs)
    _fits(data, chosen, recipe)
    splits.check(options, chosen)
    folds = splits.deal(data, options)
    kept = chosen.model_dump(mode="json", exclude_none=True)
    plan = Plan(run, options, data, kept, recipe, folds, _parameters(options.model, kept, recipe))
    plan.config = _merged(run, _config(plan), options)
    return plan


def _fits(data: EpochSet, model: Any, recipe: Recipe) -> None:
    """Compare a set of epochs with what a model takes."""
    wanted = {
        "channels": ("channels", len(data.montage)),
        "sample_rate": ("a sample rate in Hz of", data.sample_rate),
        "epoch_seconds": ("seconds an epoch", data.epoch_seconds),
        "stages": ("stages", len(data.names)),
    }
    wrong = [key for key, (_, found) in wanted.items() if getattr(model, key) != found]
    if wrong:
        what, found = wanted[wrong[0]]
        fields = type(model).model_fields
        if all(key in fields for key in wrong):
            mend = " ".join(f"`model.{key}={wanted[key][1]:g}`" for key in wrong)
            mend = f"{mend} makes it fit"
        else:
            mend = f"`model.NAME=VALUE` changes {', '.join(fields)}"
        raise DataError(
            f"{data.folder}: the model expects {what} {getattr(model, wrong[0]):g}, the epochs "
            f"have {found:g}",
            hint=f"montage {', '.join(data.montage)}; stages {' '.join(data.names)}; {mend}",
        )
    if recipe.class_weights and len(recipe.class_weights) != len(data.names):
        raise DataError(
            f"{data.folder}: {len(data.names)} stages, but recipe.class_weights has "
            f"{len(recipe.class_weights)} values",
            hint="`recipe.class_weights=[]` weighs all stages alike",
        )


def _config(plan: Plan) -> dict[str, Any]:
    """Content of config.toml."""
    options, files = plan.options, plan.data.manifest.get("files", {})
    listing = json.dumps(files, sort_keys=True).encode()
    return {
        "format": RUN_KIND,
        "version": RUN_VERSION,
        "split": options.split,
        "folds": len(plan.folds),
        "folds_from": options.folds_from,
        "folds_seed": options.folds_seed,
        "protocols": list(options.protocols) if plan.folds else [],
        "seeds": list(options.seeds),
        "final": options.final,
        "model": {"name": options.model, **plan.chosen},
        "recipe": plan.recipe.model_dump(mode="json", exclude_none=True),
        "epochs": {
            "sha256": hashlib.sha256(listing).hexdigest(),
            "recordings": len(plan.data.files),
            "count": len(plan.data),
        },
        **({"leaky": True} if plan.folds and options.split != SUBJECTS else {}),
    }


def _merged(run: Path, new: dict[str, Any], options: TrainOptions) -> dict[str, Any]:
    """Give the settings of the run that is there and what this command adds.

    An attempt that left nothing worth keeping is forgotten, whatever its settings were.

    Raises
    ------
    OutputError
        If the two differ in anything that changes a result.
    """
    if not (run / "config.toml").exists():
        return new
    try:
        return _grown(run, new, options)
    except OutputError:
        if any(any(run.rglob(name)) for name in TRAINED) or _busy(run):
            raise
        return new


def _grown(run: Path, new: dict[str, Any], options: TrainOptions) -> dict[str, Any]:
    """Compare with the run that is there, and add to it; raises as `_merged`."""
    path = run / "config.toml"
    old = {"split": SUBJECTS} | store.read_toml(path)
    store.check_format(old, path, RUN_KIND, RUN_VERSION)
    old["recipe"] = {"precision": "fp32"} | settings.settings_table(
        old, "recipe"
    )  # older runs lack it
    merged = dict(new)
    if not new["folds"] or not old.get("folds"):  # one of the two has only `final`
        source = old if old.get("folds") else new
        merged |= {key: source[key] for key in DEALT if key in source}
    for key in ("protocols", "seeds"):
        merged[key] = list(dict.fromkeys([*old.get(key, []), *new[key]]))
    merged["final"] = bool(old.get("final")) or options.final
    growing = {"protocols": merged["protocols"], "seeds": merged["seeds"], "final": merged["final"]}
    if not old.get("folds"):
        growing |= {key: merged[key] for key in DEALT if key in merged}
    if lines := settings.difference({**old, **growing}, merged):
        raise OutputError(
            f"{run}: this run exists with other settings: {'; '.join(lines)}",
            hint="give another run folder, or the same settings to continue it",
        )
    return merged


def _busy(run: Path) -> bool:
    """Whether a living process trains in this run; what dead ones left is cleared away."""
    for path in run.glob("*/**/.lock"):
        try:
            with store.lock(path.parent):
                pass
        except OutputError:
            return True
    return False


@contextlib.contextmanager
def _held(run: Path) -> Iterator[None]:
    """Lock a run, and wait a little where a living process has it."""
    until = time.monotonic() + WAIT
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(store.lock(run))
                break
            except OutputError as e:
                if e.__cause__ is not None or time.monotonic() > until:  # cannot be written at all
                    raise
            time.sleep(0.05)
        yield


def _preprocessing(data: EpochSet) -> Any:
    """Tell what was done to the signals, from the manifest of the epochs."""
    known = ("preset", "preprocessing")
    return {k: data.manifest[k] for k in known if k in data.manifest}


def _parameters(name: str, chosen: Mapping[str, Any], recipe: Recipe) -> int:
    """Count a model's parameters without making them; what its optimiser refuses shows here."""
    with torch.device("meta"):
        model = build_model(name, chosen)
    try:
        make_optimiser(list(model.parameters()), recipe)
    except ValueError as e:
        raise UsageError(f"recipe: {e}") from e
    return sum(p.numel() for p in model.parameters())
