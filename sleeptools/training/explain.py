"""explain.safetensors of a fold: its test epochs as the model sees them, ready to be drawn.

Features before and after attention fusion, on their principal components and embedded on the plane,
of epochs drawn evenly over the recordings; and for models that weigh modalities, the weights of all
test epochs. Format: docs/folders.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sleeptools.models.layers.explain import Explained, explain
from sleeptools.preprocessing.sequences import NONE, Windows
from sleeptools.store import Array
from sleeptools.training import tsne
from sleeptools.training.batches import EpochSource, Numbers, batches, windows
from sleeptools.training.stop import Stop

KIND = "sleeptools-explain"
VERSION = 1
DRAWN = 2000  # epochs whose features are kept
KEPT = 50  # principal components
Mask = npt.NDArray[np.bool_]


class ScoredEpochs(NamedTuple):
    """The test epochs of a fold.

    Parameters
    ----------
    numbers
        Of the epochs in the whole set.
    predicted
        (epochs,) int8.
    """

    numbers: Numbers
    predicted: npt.NDArray[np.int8]


def compute_explanations(
    model: nn.Module, source: EpochSource, tested: ScoredEpochs, seeds: list[int], stop: Stop
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Compute what goes into the file: its arrays and its facts.

    Parameters
    ----------
    model
        Trained.
    source
        The epochs.
    tested
        Which of them, and what the model made of them.
    seeds
        Of the draw and of the embedding.
    stop
        Checked between two batches.

    Raises
    ------
    Stopped
        If a stop signal has come.
    """
    owner, place = source.epochs.locate(tested.numbers)
    there, recording = np.unique(owner, return_inverse=True)
    stages = source.epochs.stages[tested.numbers].astype(np.int8)
    drawn = draw(owner, np.random.default_rng(seeds))
    found = _explained(model, source, tested.numbers, drawn, stop)
    facts: dict[str, Any] = {"format": KIND, "version": VERSION}
    facts["recordings"] = [source.epochs.files[i].recording for i in there]
    arrays: dict[str, Array] = {
        "recording": recording[drawn].astype(np.int32),
        "epoch": place[drawn].astype(np.int32),
        "stage": stages[drawn],
        "predicted": tested.predicted[drawn],
    }
    for name, said in (("before", found.before_is), ("after", found.after_is)):
        features = getattr(found, name)
        if features is not None and bool(features.isfinite().all()):
            arrays |= _pictured(name, features, seeds[0])
            facts[name] = said
    if found.weights is not None:
        facts["modalities"] = list(found.modalities)
        arrays |= {
            "modality weights": found.weights.numpy(),
            "modality recording": recording.astype(np.int32),
            "modality epoch": place.astype(np.int32),
            "modality stage": stages,
        }
    return arrays, facts


def draw(owner: Numbers, rng: np.random.Generator) -> Mask:
    """Choose epochs, of every recording as many as there are, or as of the others.

    Parameters
    ----------
    owner
        (epochs,) number of the recording of each.
    """
    order = rng.permutation(len(owner))
    grouped = order[np.argsort(owner[order], kind="stable")]
    _, first, count = np.unique(owner[grouped], return_index=True, return_counts=True)
    turn = np.empty(len(owner), np.int64)  # within its recording
    turn[grouped] = np.arange(len(owner)) - np.repeat(first, count)
    chosen = order[np.argsort(turn[order], kind="stable")][:DRAWN]
    mask = np.zeros(len(owner), np.bool_)
    mask[chosen] = True
    return mask


def _pictured(name: str, features: Tensor, seed: int) -> Mapping[str, Array]:
    scores = tsne.components(features, KEPT)
    return {
        name: scores.numpy(),
        f"{name} pca": tsne.plane(scores).numpy(),
        f"{name} t-sne": tsne.tsne(scores, seed).numpy(),
    }


def _explained(
    model: nn.Module, source: EpochSource, numbers: Numbers, drawn: Mask, stop: Stop
) -> Explained:
    """Features of the drawn epochs and weights of all of them, in the order of `numbers`."""
    whole = windows(model, source.epochs, numbers)
    parts = list(_parts(model, source, whole, numbers[drawn], stop))

    def joined(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    after = joined("after")
    assert after is not None
    return parts[0]._replace(after=after, before=joined("before"), weights=joined("weights"))


def _parts(
    model: nn.Module, source: EpochSource, whole: Windows, drawn: Numbers, stop: Stop
) -> Iterator[Explained]:
    """Give what is kept of every batch; one without a drawn epoch counts only for the weights."""
    wanted = np.isin(whole.targets, drawn).reshape(len(whole), -1).max(1)
    weighs = True  # until the first batch shows
    for some in batches(whole):
        if not weighs and not wanted[some].any():
            continue
        x, _ = source.take(whole.pick(some))
        found = explain(model, x)
        weighs = found.weights is not None
        targets = whole.targets[some].ravel()
        scored = torch.from_numpy(targets != NONE)
        kept = torch.from_numpy(np.isin(targets, drawn))
        yield found._replace(
            after=_rows(found.after, kept),
            before=None if found.before is None else _rows(found.before, kept),
            weights=None if found.weights is None else _rows(found.weights, scored),
        )
        stop.check()


def _rows(values: Tensor, kept: Tensor) -> Tensor:
    return values.flatten(0, -2).float().cpu()[kept]
