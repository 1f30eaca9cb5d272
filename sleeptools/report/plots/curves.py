"""Curves of the folds over the passes of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleeptools.report.plots.canvas import Palette, Plot


@dataclass(frozen=True)
class PassCurve:
    """A quantity after each pass.

    Parameters
    ----------
    label
        Entry of the legend; "" for none.
    series
        Number that chooses the colour.
    passes, values
        Passes from 1, and the values after them.
    dashed
        Whether the line is dashed: what is not trained on.
    """

    label: str
    series: int
    passes: Sequence[int] = field(repr=False)
    values: Sequence[float] = field(repr=False)
    dashed: bool = False


def plot_passes(panels: Mapping[str, Sequence[PassCurve]]) -> Plot:
    """Draw a panel for each title, side by side; at most three in a row.

    Parameters
    ----------
    panels
        Title, with the unit, to the curves.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, curves) in zip(grid, panels.items(), strict=False):
            for curve in curves:
                axes.plot(
                    curve.passes,
                    curve.values,
                    "--" if curve.dashed else "-",
                    color=palette.series(curve.series),
                    linewidth=1.5,
                    label=curve.label or None,
                    marker="." if len(curve.passes) == 1 else None,
                )
            axes.set(title=title, xlabel="pass")
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        handles, names = grid[0].get_legend_handles_labels()
        if len(names) > 1:
            figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))

    ends = [
        f"{title}, {c.label}: {c.values[0]:.3g} to {c.values[-1]:.3g}"
        for title, curves in panels.items()
        for c in curves
        if len(c.values)
    ]
    size = (9.0 if columns > 1 else 6.0, 0.6 + 2.7 * rows)
    return Plot(draw, size, f"Curves over the passes. {'; '.join(ends[:12])}")
