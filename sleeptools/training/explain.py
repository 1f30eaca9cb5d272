"""Contents of explain.safetensors: features and modality weights of the test epochs of a fold.

Features before and after attention fusion, on their principal components, of epochs drawn evenly
over the recordings; and for models that weigh modalities, the weights of all test epochs. Format:
docs/folders.md.
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
        (epochs,) indices within the whole set.
    predicted
        (epochs,) int8 stage that the model gives each.
    """

    numbers: Numbers
    predicted: npt.NDArray[np.int8]


def compute_explanations(
    model: nn.Module, source: EpochSource, tested: ScoredEpochs, seeds: list[int], stop: Stop
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Compute the arrays and the facts of the file.

    Parameters
    ----------
    model
        The trained model.
    source
        The epochs.
    tested
        The test epochs and their predicted stages.
    seeds
        Seeds of the draw of epochs.
    stop
        Checked between two batches.

    Raises
    ------
    Stopped
        If a stop signal has come.
    """
    owner, epoch = source.epochs.locate(tested.numbers)
    files, recording = np.unique(owner, return_inverse=True)
    stages = source.epochs.stages[tested.numbers].astype(np.int8)
    drawn = draw_epochs(owner, np.random.default_rng(seeds))
    explained = _explained(model, source, tested.numbers, drawn, stop)
    facts: dict[str, Any] = {"format": KIND, "version": VERSION}
    facts["recordings"] = [source.epochs.files[i].recording for i in files]
    arrays: dict[str, Array] = {
        "recording": recording[drawn].astype(np.int32),
        "epoch": epoch[drawn].astype(np.int32),
        "stage": stages[drawn],
        "predicted": tested.predicted[drawn],
    }
    for name, description in (("before", explained.before_is), ("after", explained.after_is)):
        features = getattr(explained, name)
        if features is not None and bool(features.isfinite().all()):
            arrays |= _pictured(name, features)
            facts[name] = description
    if explained.weights is not None:
        facts["modalities"] = list(explained.modalities)
        arrays |= {
            "modality weights": explained.weights.numpy(),
            "modality recording": recording.astype(np.int32),
            "modality epoch": epoch.astype(np.int32),
            "modality stage": stages,
        }
    return arrays, facts


def draw_epochs(owner: Numbers, rng: np.random.Generator) -> Mask:
    """Draw epochs evenly over the recordings, all of a recording that has too few.

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


def _pictured(name: str, features: Tensor) -> Mapping[str, Array]:
    scores = principal_components(features, KEPT)
    return {
        name: scores.numpy(),
        f"{name} pca": nn.functional.pad(scores[:, :2], (0, max(0, 2 - scores.shape[1]))).numpy(),
    }


def principal_components(x: Tensor, count: int) -> Tensor:
    """Project on the first principal components, whichever side of the table is shorter.

    Parameters
    ----------
    x
        (n, features).
    count
        Largest number of components.

    Returns
    -------
    scores
        (n, min(count, n, features)) float32, the largest of each in size positive.
    """
    x = x.double() - x.double().mean(0)
    wide = x.shape[0] < x.shape[1]
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)  # ascending
    vectors = vectors[:, -min(count, *x.shape) :].flip(1)
    values = values[-vectors.shape[1] :].flip(0).clamp_min(0)
    scores = vectors * values.sqrt() if wide else x @ vectors
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    signed: Tensor = scores * torch.where(largest < 0, -1.0, 1.0)
    return signed.float()


def _explained(
    model: nn.Module, source: EpochSource, numbers: Numbers, drawn: Mask, stop: Stop
) -> Explained:
    """Features of the drawn epochs and weights of all of them, in the order of `numbers`."""
    arranged = windows(model, source.epochs, numbers)
    explained = list(_explain_batches(model, source, arranged, numbers[drawn], stop))

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(batch, name) for batch in explained]
        return None if tensors[0] is None else torch.cat(tensors)

    after = joined("after")
    assert after is not None
    return explained[0]._replace(after=after, before=joined("before"), weights=joined("weights"))


def _explain_batches(
    model: nn.Module, source: EpochSource, arranged: Windows, drawn: Numbers, stop: Stop
) -> Iterator[Explained]:
    """Explain batch after batch; one without a drawn epoch is needed only for the weights."""
    has_drawn = np.isin(arranged.targets, drawn).reshape(len(arranged), -1).max(1)
    weighs = True  # until the first batch shows
    for rows in batches(arranged):
        if not weighs and not has_drawn[rows].any():
            continue
        x, _ = source.take(arranged.pick(rows))
        explained = explain(model, x)
        weighs = explained.weights is not None
        targets = arranged.targets[rows].ravel()
        scored = torch.from_numpy(targets != NONE)
        is_drawn = torch.from_numpy(np.isin(targets, drawn))
        yield explained._replace(
            after=_rows(explained.after, is_drawn),
            before=None if explained.before is None else _rows(explained.before, is_drawn),
            weights=None if explained.weights is None else _rows(explained.weights, scored),
        )
        stop.check()


def _rows(values: Tensor, mask: Tensor) -> Tensor:
    return values.flatten(0, -2).float().cpu()[mask]
