"""Calibration, and agreement of sleep statistics (Bland and Altman)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import MARKERS, Ink, Plot

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """Epochs grouped by the probability of the predicted stage.

    Parameters
    ----------
    confidence, accuracy
        (bins,) mean probability and share of right predictions; NaN where a bin is empty.
    count
        (bins,) epochs.
    """

    confidence: Values = field(repr=False)
    accuracy: Values = field(repr=False)
    count: npt.NDArray[np.int64] = field(repr=False)


def reliability(bins: Mapping[str, Bins]) -> Plot:
    """Draw share of right predictions over predicted probability, and how many epochs are where.

    Parameters
    ----------
    bins
        By name of the curve, for example "as predicted".
    """

    def draw(figure: Any, ink: Ink) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        left.plot([0, 1], [0, 1], ":", color=ink["muted"], linewidth=1.2, label="perfect")
        for i, (name, b) in enumerate(bins.items()):
            there, shade = b.count > 0, ink.series(i)
            marked = {"marker": MARKERS[i], "markersize": 5, "color": shade, "linewidth": 1.6}
            left.plot(b.confidence[there], b.accuracy[there], label=name, **marked)
            edges = np.linspace(0, 1, len(b.count) + 1)
            share = 100 * b.count / max(int(b.count.sum()), 1)
            right.stairs(
                share, edges, color=shade, linewidth=1.6, label=name, linestyle="-:"[i % 2]
            )
        lowest = min((float(np.nanmin(b.confidence)) for b in bins.values()), default=0.0)
        low = max(0.0, np.floor(10 * lowest) / 10)
        left.set(
            xlim=(low, 1.02),
            ylim=(0, 1.02),
            xlabel="probability of the predicted stage",
            title="Share of right predictions",
        )
        right.set(xlim=(low, 1.02), xlabel="probability of the predicted stage")
        right.set_title("Epochs, %")
        left.legend(loc="upper left")

    said = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{c:.0%} right {a:.0%}"
            for c, a, n in zip(b.confidence, b.accuracy, b.count, strict=True)
            if n
        )
        for name, b in bins.items()
    )
    return Plot(draw, (9.0, 3.2), f"Reliability diagram. Predicted probability and {said}")


@dataclass(frozen=True)
class Agreement:
    """Two methods measuring the same, a point per recording (Bland and Altman).

    Parameters
    ----------
    name, unit
        Of what is measured.
    truth, predicted
        (recordings,); NaN where undefined.
    bias, low, high
        Mean difference and limits of agreement, predicted - truth; each may come with the ends of
        its 95 % interval.
    """

    name: str
    unit: str
    truth: Values = field(repr=False)
    predicted: Values = field(repr=False)
    bias: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def bland_altman(panels: Sequence[Agreement]) -> Plot:
    """Draw difference over mean of truth and prediction, a panel per statistic."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)

    def draw(figure: Any, ink: Ink) -> None:
        grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axes, p in zip(grid, panels, strict=False):
            mean, difference = (p.truth + p.predicted) / 2, p.predicted - p.truth
            for (value, low, high), dashes in ((p.low, "--"), (p.bias, "-"), (p.high, "--")):
                axes.axhline(value, color=ink["accent"], linestyle=dashes, linewidth=1.4)
                if np.isfinite([low, high]).all():
                    axes.axhspan(low, high, color=ink["accent"], alpha=0.13, linewidth=0)
            axes.axhline(0, color=ink["muted"], linewidth=0.8)
            axes.scatter(mean, difference, s=18, color=ink["ink"], alpha=0.75, linewidths=0)
            axes.set_title(f"{p.name}, {p.unit}" if p.unit else p.name)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel("mean of scored and predicted", fontsize=11, color=ink["muted"])
        figure.supylabel("predicted - scored", fontsize=11, color=ink["muted"])

    said = "; ".join(f"{p.name}: bias {p.bias[0]:.3g} {p.unit}" for p in panels)
    return Plot(draw, (9.0, 0.5 + 2.1 * rows), f"Bland-Altman plots. {said}")


def per_bin(
    hours: Values, truth: Values, predicted: Values, stages: Sequence[str], correlation: Values
) -> Plot:
    """Draw minutes of every stage per bin of the recording, scored and predicted (mice).

    Parameters
    ----------
    hours
        (bins,) beginning of each bin, h.
    truth, predicted
        (bins, stages) minutes.
    stages
        Stage names.
    correlation
        (stages,) Pearson's r over all bins.
    """

    def draw(figure: Any, ink: Ink) -> None:
        panels = np.atleast_1d(figure.subplots(1, len(stages)))
        for i, (axes, name) in enumerate(zip(panels, stages, strict=True)):
            axes.plot(hours, truth[:, i], "-o", color=ink["ink"], markersize=4, label="scored")
            axes.plot(
                hours, predicted[:, i], "--s", color=ink["accent"], markersize=4, label="predicted"
            )
            axes.set(title=f"{name}, r = {correlation[i]:.3f}", xlabel="h", ylim=(0, None))
        panels[0].set_ylabel("min per bin")
        panels[0].legend()

    each = ", ".join(f"{n} {r:.3f}" for n, r in zip(stages, correlation, strict=True))
    return Plot(draw, (9.0, 2.8), f"Minutes per bin, scored and predicted; Pearson's r: {each}")
