"""Sleep statistics of every night after Bland and Altman, and the stages over a mouse's day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.numbers import interval_number, is_missing
from sleeptools.report.plots.canvas import Palette, Plot

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AgreementPanel:
    """One quantity as scored and as predicted, a point per recording.

    Parameters
    ----------
    name, unit
        Name and unit of the quantity.
    truth, predicted
        (recordings,); NaN where undefined.
    bias, low, high
        Mean difference and limits of agreement, predicted less scored, each with the ends of its
        95 % interval; NaN where it has none.
    """

    name: str
    unit: str
    truth: Values = field(repr=False)
    predicted: Values = field(repr=False)
    bias: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def plot_bland_altman(
    panels: Sequence[AgreementPanel], sides: tuple[str, str] = ("scored", "predicted")
) -> Plot:
    """Draw difference over mean of truth and prediction (Bland and Altman), a panel each.

    Parameters
    ----------
    sides
        What truth and prediction are called below the figure.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)

    def draw(figure: Any, palette: Palette) -> None:
        grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axes, p in zip(grid, panels, strict=False):
            mean, difference = (p.truth + p.predicted) / 2, p.predicted - p.truth
            for (value, low, high), dashes in ((p.low, "--"), (p.bias, "-"), (p.high, "--")):
                axes.axhline(value, color=palette["accent"], linestyle=dashes, linewidth=1.4)
                if np.isfinite([low, high]).all():
                    axes.axhspan(low, high, color=palette["accent"], alpha=0.13, linewidth=0)
            axes.axhline(0, color=palette["muted"], linewidth=0.8)
            axes.scatter(mean, difference, s=18, color=palette["ink"], alpha=0.75, linewidths=0)
            axes.set_title(f"{p.name}, {p.unit}" if p.unit else p.name)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel(f"mean of {sides[0]} and {sides[1]}", fontsize=11, color=palette["muted"])
        figure.supylabel(f"{sides[1]} - {sides[0]}", fontsize=11, color=palette["muted"])

    biases = "; ".join(f"{p.name}: bias {p.bias[0]:.3g} {p.unit}" for p in panels)
    return Plot(draw, (9.0, 0.5 + 2.1 * rows), f"Bland-Altman plots. {biases}")


def plot_day(
    hours: Values,
    truth: Values,
    predicted: Values,
    stages: Sequence[str],
    correlation: Sequence[float | None],
) -> Plot:
    """Draw minutes of every stage per bin of the recording, scored and predicted (mice).

    Parameters
    ----------
    hours
        (bins,) start of each bin, h from the start of the recording.
    truth, predicted
        (bins, stages) minutes scored and predicted.
    stages
        Stage names.
    correlation
        (stages,) Pearson's r over all bins; None where it is undefined.
    """

    def draw(figure: Any, palette: Palette) -> None:
        panels = np.atleast_1d(figure.subplots(1, len(stages)))
        for i, (axes, name) in enumerate(zip(panels, stages, strict=True)):
            axes.plot(hours, truth[:, i], "-o", color=palette["ink"], markersize=4, label="scored")
            axes.plot(
                hours,
                predicted[:, i],
                "--s",
                color=palette["accent"],
                markersize=4,
                label="predicted",
            )
            r = correlation[i]
            title = name if is_missing(r) else f"{name}, r = {r:.3f}"
            axes.set(title=title, xlabel="h", ylim=(0, None))
        panels[0].set_ylabel("min per bin")
        panels[0].legend()

    values = ", ".join(
        f"{name} {interval_number(r, None, None)}"
        for name, r in zip(stages, correlation, strict=True)
    )
    return Plot(draw, (9.0, 2.8), f"Minutes per bin, scored and predicted; Pearson's r: {values}")
