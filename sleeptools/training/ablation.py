"""Ablations: variants of a model that a publication compares, trained alike, a run each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sleeptools import registry
from sleeptools.errors import UsageError
from sleeptools.store import settings
from sleeptools.training.options import TrainOptions


def variants(run: Path, options: TrainOptions, names: Sequence[str]) -> dict[Path, TrainOptions]:
    """Give the run folder and the options of each variant of a model.

    Parameters
    ----------
    run
        Folder of the comparison; every variant has its run in it, under the variant's name.
    options
        Options that all have in common: folds, seeds, recipe and other settings of the model.
    names
        Variants, by their names in the model's `ABLATIONS`.

    Raises
    ------
    UsageError
        For a model without ablations, an unknown name, or a setting that the ablations change.
    """
    ablations = _ablations(options.model)
    if not ablations:
        models = ", ".join(name for name in registry.names("models") if _ablations(name))
        raise UsageError(
            f"`ablation`: {options.model} has no ablations",
            hint=f"have some: {models}",
            code="USE-NAME",
        )
    settings.check_keys(names, ablations, section="`ablation`")
    model = settings.settings_table(options.settings, "model")
    if conflicts := sorted(set(model) & {key for changes in ablations.values() for key in changes}):
        raise UsageError(
            f"`ablation` with `model.{conflicts[0]}`: the ablations of {options.model} set "
            f"{'that' if len(conflicts) == 1 else ', '.join(conflicts)}",
            hint="leave it out, also in the file of `config`, or train without `ablation`",
            code="USE-TOGETHER",
        )
    return {
        run / name: replace(
            options, settings={**options.settings, "model": {**model, **ablations[name]}}
        )
        for name in names
    }


def _ablations(model: str) -> Mapping[str, Mapping[str, Any]]:
    ablations: Mapping[str, Mapping[str, Any]] = getattr(
        registry.load("models", model), "ABLATIONS", {}
    )
    return ablations
