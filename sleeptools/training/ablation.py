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
    """Tell what to train for a comparison: the run folder of each variant, and its options.

    Parameters
    ----------
    run
        Folder of the comparison; every variant has its run in it, under the variant's name.
    options
        What all have in common: folds, seeds, recipe and other settings of the model.
    names
        Of the model's `ABLATIONS`.

    Raises
    ------
    UsageError
        For a model without ablations, an unknown name, or a setting that the ablations change.
    """
    known = _known(options.model)
    if not known:
        there = ", ".join(name for name in registry.names("models") if _known(name))
        raise UsageError(
            f"`ablation`: {options.model} has no ablations", hint=f"have some: {there}"
        )
    settings.check_keys(names, known, section="`ablation`")
    given = settings.settings_table(options.settings, "model")
    if taken := sorted(set(given) & {key for some in known.values() for key in some}):
        raise UsageError(
            f"`ablation` with `model.{taken[0]}`: the ablations of {options.model} set "
            f"{'that' if len(taken) == 1 else ', '.join(taken)}",
            hint="leave it out, also in the file of `config`, or train without `ablation`",
        )
    return {
        run / name: replace(
            options, settings={**options.settings, "model": {**given, **known[name]}}
        )
        for name in names
    }


def _known(model: str) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = getattr(
        registry.load("models", model), "ABLATIONS", {}
    )
    return found
