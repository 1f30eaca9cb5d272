"""What a model makes of the epochs: their embedding, and the weights of the modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import MARKERS, Palette, Plot

Points = npt.NDArray[np.float32]


def plot_embedding(
    panels: Mapping[str, Points], stage: npt.NDArray[np.int8], stages: Sequence[str]
) -> Plot:
    """Draw epochs as points in a plane, coloured by their scored stage.

    Parameters
    ----------
    panels
        Title of the panel to (epochs, 2) coordinates.
    stage
        (epochs,) index into `stages`.
    stages
        Stage names.
    """

    def draw(figure: Any, palette: Palette) -> None:
        grid = np.atleast_1d(figure.subplots(1, len(panels)))
        for axes, (title, points) in zip(grid, panels.items(), strict=True):
            for i, name in enumerate(stages):
                x, y = points[stage == i].T
                axes.scatter(x, y, s=15, color=palette.stage(name), marker=MARKERS[i], linewidths=0)
            axes.set_title(title)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        handles = [_handle(palette.stage(n), MARKERS[i]) for i, n in enumerate(stages)]
        figure.legend(handles, list(stages), loc="outside upper center", ncols=len(stages))

    description = f"{len(stage)} epochs as points, coloured by stage: {' and '.join(panels)}"
    return Plot(draw, (9.0, 4.0), description)


def _handle(colour: str, marker: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7)


def plot_modality_weights(table: Mapping[str, Points], modalities: Sequence[str]) -> Plot:
    """Draw the weight of every modality per stage: median and quartiles.

    Parameters
    ----------
    table
        Stage to (epochs, modalities) weights of the modal-wise SE block, 0 to 1.
    modalities
        Names of the modalities, in the order of the columns.
    """
    nothing = np.full((3, len(modalities)), np.nan)
    spread = {
        name: np.percentile(v, (25, 50, 75), axis=0) if len(v) else nothing
        for name, v in table.items()
    }

    def draw(figure: Any, palette: Palette) -> None:
        axes = figure.subplots()
        for i, name in enumerate(modalities):
            x = np.arange(len(spread)) + (i - (len(modalities) - 1) / 2) * 0.15
            low, middle, high = np.stack([s[:, i] for s in spread.values()], 1)
            axes.vlines(x, low, high, color=palette.series(i), linewidth=2)
            axes.plot(x, middle, MARKERS[i % len(MARKERS)], color=palette.series(i), label=name)
        axes.set_xticks(range(len(spread)), list(spread))
        axes.set(ylabel="weight", ylim=(0, None))
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper center", ncols=len(modalities))

    medians = "; ".join(
        f"{stage}: " + ", ".join(f"{n} {s[1, i]:.2f}" for i, n in enumerate(modalities))
        for stage, s in spread.items()
    )
    return Plot(draw, (9.0, 3.0), f"Median weight of the modalities per stage. {medians}")
