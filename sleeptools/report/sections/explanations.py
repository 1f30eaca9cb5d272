"""Section on what a model makes of the epochs: embeddings, and the weights of the modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.report.blocks import Block, Figure, Table
from sleeptools.report.page import Page
from sleeptools.report.plots.explanations import plot_embedding, plot_modality_weights
from sleeptools.report.tsne import tsne
from sleeptools.runs.folds import NAMED
from sleeptools.runs.run import EXPLAIN, Run
from sleeptools.store import Tensors

MOST_DOTS: Final = 500
"""Largest number of epochs drawn of an embedding."""
METHODS: Final = {"t-sne": "t-SNE", "pca": "the first two principal components"}


def explanations_section(page: Page) -> Iterator[Block]:
    """Draw the embedding before and after the fusion, and the weights of the modalities."""
    explanations = read_explanations(page.run, page.protocol, page.seed)
    if not explanations:
        return
    fold, first = explanations[0]
    yield from _embedding(page, fold, first)
    yield from _modality_weights(page, [tensors for _, tensors in explanations])


def read_explanations(run: Run, protocol: str, seed: int) -> list[tuple[int, Tensors]]:
    """Read what `train` wrote about the model of every fold: its number, and the arrays."""
    explanations = []
    for training in run.done:
        path = training.folder(run.folder) / EXPLAIN
        if (training.protocol, training.seed) == (protocol, seed) and path.exists():
            tensors = store.read_tensors(run.check_listed(path), "sleeptools-explain")
            explanations.append((training.fold, tensors))
    return explanations


class Embedding(NamedTuple):
    """Epochs on the plane.

    Parameters
    ----------
    panels
        (epochs, 2) positions, "before" and "after" the fusion, as far as the model has them.
    stage
        (epochs,) their scored stages.
    total
        Epochs that they were drawn from.
    """

    panels: dict[str, npt.NDArray[np.float32]]
    stage: npt.NDArray[np.int8]
    total: int


def embed_epochs(tensors: Tensors, method: str) -> Embedding:
    """Place epochs of a fold on the plane, at most `MOST_DOTS`.

    Parameters
    ----------
    tensors
        Contents of explain.safetensors.
    method
        A key of `METHODS`. t-SNE is computed here, of the epochs that are drawn: a run has many
        folds, and a report shows one.
    """
    stage = np.asarray(tensors["stage"])
    index = np.unique(np.linspace(0, len(stage) - 1, min(MOST_DOTS, len(stage))).astype(int))
    panels = {}
    for side in ("before", "after"):
        if f"{side} {method}" in tensors.arrays:  # runs of before have t-SNE, too
            panels[side] = np.asarray(tensors[f"{side} {method}"])[index]
        elif method == "t-sne" and side in tensors.arrays:
            panels[side] = tsne(np.asarray(tensors[side], np.float32)[index], seed=0)
    return Embedding(panels, stage[index], len(stage))


def _embedding(page: Page, fold: int, tensors: Tensors) -> Iterator[Block]:
    for method, name in METHODS.items():
        embedding = embed_epochs(tensors, method)
        if not embedding.panels:
            continue
        shown, total = len(embedding.stage), embedding.total
        count = f"{shown:,} of {total:,} test" if shown < total else "Test"
        caption = (
            f"{count} epochs of fold {fold}, {NAMED[page.protocol]}, by {name}. Colours are the "
            "scored stages. Each fold has a model and thus an embedding of its own."
        )
        caption += " In t-SNE, neither distances between groups nor axes mean anything." * (
            method == "t-sne"
        )
        drawn = {str(tensors.facts.get(s) or s): xy for s, xy in embedding.panels.items()}
        plot = plot_embedding(drawn, embedding.stage, page.run.stages)
        yield Figure(f"embedding-{method}", plot, f"Embedding by {name}", caption)


def _modality_weights(page: Page, explanations: Sequence[Tensors]) -> Iterator[Block]:
    """Show what the modal-wise SE block multiplies each modality by, per stage, over all folds."""
    name = "modality weights"
    weighted = [t for t in explanations if name in t.arrays and len(t[name])]
    if not weighted:
        return
    weight = np.concatenate([t[name] for t in weighted])
    stage = np.concatenate([t["modality stage"] for t in weighted])
    modalities = [str(n) for n in weighted[0].facts.get("modalities", [])]
    modalities = modalities or [f"modality {i}" for i in range(weight.shape[1])]
    by_stage = {name: weight[stage == i] for i, name in enumerate(page.run.stages)}
    caption = (
        f"What the SE block multiplies each modality by: median and quartiles over "
        f"{len(weight):,} test epochs of {len(weighted)} fold{'s' * (len(weighted) > 1)}. A weight "
        "says what passes the block, not what decided the stage."
    )
    plot = plot_modality_weights(by_stage, modalities)
    yield Figure("modalities", plot, "Weights of the modalities", caption)
    rows = [
        (name, f"{len(w):,}", *(f"{v:.3f}" for v in np.median(w, axis=0)))
        for name, w in by_stage.items()
        if len(w)
    ]
    head = ("Stage", "Epochs", *modalities)
    yield Table("modalities", head, rows, "Median weight of each modality")
