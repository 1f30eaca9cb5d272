"""One metric of several runs, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.report.plots.canvas import MARKERS, Palette, Plot


def plot_runs(
    rows: Mapping[str, tuple[float, float, float]], *, title: str, optimistic: frozenset[str]
) -> Plot:
    """Draw one metric of several runs, each with its interval.

    Parameters
    ----------
    rows
        Name of the run to value and ends of its interval; NaN where there is none.
    title
        Name of the metric.
    optimistic
        Names of the runs whose pass was chosen on the scored fold; drawn hollow.
    """

    def draw(figure: Any, palette: Palette) -> None:
        axes = figure.subplots()
        for row, (name, (value, low, high)) in enumerate(rows.items()):
            series = "second" if name in optimistic else "accent"
            axes.plot([low, high], [row, row], color=palette[series], linewidth=1.6)
            face = palette["sheet"] if name in optimistic else palette[series]
            axes.plot(
                [value],
                [row],
                MARKERS[0],
                color=palette[series],
                markerfacecolor=face,
                markersize=7,
            )
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=title)
        axes.grid(visible=False, axis="y")

    values = "; ".join(f"{name} {value:.3f}" for name, (value, _, _) in rows.items())
    return Plot(draw, (9.0, 0.6 + 0.34 * len(rows)), f"{title}: {values}")
