"""Whether epochs fit a model, or a parent: channels, sample rate, epoch length and stages.

A parent's channels may bear other labels, as long as their modalities are the same in the same
order; its rate and epoch length may change where no weight depends on them.
"""

from __future__ import annotations

from typing import Any

import torch

from sleeptools.errors import DataError, SleeptoolsError
from sleeptools.models.folder import build_model, weights_mismatch
from sleeptools.models.layers.config import HumanEpochs
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.recording.montage import modality
from sleeptools.recording.stages import is_of_mice
from sleeptools.runs import model_folder
from sleeptools.runs.parent import Parent

QUANTITIES = {
    "channels": "channels",
    "sample_rate": "a sample rate in Hz of",
    "epoch_seconds": "seconds an epoch",
    "stages": "stages",
}
"""What of a model's settings epochs must have, in words."""


def _values(data: EpochSet) -> dict[str, float]:
    return {
        "channels": len(data.montage),
        "sample_rate": data.sample_rate,
        "epoch_seconds": data.epoch_seconds,
        "stages": len(data.names),
    }


def check_fit(data: EpochSet, model: Any, recipe: Recipe) -> None:
    """Compare a set of epochs with the input and output of a model.

    Raises
    ------
    DataError
        With what differs first, expected and found.
    """
    values = _values(data)
    wrong = [key for key, value in values.items() if getattr(model, key) != value]
    if wrong and is_of_mice(data.names) and isinstance(model, HumanEpochs):
        raise DataError(
            f"{data.folder}: epochs of mice ({', '.join(data.names)}), and the model is for people",
            hint="`model=mouse-cnn` is for mice; 'sleeptools list models' has the others",
            code="MODEL-FIT",
        )
    if wrong:
        quantity, value = QUANTITIES[wrong[0]], values[wrong[0]]
        fields = type(model).model_fields
        if all(key in fields for key in wrong):
            mend = " ".join(f"`model.{key}={values[key]:g}`" for key in wrong)
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
    if unknown := [name for name in recipe.augmentation.always if name not in data.modalities]:
        raise DataError(
            f"{data.folder}: no channel is {unknown[0]}, which `recipe.augmentation.always` names; "
            f"there are: {', '.join(dict.fromkeys(data.modalities))}",
            code="MODEL-FIT",
        )
    if recipe.augmentation.modality_dropout and len({*data.modalities}) == 1:
        raise DataError(
            f"{data.folder}: all channels are one modality, {data.modalities[0]}: none can be left "
            "out",
            hint="`recipe.augmentation.modality_dropout=0` leaves none out",
            code="MODEL-FIT",
        )


def check_parent_fit(data: EpochSet, model: Any, parent: Parent) -> None:
    """Compare a set of epochs with a parent.

    Raises
    ------
    DataError
        If stages or modalities differ, or a quantity does on which the parent's weights depend; the
        message has the weight and its shapes.
    """
    expected, names = list(parent.facts["stages"]), list(data.names)
    if names != expected:
        raise DataError(
            f"{data.folder}: stages {' '.join(names)}; the parent {parent.folder} was trained for "
            f"{' '.join(expected)}",
            hint="preprocess with a preset of the parent's stages, or train without `parent`",
            code="MODEL-FIT",
        )
    kinds = [[modality(label) for label in m] for m in (parent.facts["montage"], data.montage)]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"{data.folder}: channels {', '.join(data.montage)} ({' '.join(kinds[1])}); the parent "
            f"{parent.folder} takes {', '.join(parent.facts['montage'])} ({' '.join(kinds[0])})",
            hint="preprocess with a montage of the same modalities in this order; other labels of "
            "them are fine",
            code="MODEL-FIT",
        )
    values = _values(data)
    wrong = {k: v for k, v in values.items() if getattr(model, k) != v}
    if wrong and (shape := _shape_of(model, parent, wrong)):
        raise DataError(
            f"{data.folder}: {_words(wrong)}; the parent {parent.folder} has "
            f"{_words({k: getattr(model, k) for k in wrong})}: {shape}",
            hint="preprocess with a preset of the parent's rate and epochs, or train without "
            "`parent`",
            code="MODEL-FIT",
        )


def _words(quantities: dict[str, Any]) -> str:
    return ", ".join(f"{QUANTITIES[key]} {value:g}" for key, value in quantities.items())


def _shape_of(model: Any, parent: Parent, wrong: dict[str, float]) -> str:
    """Say which weight of a parent does not fit other quantities; empty if all fit."""
    fixed = [key for key in wrong if key not in type(model).model_fields]
    if fixed:
        return f"{parent.model} has no setting for {', '.join(fixed)}"
    try:
        with torch.device("meta"):
            candidate = build_model(parent.model, model.model_dump() | wrong)
    except SleeptoolsError as e:
        return str(e)
    return weights_mismatch(model_folder.read_weights(parent.folder), candidate)
