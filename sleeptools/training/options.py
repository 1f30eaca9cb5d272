"""Options of a training run: their defaults, and how those of a settings file join those given.

`TrainOptions()` is what `sleeptools train EPOCHS RUN` does. This module is free of torch, so that
wrong options are refused before it is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sleeptools import registry, store
from sleeptools.errors import UsageError
from sleeptools.models.recipe.recipe import brought_settings
from sleeptools.runs.folds import LEAK_FREE, SHUFFLED, STRATIFIED, SUBJECTS
from sleeptools.runs.parent import read_parent
from sleeptools.runs.run import RUN_KIND, RUN_VERSION, model_table
from sleeptools.store import settings

BY_SEED, PUBLISHED = "seed", "published"
FOLDS = {SUBJECTS: 20, STRATIFIED: 5, SHUFFLED: 5}
"""Default number of folds; of subjects at most one fold each, of epochs as SlumberNet's paper."""
GAIN_FACTOR = 4.0
"""Of `gain_augmentation`: a channel is taken for up to four times as strong or as weak as it is."""
CONFIG_OPTIONS: Mapping[str, tuple[type, str]] = {
    "split": (str, "a text"),
    "folds": (int, "a whole number"),
    "folds_from": (str, "a text"),
    "folds_seed": (int, "a whole number"),
    "protocols": (list, "a list"),
    "seeds": (list, "a list"),
    "final": (bool, "true or false"),
    "hold_out": (list, "a list"),
}
"""Keys of config.toml that are options of a training run, and their types."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train, and how.

    Parameters
    ----------
    model
        Name of the model.
    split
        What is divided into folds: "subjects", or epochs, which is leaky: "stratified-epochs", or
        "stratified-shuffle", whose tests overlap.
    folds
        Number of folds; None for the published folds where `folds_from` says so, for no folds with
        `final`, and else for the default: 20 or the number of subjects if smaller, and 5 of epochs.
    folds_from
        "seed" or "published".
    folds_seed
        Seed of the folds and of the choice of validation subjects, the same for every training.
    fold
        Train only this fold, from 0; None for all.
    names
        Train only these of what the other options ask for, as "leak-free/seed-0/fold-03" and
        "final"; empty for all.
    protocols
        "leak-free", "best-on-test" or both, in the order to train.
    seeds
        Seeds of the weights, the order of the epochs and the dropout; `final` takes the first.
    final
        Train the final model on all subjects, for a number of passes fixed beforehand.
    hold_out
        Subjects that no training sees, of a fold or `final`; the final model is tested on them.
    passes
        Passes through the training epochs; None for the recipe's.
    device
        "auto", "cpu" or "cuda".
    threads
        CPU threads; None for OMP_NUM_THREADS, SLURM_CPUS_PER_TASK or all, and for a training that
        continues, as many as it began with. Results are the same to the bit only with the same
        number.
    explain
        Write explain.safetensors for the test epochs of every fold.
    watch_test
        Under leak-free, also judge the test fold after every pass, to measure what selecting the
        pass on it would gain. It is logged and audited, and changes no result.
    parent
        Model folder to begin with: fine-tuning. Model and settings are the parent's, `model` is not
        used, and the recipe is "fine-tuning" unless the settings name another.
    allow_shared_subject_ids
        Accept tested subjects with the ids of subjects that trained the parent: they are others.
    continued
        Finished run to go on with: every training begins with the state that the run's ended with,
        so that it ends as one of `passes` passes without a break. All other settings are the run's.
    stack_folds
        Trainings at once, as one model with an axis of tasks; more than there are means all. For
        a GPU; on a CPU nothing is gained. Results differ in their last bits.
    settings
        Tables "model" and "recipe": what differs from the defaults of the model and its recipe.
    """

    model: str = "mmasleepnet"
    split: str = SUBJECTS
    folds: int | None = None
    folds_from: str = BY_SEED
    folds_seed: int = 0
    fold: int | None = None
    names: Collection[str] = ()
    protocols: Sequence[str] = (LEAK_FREE,)
    seeds: Sequence[int] = (0,)
    final: bool = False
    hold_out: Sequence[str] = ()
    passes: int | None = None
    device: str = "auto"
    threads: int | None = None
    explain: bool = True
    watch_test: bool = False
    parent: Path | None = None
    allow_shared_subject_ids: bool = False
    continued: Path | None = None
    stack_folds: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cross_validates(self) -> bool:
        """Whether folds are trained: `final` alone trains none."""
        return not self.final or self.folds is not None or self.folds_from != BY_SEED

    def count_folds(self, subjects: int) -> int:
        """Give the number of folds by seed of so many subjects."""
        if self.folds is not None:
            return self.folds
        if self.split != SUBJECTS:
            return FOLDS[self.split]
        return min(FOLDS[SUBJECTS], max(2, subjects))


