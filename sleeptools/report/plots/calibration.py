"""Reliability diagram: how often a stage predicted with some probability is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import MARKERS, Palette, Plot

LEAST_EPOCHS = 20
"""Bins with fewer epochs are not drawn: a share of so few is chance."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBins:
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


def plot_reliability(bins: Mapping[str, ReliabilityBins]) -> Plot:
    """Draw the share of right predictions and the epochs over the predicted probability.

    Parameters
    ----------
    bins
        Name of the curve, for example "as predicted", to its bins.
    """

    def draw(figure: Any, palette: Palette) -> None:
        shares, counts = figure.subplots(1, 2, width_ratios=(1, 1.25))
        shares.plot([0, 1], [0, 1], ":", color=palette["muted"], linewidth=1.2, label="perfect")
        for i, (name, b) in enumerate(bins.items()):
            filled, shade = b.count >= LEAST_EPOCHS, palette.series(i)
            style = {"marker": MARKERS[i], "markersize": 5, "color": shade, "linewidth": 1.6}
            shares.plot(b.confidence[filled], b.accuracy[filled], label=name, **style)
            edges = np.linspace(0, 1, len(b.count) + 1)
            share = 100 * b.count / max(int(b.count.sum()), 1)
            counts.stairs(
                share, edges, color=shade, linewidth=1.6, label=name, linestyle="-:"[i % 2]
            )
        lowest = min((float(np.nanmin(b.confidence)) for b in bins.values()), default=0.0)
        low = max(0.0, np.floor(10 * lowest) / 10)
        shares.set(
            xlim=(low, 1.02),
            ylim=(0, 1.02),
            xlabel="probability of the predicted stage",
            title="Share of right predictions",
        )
        counts.set(xlim=(low, 1.02), xlabel="probability of the predicted stage")
        counts.set_title("Epochs, %")
        shares.legend(loc="upper left")

    curves = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{c:.0%} right {a:.0%}"
            for c, a, n in zip(b.confidence, b.accuracy, b.count, strict=True)
            if n
        )
        for name, b in bins.items()
    )
    return Plot(draw, (9.0, 3.2), f"Reliability diagram. Predicted probability and {curves}")
