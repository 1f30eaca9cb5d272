"""Section on the hypnograms: scored and predicted stages of every night, over the hypnodensity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from sleeptools.report.blocks import Block, Collapsible, Figure, Heading, Text
from sleeptools.report.page import Page
from sleeptools.report.svg import HypnogramNight, hypnogram_svg
from sleeptools.runs.folds import NAMED

if TYPE_CHECKING:
    import polars as pl

MOST_NIGHTS: Final = 200
"""Largest number of hypnograms; more would make the page slow."""


def hypnograms_section(page: Page) -> Iterator[Block]:
    """Draw one night at full width, and the others to be opened."""
    tables = page.tested.partition_by("recording", maintain_order=True)
    nights = sorted((_night(page, table) for table in tables), key=lambda night: night.label)
    noun = page.night_noun
    agreement = {n.label: float(np.mean(n.truth == n.predicted)) for n in nights}
    median = sorted(nights, key=lambda night: agreement[night.label])[len(nights) // 2]
    caption = (
        f"{median.label}, the {noun} of median agreement ({100 * agreement[median.label]:.1f} %). "
        f"Protocol {NAMED[page.protocol]}, first seed. Red marks are epochs where prediction "
        "and scoring differ. Below, the hypnodensity: the predicted probability of every stage, "
        "stacked."
    )
    yield _figure(median, caption)
    remaining = [night for night in nights if night is not median]
    if remaining:
        yield Heading(f"The other {noun}s")
    for night in remaining[: MOST_NIGHTS - 1]:
        title = f"{night.label}, {100 * agreement[night.label]:.1f} % agreement"
        yield Collapsible(title, _figure(night, ""))
    if len(nights) > MOST_NIGHTS:
        yield Text(f"{len(nights) - MOST_NIGHTS} more {noun}s are not drawn here.")


def _figure(night: HypnogramNight, caption: str) -> Figure:
    label = f"Hypnogram {night.label}"
    return Figure(f"hypnogram-{night.label}", hypnogram_svg(night), label, caption, zoom=True)


def _night(page: Page, table: pl.DataFrame) -> HypnogramNight:
    stages = page.run.stages
    return HypnogramNight(
        str(table["recording"][0]),
        stages,
        table["stage"].to_numpy(),
        table["predicted"].to_numpy(),
        table.select(f"p_{name}" for name in stages).to_numpy(),
        table["onset"].to_numpy(),
        page.run.epoch_seconds,
    )