def merge_options(
    config: Path | None,
    assignments: Iterable[str] = (),
    *,
    recipe: str | None = None,
    precision: str | None = None,
    modality_dropout: float | None = None,
    gain_augmentation: bool = False,
    freeze: Sequence[str] | None = None,
    **options: Any,
) -> TrainOptions:
    """Join the options of a settings file with those given beside it, which prevail.

    Parameters
    ----------
    config
        TOML file with tables [model] and [recipe], or the config.toml of a run; None for none.
    assignments
        Settings as texts "a.b=c", put over those of the file.
    recipe
        Name of a recipe of the model; it replaces the recipe of a run's config.toml.
    precision
        "fp32", "tf32" or "bf16", part of the recipe.
    modality_dropout
        The setting of this name of the recipe's augmentation.
    gain_augmentation
        Whether its `gain_factor` is `GAIN_FACTOR`, unless the settings have another.
    freeze
        Parts of the parent that stay as they are, part of the recipe.
    **options
        Fields of `TrainOptions`; None where not given.

    Raises
    ------
    UsageError
        For an unknown key or model, or a value of the wrong kind.
    MissingInputError, DataError
        If the file does not exist or is not TOML.
    """
    assignments = list(assignments)
    values = settings.read_settings(config, assignments)
    by_run = "format" in values
    if by_run:
        values["model"] = complete_model(values)
    if recipe is not None:
        # a run's config.toml holds a whole recipe, which would hide the one asked for
        source = settings.read_settings(None, assignments) if by_run else values
        values["recipe"] = settings.settings_table(source, "recipe") | {"variant": recipe}
        if by_run:  # nor may its network hide the one that the recipe brings along
            name = options.get("model") or values["model"].get("name", TrainOptions.model)
            brought = brought_settings(registry.load("models", str(name)), recipe)
            values["model"] |= brought | settings.settings_table(source, "model")
    changes = {"freeze": freeze and list(freeze), "precision": precision}
    changes = {name: value for name, value in changes.items() if value is not None}
    table = settings.settings_table(values, "recipe") | changes
    augmentation = settings.settings_table(table, "augmentation")
    if modality_dropout is not None:
        augmentation["modality_dropout"] = modality_dropout
    if gain_augmentation and augmentation.get("gain_factor", 1) == 1:
        augmentation["gain_factor"] = GAIN_FACTOR
    if augmentation:
        table["augmentation"] = augmentation
    if table:
        values["recipe"] = table
    overrides = {name: value for name, value in options.items() if value is not None}
    from_file = options_from_settings(values)
    before = from_file.get("split", SUBJECTS)
    if "folds_from" in overrides or overrides.get("split", before) != before:
        from_file.pop("folds", None)
    if "fold" in overrides:
        from_file.pop("final", None)
    merged = TrainOptions(**from_file | overrides)
    if merged.parent is not None:
        return _of_parent(merged, merged.parent, {**from_file, **overrides}.get("model"))
    if "parent" in values:
        raise UsageError(
            f"{config}: of a run that was fine-tuned from a model",
            hint="`parent=MODEL` gives it",
            code="USE-TOGETHER",
        )
    if merged.model not in registry.names("models"):
        registry.load("models", merged.model)  # raises, before torch is loaded
    return merged


def complete_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table [model] of a run's config.toml with the settings that there are by now.

    A run from before there was a setting was trained with what is its default.
    """
    table = model_table(values)
    name = table.get("name")
    if name not in registry.names("models"):
        return table
    defaults: BaseModel = registry.load("models", str(name)).Config()
    return defaults.model_dump(mode="json", exclude_none=True) | table


def _of_parent(options: TrainOptions, parent: Path, model: str | None) -> TrainOptions:
    """Name the parent's model, after a comparison with the one that was asked for."""
    name = read_parent(parent).model
    if model not in {None, name}:
        raise UsageError(
            f"`model={model}` with `parent={parent}`: the parent is {name}",
            hint="leave `model` out: it is the parent's",
            code="USE-TOGETHER",
        )
    return replace(options, model=name)


def options_from_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a settings file, or a run's own config.toml, into fields of `TrainOptions`.

    Parameters
    ----------
    values
        Tables [model] and [recipe]; `model` may also be just a name; and the other keys of a
        config.toml. Which epochs the run was trained on (`epochs`), what it began with (`parent`,
        `continued`), and how tasks are submitted ([slurm]) are not options.

    Returns
    -------
    options
        Those of model, settings (tables model and recipe), split, folds, folds_from, folds_seed,
        protocols, seeds, final and hold_out that the file sets.

    Raises
    ------
    UsageError
        For an unknown key, or a value of the wrong kind.
    """
    keys = ("model", "recipe", *CONFIG_OPTIONS, "slurm")
    settings.check_keys(
        values,
        [*keys, "format", "version", "epochs", "leaky", "parent", "continued"],
        section="settings",
    )
    if "format" in values:
        store.check_format(values, Path("config"), RUN_KIND, RUN_VERSION)
    model = model_table(values)
    tables = {
        "model": {k: v for k, v in model.items() if k != "name"},
        "recipe": settings.settings_table(values, "recipe"),
    }
    options: dict[str, Any] = {"settings": {k: table for k, table in tables.items() if table}}
    if "name" in model:
        options["model"] = str(model["name"])
    for key, (kind, expected) in CONFIG_OPTIONS.items():
        if key in values and not isinstance(values[key], kind):
            raise UsageError(f"settings: {key} is {values[key]!r}; expected {expected}")
        if values.get(key):
            options[key] = tuple(values[key]) if kind is list else values[key]
    return options
