"""Sections that draw: hypnograms, training curves, what the model makes of the epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from sleeptools import store
from sleeptools.report import plots, svg
from sleeptools.report.blocks import Block, Figure, Folded, Heading, Table, Text
from sleeptools.report.html import ZOOM
from sleeptools.report.page import Page
from sleeptools.report.svg import Night
from sleeptools.runs.folds import NAMED
from sleeptools.runs.run import EXPLAIN
from sleeptools.store import Tensors

if TYPE_CHECKING:
    import polars as pl

NIGHTS: Final = 200
"""Hypnograms drawn at most; more would make the page slow."""
DOTS: Final = 700
"""Epochs of an embedding drawn at most."""


def hypnograms(page: Page) -> Iterator[Block]:
    """Draw one night at full width, and the others to be opened."""
    nights = [_night(page, t) for t in page.tested.partition_by("recording", maintain_order=True)]
    nights.sort(key=lambda night: night.label)
    agree = {n.label: float((n.truth == n.predicted).mean()) for n in nights}
    middle = sorted(nights, key=lambda n: agree[n.label])[len(nights) // 2]
    about = (
        f"Protocol {NAMED[page.protocol]}, first seed. Red marks are epochs where prediction "
        "and scoring differ. Below, the hypnodensity: the predicted probability of every stage, "
        f"stacked. {ZOOM}"
    )
    caption = f"{middle.label}, the night of median agreement ({agree[middle.label]:.1%}). {about}"
    yield _drawn(middle, caption)
    others = [n for n in nights if n is not middle]
    if others:
        yield Heading("The other nights")
    for n in others[: NIGHTS - 1]:
        yield Folded(f"{n.label}, {agree[n.label]:.1%} agreement", _drawn(n, ""))
    if len(nights) > NIGHTS:
        yield Text(f"{len(nights) - NIGHTS} more nights are not drawn here.")


def _drawn(night: Night, caption: str) -> Figure:
    label = f"Hypnogram {night.label}"
    drawing = svg.hypnogram(night)
    return Figure(f"hypnogram-{night.label}", drawing, label, caption, zoom=True)


def _night(page: Page, table: pl.DataFrame) -> Night:
    names = page.found.stages
    return Night(
        str(table["recording"][0]),
        names,
        table["stage"].to_numpy(),
        table["predicted"].to_numpy(),
        table.select(f"p_{n}" for n in names).to_numpy(),
        table["onset"].to_numpy(),
        page.found.run.epoch_seconds,
    )


def training(page: Page) -> Iterator[Block]:
    """Draw loss and kappa over the passes."""
    if not len(page.logs):
        yield Text("This run has no training logs.")
        return
    caption = (
        "Median over folds and seeds; the band is their range. Under leak-free, kappa is that of "
        "the validation subjects, under best-on-test that of the scored test fold (optimistic)."
    )
    yield Figure("training", plots.curves(page.logs), "Training curves", caption)


def inside(page: Page) -> Iterator[Block]:
    """Draw the embedding before and after the fusion, and the weights of the modalities."""
    found = _explained(page)
    if not found:
        return
    fold, first = found[0]
    yield from _embedding(page, fold, first)
    yield from _weights(page, [t for _, t in found])


def _explained(page: Page) -> list[tuple[int, Tensors]]:
    """Read what `train` wrote about the model of every fold, of the first seed."""
    run, read = page.found.run, []
    for trained in run.done:
        path = trained.folder(run.folder) / EXPLAIN
        if (trained.protocol, trained.seed) == (page.protocol, page.seed) and path.exists():
            read.append((trained.fold, store.read_tensors(path, "sleeptools-explain")))
    return read


def _embedding(page: Page, fold: int, found: Tensors) -> Iterator[Block]:
    for way in ("t-sne", "pca"):
        titles = {side: str(found.facts.get(side) or side) for side in ("before", "after")}
        drawn = {
            titles[side]: np.asarray(found[f"{side} {way}"])
            for side in titles
            if f"{side} {way}" in found.arrays
        }
        if not drawn:
            continue
        stage = np.asarray(found["stage"])
        kept = np.unique(np.linspace(0, len(stage) - 1, min(DOTS, len(stage))).astype(int))
        named = {"t-sne": "t-SNE", "pca": "the first two principal components"}[way]
        several = f"{len(kept):,} of {len(stage):,} test" if len(kept) < len(stage) else "Test"
        caption = (
            f"{several} epochs of fold {fold}, {NAMED[page.protocol]}, by {named}. Colours are the "
            "scored stages. Each fold has a model and thus an embedding of its own."
        )
        caption += " In t-SNE, neither distances between groups nor axes mean anything." * (
            way == "t-sne"
        )
        panels = {title: points[kept] for title, points in drawn.items()}
        plot = plots.embedding(panels, stage[kept], page.found.stages)
        yield Figure(f"embedding-{way}", plot, f"Embedding by {named}", caption)


def _weights(page: Page, found: list[Tensors]) -> Iterator[Block]:
    """Show what the modal-wise SE block multiplies each modality by, per stage, over all folds."""
    there = [t for t in found if "modality weights" in t.arrays and len(t["modality weights"])]
    if not there:
        return
    names = [str(n) for n in there[0].facts.get("modalities", [])]
    weight = np.concatenate([t["modality weights"] for t in there])
    stage = np.concatenate([t["modality stage"] for t in there])
    names = names or [f"modality {i}" for i in range(weight.shape[1])]
    table = {name: weight[stage == i] for i, name in enumerate(page.found.stages)}
    caption = (
        f"What the SE block multiplies each modality by: median and quartiles over "
        f"{len(weight):,} test epochs of {len(there)} fold{'s' * (len(there) > 1)}. A weight says "
        "what passes the block, not what decided the stage."
    )
    yield Figure("modalities", plots.weights(table, names), "Weights of the modalities", caption)
    rows = [
        (name, f"{len(w):,}", *(f"{v:.3f}" for v in (np.median(w, axis=0) if len(w) else ())))
        for name, w in table.items()
        if len(w)
    ]
    yield Table("modalities", ("Stage", "Epochs", *names), rows, "Median weight of each modality")
