"""Example waveforms and power spectra, per stage, before and after preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import Ink, Plot

Trace = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]
"""Time in s, or frequency in Hz; and the values."""
POINTS = 900  # of a trace at most; more are drawn as the range of each stretch


def waveforms(
    traces: Mapping[str, Mapping[str, Trace]], units: Mapping[str, str], title: str
) -> Plot:
    """Draw a row per stage and a column per channel.

    Parameters
    ----------
    traces
        Stage to channel to trace.
    units
        Of each channel.
    title
        For those who cannot see it.
    """
    channels = list(units)
    longest = max((of[c][0][-1] for of in traces.values() for c in of), default=1.0)
    scale = {c: _scale([t[c][1] for t in traces.values() if c in t]) for c in channels}

    def draw(figure: Any, ink: Ink) -> None:
        grid = figure.subplots(len(traces), len(channels), squeeze=False, sharex="col")
        for row, (stage, of) in zip(grid, traces.items(), strict=True):
            for axes, channel in zip(row, channels, strict=True):
                if channel in of:
                    axes.plot(*thinned(*of[channel]), color=ink["ink"], linewidth=0.7)
                low, high = scale[channel]
                axes.set(xlim=(0, longest), ylim=(low, high), yticks=[round(low), round(high)])
                axes.grid(visible=False)
                axes.spines["left"].set_color(ink.stage(stage))
                axes.spines["left"].set_linewidth(3)
                axes.tick_params(labelsize=8)
            row[0].set_ylabel(stage, rotation=0, ha="right", va="center", color=ink["ink"])
        for axes, channel in zip(grid[0], channels, strict=True):
            axes.set_title(f"{channel}, {units[channel]}", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("s", fontsize=9)

    return Plot(draw, (9.0, 0.6 + 0.8 * len(traces)), title)


def _scale(values: Sequence[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Limits that nearly all of the values lie within, the same for all stages."""
    known = np.concatenate(values) if values else np.zeros(1)
    known = known[np.isfinite(known)]
    low, high = np.percentile(known, (0.2, 99.8)) if len(known) else (0.0, 1.0)
    room = max(0.1 * (high - low), 1e-3)
    return float(low - room), float(high + room)


def thinned(
    time: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Keep lowest and highest value of every stretch, where there are more values than `POINTS`."""
    step = -(-2 * len(values) // POINTS)
    if step <= 2:  # noqa: PLR2004 - a stretch of two is itself
        return time, values
    whole = len(values) // step * step
    parts = values[:whole].reshape(-1, step)
    ends = np.stack([parts.min(1), parts.max(1)], 1)
    falling = parts.argmin(1) > parts.argmax(1)
    ends[falling] = ends[falling, ::-1]
    return np.repeat(time[:whole:step], 2), ends.ravel()


def spectra(
    before: Mapping[str, Mapping[str, Trace]],
    after: Mapping[str, Mapping[str, Trace]],
    channels: Sequence[str],
    stages: Sequence[str],
    highest: float,
) -> Plot:
    """Draw the mean power density per stage, a panel per channel.

    Parameters
    ----------
    before, after
        Channel to stage to frequency (Hz) and density (dB); `before` may lack channels.
    channels, stages
        In the order wanted.
    highest
        Frequency, Hz.
    """
    columns = min(2, len(channels))
    rows = -(-len(channels) // columns)

    def draw(figure: Any, ink: Ink) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, channel in zip(grid, channels, strict=False):
            for made, dashes, width in ((before, ":", 1.3), (after, "-", 1.6)):
                for stage, trace in made.get(channel, {}).items():
                    shade = ink.stage(stage)
                    axes.plot(*trace, dashes, color=shade, linewidth=width)
            axes.set(title=channel, xlim=(0, highest))
        for axes in grid[len(channels) :]:
            axes.set_visible(False)
        figure.supxlabel("Hz", fontsize=11, color=ink["muted"])
        figure.supylabel("power density, dB", fontsize=11, color=ink["muted"])
        figure.legend(*_key(ink, stages, both=bool(before)), loc="outside upper center", ncols=8)

    said = f"Power density of {', '.join(channels)} in the stages {', '.join(stages)}"
    return Plot(draw, (9.0, 0.7 + 2.3 * rows), said)


def _key(ink: Ink, stages: Sequence[str], *, both: bool) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=ink.stage(s), linewidth=3) for s in stages]
    if not both:
        return lines, list(stages)
    lines += [Line2D([], [], color=ink["ink"], linestyle=":"), Line2D([], [], color=ink["ink"])]
    return lines, [*stages, "before", "after preprocessing"]
