"""Section on the training: loss and kappa over the passes."""

from __future__ import annotations

from collections.abc import Iterator

from sleeptools.report.blocks import Block, Figure
from sleeptools.report.page import Page
from sleeptools.report.plots.training import plot_training


def training_section(page: Page) -> Iterator[Block]:
    """Draw loss and kappa over the passes."""
    if not len(page.logs):
        return
    caption = (
        "Median over folds and seeds; the band is their range. Under leak-free, kappa is that of "
        f"the validation {page.subject_noun}s, under best-on-test that of the scored test fold "
        "(optimistic)."
    )
    yield Figure("training", plot_training(page.logs), "Training curves", caption)
