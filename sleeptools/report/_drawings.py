"""Sections that draw: hypnograms and training curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sleeptools import figures, plots
from sleeptools import markup as m
from sleeptools.figures import Night
from sleeptools.folds import NAMED
from sleeptools.markup import Markup
from sleeptools.report._page import Page

if TYPE_CHECKING:
    import polars as pl

NIGHTS: Final = 40
"""Hypnograms drawn at most; more would make the page slow."""


def hypnograms(page: Page) -> Iterator[Markup]:
    """Draw one night at full width, and the others to be opened."""
    nights = [_night(page, t) for t in page.tested.partition_by("recording", maintain_order=True)]
    nights.sort(key=lambda night: night.label)
    agree = {n.label: float((n.truth == n.predicted).mean()) for n in nights}
    middle = sorted(nights, key=lambda n: agree[n.label])[len(nights) // 2]
    about = (
        f"Protocol {NAMED[page.protocol]}, first seed. Red marks are epochs where prediction "
        "and scoring differ. Below, the hypnodensity: the predicted probability of every stage, "
        "stacked."
    )
    caption = f"{middle.label}, the night of median agreement ({agree[middle.label]:.1%}). {about}"
    yield m.figure(figures.hypnogram(middle), caption=caption, label=f"Hypnogram {middle.label}")
    others = [n for n in nights if n is not middle]
    if others:
        folded = (_folded(n, agree[n.label]) for n in others[: NIGHTS - 1])
        heading = m.element("h3", m.text("The other nights"))
        yield m.element("div", heading, *folded, class_="others")
    if len(nights) > NIGHTS:
        yield m.paragraph(f"{len(nights) - NIGHTS} more nights are not drawn here.")


def _folded(night: Night, agreement: float) -> Markup:
    said = m.element("summary", m.text(f"{night.label}, {agreement:.1%} agreement"))
    drawing = m.scrolled(figures.hypnogram(night), label=f"Hypnogram {night.label}")
    return m.element("details", said, drawing)


def training(page: Page) -> Iterator[Markup]:
    """Draw loss and kappa over the passes."""
    if not len(page.logs):
        yield m.paragraph("This run has no training logs.")
        return
    caption = (
        "Median over folds and seeds; the band is their range. Under leak-free, kappa is that of "
        "the validation subjects, under best-on-test that of the scored test fold (optimistic)."
    )
    drawing = plots.training_curves(page.logs, ident=f"training-{page.number}")
    yield m.figure(drawing, caption=caption, label="Training curves")


def _night(page: Page, table: pl.DataFrame) -> Night:
    names = page.found.stages
    return Night(
        str(table["recording"][0]), names, table["stage"].to_numpy(), table["predicted"].to_numpy(),
        table.select(f"p_{n}" for n in names).to_numpy(), table["onset"].to_numpy(),
        page.found.run.epoch_seconds,
    )  # fmt: skip
