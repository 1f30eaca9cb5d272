"""Example waveforms and power spectra, per stage, before and after preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import Palette, Plot

Trace = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]
"""Time in s, or frequency in Hz; and the values."""
MOST_POINTS = 900  # of a trace at most; more are drawn as the range of each stretch


def plot_waveforms(
    traces: Mapping[str, Mapping[str, Trace]], units: Mapping[str, str], title: str
) -> Plot:
    """Draw a row per stage and a column per channel.

    Parameters
    ----------
    traces
        Stage to channel to trace.
    units
        Channel to its unit.
    title
        For those who cannot see it.
    """
    channels = list(units)
    longest = max(
        (time[-1] for by_channel in traces.values() for time, _ in by_channel.values()), default=1.0
    )
    scale = {c: limits([t[c][1] for t in traces.values() if c in t]) for c in channels}

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(len(traces), len(channels), squeeze=False, sharex="col")
        for row, (stage, by_channel) in zip(grid, traces.items(), strict=True):
            for axes, channel in zip(row, channels, strict=True):
                if channel in by_channel:
                    axes.plot(
                        *thin_trace(*by_channel[channel]), color=palette["ink"], linewidth=0.7
                    )
                low, high = scale[channel]
                axes.set(xlim=(0, longest), ylim=(low, high), yticks=[round(low), round(high)])
                axes.grid(visible=False)
                axes.spines["left"].set_color(palette.stage(stage))
                axes.spines["left"].set_linewidth(3)
                axes.tick_params(labelsize=8)
            row[0].set_ylabel(stage, rotation=0, ha="right", va="center", color=palette["ink"])
        for axes, channel in zip(grid[0], channels, strict=True):
            axes.set_title(f"{channel}, {units[channel]}", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("s", fontsize=9)

    return Plot(draw, (9.0, 0.6 + 0.8 * len(traces)), title)


def limits(values: Sequence[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Limits that nearly all of the values lie within, the same for all stages."""
    samples = np.concatenate(values) if values else np.zeros(1)
    samples = samples[np.isfinite(samples)]
    low, high = np.percentile(samples, (0.2, 99.8)) if len(samples) else (0.0, 1.0)
    margin = max(0.1 * (high - low), 1e-3)
    return float(low - margin), float(high + margin)


def thin_trace(
    time: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Keep lowest and highest value of every stretch of a trace longer than `MOST_POINTS`."""
    step = -(-2 * len(values) // MOST_POINTS)
    if step <= 2:  # noqa: PLR2004 - a stretch of two is itself
        return time, values
    count = len(values) // step * step
    stretches = values[:count].reshape(-1, step)
    ends = np.stack([stretches.min(1), stretches.max(1)], 1)
    falling = stretches.argmin(1) > stretches.argmax(1)
    ends[falling] = ends[falling, ::-1]
    return np.repeat(time[:count:step], 2), ends.ravel()


def plot_spectra(
    before: Mapping[str, Mapping[str, Trace]],
    after: Mapping[str, Mapping[str, Trace]],
    channels: Sequence[str],
    stages: Sequence[str],
    highest: float,
    unit: str,
) -> Plot:
    """Draw the mean power density per stage, a panel per channel.

    Parameters
    ----------
    before, after
        Channel to stage to frequency (Hz) and density (dB); `before` may lack channels.
    channels, stages
        Names, in the order in which they are drawn.
    highest
        Largest frequency that is drawn, Hz.
    unit
        Unit of the density, with its reference.
    """
    columns = min(2, len(channels))
    rows = -(-len(channels) // columns)

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, channel in zip(grid, channels, strict=False):
            for spectra, dashes, width in ((before, ":", 1.3), (after, "-", 1.6)):
                for stage, trace in spectra.get(channel, {}).items():
                    shade = palette.stage(stage)
                    axes.plot(*trace, dashes, color=shade, linewidth=width)
            axes.set(title=channel, xlim=(0, highest))
        for axes in grid[len(channels) :]:
            axes.set_visible(False)
        figure.supxlabel("frequency, Hz", fontsize=11, color=palette["muted"])
        figure.supylabel(f"power density, {unit}", fontsize=11, color=palette["muted"])
        figure.legend(
            *_key(palette, stages, with_before=bool(before)), loc="outside upper center", ncols=8
        )

    description = f"Power density of {', '.join(channels)} in the stages {', '.join(stages)}"
    return Plot(draw, (9.0, 0.7 + 2.3 * rows), description)


def _key(
    palette: Palette, stages: Sequence[str], *, with_before: bool
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=palette.stage(s), linewidth=3) for s in stages]
    if not with_before:
        return lines, list(stages)
    lines += [
        Line2D([], [], color=palette["ink"], linestyle=":"),
        Line2D([], [], color=palette["ink"]),
    ]
    return lines, [*stages, "before", "after preprocessing"]
