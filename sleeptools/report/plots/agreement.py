"""Agreement of scorings over the night, a line for each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sleeptools.report.plots.canvas import MARKERS, Palette, Plot


def plot_hours(shares: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Plot:
    """Draw the share of epochs that agree in each hour.

    Parameters
    ----------
    shares
        Hours from the beginning and shares in them, fractions of 1, by pair.
    """

    def draw(figure: Any, palette: Palette) -> None:
        axes = figure.subplots()
        for number, (pair, (hours, values)) in enumerate(shares.items()):
            marker = MARKERS[number % len(MARKERS)]
            percent = [100 * value for value in values]
            shade = palette.series(number)
            axes.plot(hours, percent, marker=marker, color=shade, markersize=5, label=pair)
        axes.set(xlabel="hour of the night", ylabel="epochs that agree, %", ylim=(None, 101))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()

    ranges = "; ".join(
        f"{pair}: {100 * min(values):.0f} to {100 * max(values):.0f} %"
        for pair, (_, values) in shares.items()
    )
    return Plot(draw, (9.0, 3.0), f"Epochs that agree, by hour. {ranges}")
