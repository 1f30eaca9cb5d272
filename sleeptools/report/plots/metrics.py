"""Metrics of the subjects, one dot each: how much they differ from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sleeptools.report.plots.canvas import Palette, Plot

JITTER = 0.26  # rows
GOLDEN = (5**0.5 - 1) / 2  # spreads any number of dots evenly, the same every time


def plot_subjects(
    values: Mapping[str, Sequence[float]], *, stages: Sequence[str], title: str
) -> Plot:
    """Draw a row per metric and in it a dot per subject, with the median.

    Parameters
    ----------
    values
        Name of the row to the subjects' values, fractions of 1; NaN is left out. A row named
        after a stage ("F1 N2") has that stage's colour.
    stages
        Stage names.
    title
        Says whose dots these are.
    """
    arrays = {name: np.asarray(v, float) for name, v in values.items()}
    rows = {name: v[np.isfinite(v)] for name, v in arrays.items()}

    def draw(figure: Any, palette: Palette) -> None:
        axes = figure.subplots()
        for row, (name, v) in enumerate(rows.items()):
            stage = name.removeprefix("F1 ")
            shade = palette.stage(stage) if stage in stages else palette["accent"]
            spread = ((np.arange(len(v)) * GOLDEN) % 1 - 0.5) * 2 * JITTER
            axes.scatter(
                v, row + spread, s=20, color=shade, edgecolors=palette["ink"], linewidths=0.5
            )
            if len(v):
                median = float(np.median(v))
                ends = [row - 0.36, row + 0.36]
                axes.plot([median] * 2, ends, color=palette["ink"], linewidth=2.2)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=title)
        lowest = min((float(v.min()) for v in rows.values() if len(v)), default=0.0)
        axes.set_xlim(min(0.0, lowest) - 0.02, 1.02)
        axes.grid(visible=False, axis="y")

    medians = "; ".join(
        f"{name}: median {np.median(v):.2f}, {v.min():.2f} to {v.max():.2f}" if len(v) else name
        for name, v in rows.items()
    )
    return Plot(draw, (9.0, 0.6 + 0.36 * len(rows)), f"{title}. {medians}")
