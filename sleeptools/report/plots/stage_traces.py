"""Traces in the papers' arrangements: a stage a column, or a stretch on the stages' colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import Palette, Plot
from sleeptools.report.plots.signals import Trace, limits, thin_trace

RANGE: Final = 50.0
"""Range of a spectrum, dB: what a filter takes out lies below it."""


@dataclass(frozen=True)
class TraceRow:
    """A row of traces, one of each stage.

    Parameters
    ----------
    label
        What the row shows, with its unit.
    traces
        Stage to trace.
    narrow
        Whether the axis is cut to the middle half of the values' range.
    """

    label: str
    traces: Mapping[str, Trace] = field(repr=False)
    narrow: bool = False


def plot_trace_grid(rows: Sequence[TraceRow], stages: Sequence[str], title: str) -> Plot:
    """Draw a row for each `TraceRow` and a column for each stage, with one scale along a row."""

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(len(rows), len(stages), squeeze=False, sharex="row")
        for line, row in zip(grid, rows, strict=True):
            low, high = limits([trace[1] for trace in row.traces.values()])
            if row.narrow:
                middle, quarter = (low + high) / 2, (high - low) / 4
                low, high = middle - quarter, middle + quarter
            for axes, stage in zip(line, stages, strict=True):
                if stage in row.traces:
                    axes.plot(*thin_trace(*row.traces[stage]), color=palette["ink"], linewidth=0.6)
                axes.set_ylim(low, high)
                axes.grid(visible=False)
                axes.tick_params(labelsize=8, labelleft=axes is line[0])
                axes.spines["bottom"].set_color(palette.stage(stage))
                axes.spines["bottom"].set_linewidth(2)
            line[0].set_ylabel(row.label, fontsize=9)
        for axes, stage in zip(grid[0], stages, strict=True):
            axes.set_title(stage)
        for axes in grid[-1]:
            axes.set_xlabel("s", fontsize=9)

    return Plot(draw, (9.0, 0.7 + 1.1 * len(rows)), title)


def plot_stage_background(
    traces: Mapping[str, Trace],
    stage: npt.NDArray[np.int8],
    epoch_seconds: float,
    stages: Sequence[str],
    title: str,
) -> Plot:
    """Draw a graph for each signal over one time axis, on the colours of the epochs' stages.

    Parameters
    ----------
    traces
        Label of the signal, with its unit, to its trace; time 0 is the begin of the first epoch.
    stage
        (epochs,) index into `stages`, of epochs that follow each other.
    """

    def draw(figure: Any, palette: Palette) -> None:
        from matplotlib.patches import Patch

        grid = figure.subplots(len(traces), 1, squeeze=False, sharex=True).ravel()
        for axes, (label, (time, values)) in zip(grid, traces.items(), strict=True):
            bounds = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist(), len(stage)]
            for start, stop in pairwise(bounds):
                colour = palette.stage(stages[int(stage[start])])
                begin, end = start * epoch_seconds, stop * epoch_seconds
                axes.axvspan(begin, end, color=colour, alpha=0.4, linewidth=0)
            axes.plot(*thin_trace(time, values), color=palette["ink"], linewidth=0.6)
            axes.set(ylabel=label, ylim=limits([values]))
            axes.set_xlim(0, len(stage) * epoch_seconds)
            axes.grid(visible=False)
        grid[-1].set_xlabel("s")
        handles = [Patch(facecolor=palette.stage(s), alpha=0.4) for s in stages]
        figure.legend(handles, list(stages), loc="outside upper center", ncols=len(stages))

    return Plot(draw, (9.0, 0.8 + 1.5 * len(traces)), title)


def plot_stage_spectra(
    panels: Mapping[str, Mapping[str, Trace]], highest: float, title: str
) -> Plot:
    """Draw a panel for each stage: power density before and after preparation.

    Parameters
    ----------
    panels
        Stage to name of the curve ("before", "after") to frequency in Hz and density in dB.
    highest
        Largest frequency that is drawn, Hz.
    """

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
        for axes, (stage, curves) in zip(grid, panels.items(), strict=True):
            for i, (name, trace) in enumerate(curves.items()):
                axes.plot(*trace, "-:"[i % 2], color=palette.series(i), label=name, linewidth=1.5)
            axes.set(title=stage, xlim=(0, highest), xlabel="Hz")
        levels = [trace[1].max() for curves in panels.values() for trace in curves.values()]
        low, high = grid[0].get_ylim()
        grid[0].set_ylim(max(low, float(max(levels)) - RANGE), high)
        grid[0].set_ylabel("power density, dB")
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=max(len(names), 1))

    return Plot(draw, (9.0, 3.2), title)
