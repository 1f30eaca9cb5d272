"""A mouse's days: minutes of each stage in bins, true against predicted, and the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.report.numbers import p_text
from sleeptools.report.plots.canvas import MARKERS, Palette, Plot

Values = npt.NDArray[np.float64]
HOURS: Final = 12  # between the ticks of an axis of days


@dataclass(frozen=True)
class DayBins:
    """Minutes of the stages of one recording in bins.

    Parameters
    ----------
    label
        Name of the animal.
    hours
        (bins,) beginning of each bin, h.
    truth, predicted
        (bins, stages) minutes.
    """

    label: str
    hours: Values = field(repr=False)
    truth: Values = field(repr=False)
    predicted: Values = field(repr=False)


@dataclass(frozen=True)
class DayAxis:
    """The axis of hours.

    Parameters
    ----------
    title
        What its hours are counted from.
    shaded
        Name, begin and end, h, of the stretches that are shaded.
    dark
        Begin and end, h, of the dark phases.
    """

    title: str
    shaded: Sequence[tuple[str, float, float]] = ()
    dark: Sequence[tuple[float, float]] = ()


def plot_day_bins(
    days: Sequence[DayBins], stages: Sequence[str], width: float, axis: DayAxis
) -> Plot:
    """Draw a row for each animal and a column for each stage: minutes a bin, true and predicted."""

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(len(days), len(stages), squeeze=False, sharex=True)
        for axes, stage in zip(grid[0], stages, strict=True):
            axes.set_title(stage)
        for row, day in zip(grid, days, strict=True):
            for i, axes in enumerate(row):
                middle = day.hours + width / 2
                axes.plot(middle, day.truth[:, i], "-", color=palette["ink"], label="True")
                axes.plot(
                    middle, day.predicted[:, i], "--", color=palette["accent"], label="Predicted"
                )
                axes.set_ylim(0, 60 * width)
                _days(axes, palette, day, width, axis)
            row[0].set_ylabel(f"{day.label}, min")
        for axes in grid[-1]:
            axes.set_xlabel(axis.title)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))

    means = "; ".join(
        f"{day.label}: "
        + ", ".join(
            f"{s} {t:.0f} true, {p:.0f} predicted"
            for s, t, p in zip(stages, day.truth.mean(0), day.predicted.mean(0), strict=True)
        )
        for day in days
    )
    size = (9.0, 0.9 + 1.75 * len(days))
    return Plot(draw, size, f"Minutes a {width:g}-h bin, true and predicted. Means, {means}")


def _days(axes: Any, palette: Palette, day: DayBins, width: float, axis: DayAxis) -> None:
    """Shade the phases and the dark, and put the ticks."""
    begin, end = float(day.hours.min()), float(day.hours.max()) + width
    for name, start, stop in axis.shaded:
        axes.axvspan(start, stop, color=palette["third"], alpha=0.22, linewidth=0, label=name)
    for start, stop in axis.dark:
        axes.axvspan(start, stop, ymin=0.96, color=palette["ink"], alpha=0.75, linewidth=0)
    span = end - begin
    step = HOURS if span > 2 * HOURS else 2 if span > 2 else 1  # noqa: PLR2004 - h
    axes.set_xlim(begin, end)
    axes.set_xticks(np.arange(np.ceil(begin / step) * step, end + 1e-9, step))


@dataclass(frozen=True)
class DayCorrelation:
    """Pearson's r of true and predicted minutes over the bins of all stages, and its p value."""

    r: float
    p: float
    bins: int

    @property
    def text(self) -> str:
        """For the figure."""
        p = p_text(self.p)
        return f"r = {self.r:.4f}, p {p if p.startswith('<') else f'= {p}'}"


def plot_amounts(
    days: Sequence[DayBins],
    stages: Sequence[str],
    width: float,
    correlations: Mapping[str, DayCorrelation | None],
) -> Plot:
    """Draw predicted over true minutes of each bin, a panel for each animal, coloured by stage."""
    columns = min(len(days), 3)
    rows = -(-len(days) // columns)

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, day in zip(grid, days, strict=False):
            axes.plot([0, 60 * width], [0, 60 * width], ":", color=palette["muted"])
            for i, stage in enumerate(stages):
                axes.scatter(
                    day.truth[:, i],
                    day.predicted[:, i],
                    s=16,
                    color=palette.stage(stage),
                    marker=MARKERS[i],
                    linewidths=0,
                    label=stage,
                )
            correlation = correlations[day.label]
            note = correlation.text if correlation else "no correlation"
            axes.set_title(day.label)
            axes.text(0.04, 0.92, note, transform=axes.transAxes, fontsize=9)
            axes.set(xlabel="true, min", ylabel="predicted, min", aspect="equal")
        for axes in grid[len(days) :]:
            axes.set_visible(False)
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))

    texts = "; ".join(f"{n}: {c.text if c else 'no correlation'}" for n, c in correlations.items())
    size = (9.0 if columns > 1 else 4.6, 0.7 + 3.1 * rows)
    return Plot(draw, size, f"Predicted over true minutes a {width:g}-h bin. {texts}")


def plot_time_line(hours: float, shaded: Sequence[tuple[str, float, float]], light: float) -> Plot:
    """Draw the days of an experiment as a strip: light, dark, and named stretches.

    Parameters
    ----------
    hours
        Length of the strip, h.
    shaded
        Name, begin and end, h, of the stretches.
    light
        Hours of light of a day.
    """

    def draw(figure: Any, palette: Palette) -> None:
        axes = figure.subplots()
        for day in np.arange(0, hours, 24):
            axes.axvspan(day, min(day + light, hours), 0.1, 0.45, color=palette["stage W"])
            axes.axvspan(day + light, min(day + 24, hours), 0.1, 0.45, color=palette["ink"])
        for i, (name, begin, end) in enumerate(shaded):
            colour = palette.series(i)
            axes.axvspan(begin, end, 0.5, 0.75, color=colour, alpha=0.55, linewidth=0)
            axes.text((begin + end) / 2, 0.82, name, ha="center", fontsize=9, color=palette["ink"])
        axes.set(xlim=(0, hours), ylim=(0, 1), yticks=[], xlabel="zeitgeber time, h")
        axes.set_xticks(np.arange(0, hours + 1, 6))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)

    named = "; ".join(f"{n} from {a:g} to {b:g} h" for n, a, b in shaded)
    return Plot(draw, (9.0, 1.6), f"{hours:g} h with {light:g} h of light a day; {named}")
