"""A model without some modalities of its montage: zeros stand in for their channels.

That is what modality dropout has trained for: after all preprocessing steps the channels are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleeptools.errors import DataError, UsageError
from sleeptools.native import Floats
from sleeptools.recording.montage import modality


def dispensable(facts: Mapping[str, Any]) -> set[str]:
    """Modalities that a model was trained to do without, by modality dropout."""
    recipe = facts.get("recipe")
    if not isinstance(recipe, Mapping) or not recipe.get("modality_dropout"):
        return set()
    return {modality(label) for label in facts["montage"]}.difference(recipe.get("always", ()))


def reduced_facts(facts: Mapping[str, Any], without: Sequence[str], folder: Path) -> dict[str, Any]:
    """Leave modalities out of a model's facts: of its montage, and of its preset.

    Parameters
    ----------
    facts
        Contents of a model folder's config.json.
    without
        Modalities, for example "emg", in any case.
    folder
        The model folder, for messages.

    Returns
    -------
    facts
        With `without`, the modalities that are left out, sorted.

    Raises
    ------
    DataError
        If the model was not trained with modality dropout.
    UsageError
        If it has no such modality, or no other.
    """
    absent = sorted({name.casefold() for name in without})
    present = sorted({modality(label) for label in facts["montage"]})
    if unknown := [name for name in absent if name not in present]:
        raise UsageError(
            f"{folder}: has no modality {unknown[0]!r} to be left out; there are: "
            f"{', '.join(present)}",
            code="USE-NAME",
        )
    if absent == present:
        raise UsageError(f"without {', '.join(absent)} no channel is left", code="USE-VALUE")
    if needed := [name for name in absent if name not in dispensable(facts)]:
        raise DataError(
            f"{folder}: was trained without modality dropout of {', '.join(needed)}, so it cannot "
            "score without",
            hint="train a model with `modality_dropout`, or give recordings of the whole montage",
            code="MODEL-WITHOUT",
        )
    kept = [label for label in facts["montage"] if modality(label) not in absent]
    preset = facts["preprocessing"].get("preset")
    processing = dict(facts["preprocessing"])
    if isinstance(preset, Mapping) and "montage" in preset:
        processing["preset"] = _reduced_preset(preset, absent)
    return {**facts, "montage": kept, "preprocessing": processing, "without": absent}


def _reduced_preset(preset: Mapping[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    """Leave modalities out of a preset's montage, and their channels out of its steps."""

    def remains(channel: str | Mapping[str, Any]) -> bool:
        label = channel if isinstance(channel, str) else channel["name"]
        return modality(label) not in absent

    steps = []
    for step in preset.get("processing", ()):
        of = [name for name in step.get("of", ()) if name in absent or remains(name)]
        if of or not step.get("of"):
            steps.append({**step, "of": of})
    montage = [channel for channel in preset["montage"] if remains(channel)]
    return {**preset, "montage": montage, "processing": steps}


def filled(
    network: Callable[[Floats], Floats], labels: Sequence[str], without: Sequence[str]
) -> Callable[[Floats], Floats]:
    """Give a network that takes the channels which are there, and sees zeros for the others.

    Parameters
    ----------
    network
        Takes (..., channels, samples).
    labels
        All channels of its montage.
    without
        Modalities that are not there.
    """
    present = [i for i, label in enumerate(labels) if modality(label) not in without]

    def run(x: Floats) -> Floats:
        whole = np.zeros((*x.shape[:-2], len(labels), x.shape[-1]), np.float32)
        whole[..., present, :] = x
        return network(whole)

    return run
