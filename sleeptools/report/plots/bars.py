"""Bars in groups: scores of variants, counts of stages, hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from sleeptools.report.numbers import is_missing
from sleeptools.report.plots.canvas import Palette, Plot

MOST_NUMBERS: Final = 16  # of bars that have their numbers over them
HATCHES: Final = ("", "//", "..", "xx", "--")
"""Patterns of the series, so that these do not differ in colour alone."""


def plot_bars(
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    groups: Sequence[str],
    *,
    unit: str,
    by_stage: bool = False,
    cut: bool = False,
) -> Plot:
    """Draw a group of bars for each entry of `groups`, a bar a series in each.

    Parameters
    ----------
    panels
        Title of a panel to its series: name to a value for each group; None where there is none.
    groups
        Names below the groups.
    unit
        Label of the axis.
    by_stage
        Whether the groups are stages, whose colours the bars take.
    cut
        Whether the axis may begin above 0, where all values are near each other.
    """

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=not by_stage).ravel()
        for axes, (title, series) in zip(grid, panels.items(), strict=True):
            axes.set_title(title)
            width = 0.8 / max(len(series), 1)
            for k, (name, values) in enumerate(series.items()):
                _bars(axes, palette, values, (k, width), (groups if by_stage else (), name))
                if len(series) * len(groups) * len(panels) <= MOST_NUMBERS:
                    _numbers(axes, palette, values, np.arange(len(values)) + k * width)
            middle = np.arange(len(groups)) + 0.4 - width / 2
            axes.set_xticks(middle, list(groups))
            axes.grid(visible=False, axis="x")
            axes.set_ylim(*_limits(series, cut=cut))
        grid[0].set_ylabel(unit)
        series = next(iter(panels.values()), {})
        if len(series) > 1:
            handles, names = grid[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 4))

    return Plot(draw, (9.0, 3.4), _described(panels, groups, unit))


def _bars(
    axes: Any,
    palette: Palette,
    values: Sequence[float | None],
    position: tuple[int, float],
    names: tuple[Sequence[str], str],
) -> None:
    """Draw one series: its number and the width of a bar; its stages, and its name."""
    (stages, label), (number, width) = names, position
    heights = [0.0 if value is None or is_missing(value) else value for value in values]
    colour = [palette.stage(s) for s in stages] if stages else palette.series(number)
    axes.bar(
        np.arange(len(values)) + number * width,
        heights,
        width * 0.92,
        color=colour,
        edgecolor=palette["sheet"],
        hatch=HATCHES[number % len(HATCHES)],
        label=label,
        linewidth=0.5,
    )


def _numbers(axes: Any, palette: Palette, values: Sequence[float | None], position: Any) -> None:
    """Write each number over its bar."""
    for x, value in zip(position, values, strict=True):
        if value is not None and not is_missing(value):
            text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004
            axes.annotate(
                text,
                (x, value),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=palette["ink"],
            )


def _limits(series: Mapping[str, Sequence[float | None]], *, cut: bool) -> tuple[float, float]:
    """Choose the ends of the axis: from 0, or cut to the range of the values."""
    numbers = [
        v for values in series.values() for v in values if v is not None and not is_missing(v)
    ]
    if not numbers:
        return 0.0, 1.0
    low, high = min(numbers), max(numbers)
    if not cut or low <= 0 or high - low > low / 2:
        return min(0.0, low), (high or 1.0) * 1.12
    margin = max((high - low) * 0.6, high * 0.01)
    return max(0.0, low - margin), high + margin / 2


def _described(
    panels: Mapping[str, Mapping[str, Sequence[float | None]]], groups: Sequence[str], unit: str
) -> str:
    texts = [
        f"{title} {name}: "
        + ", ".join(
            f"{g} {v:.4g}" for g, v in zip(groups, values, strict=True) if not is_missing(v)
        )
        for title, series in panels.items()
        for name, values in series.items()
    ]
    return f"Bars, {unit}. {'; '.join(texts)}"
