"""Share of every stage in the training, validation and test epochs of each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sleeptools.report.plots.canvas import Palette, Plot


def plot_stage_shares(
    counts: Mapping[str, Mapping[int, Sequence[int]]], stages: Sequence[str]
) -> Plot:
    """Draw the share of every stage, a bar per fold and a panel per split.

    Parameters
    ----------
    counts
        Split to fold to epochs per stage.
    stages
        Stage names.
    """
    folds = sorted({fold for by_fold in counts.values() for fold in by_fold})

    def draw(figure: Any, palette: Palette) -> None:
        panels = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
        for axes, (split, by_fold) in zip(panels, counts.items(), strict=True):
            for row, fold in enumerate(folds):
                epochs = np.asarray(by_fold.get(fold, [0] * len(stages)), float)
                shares = 100 * epochs / max(epochs.sum(), 1)
                axes.barh(
                    [row] * len(shares),
                    shares,
                    0.82,
                    np.concatenate([[0], np.cumsum(shares)[:-1]]),
                    color=[palette.stage(s) for s in stages],
                    edgecolor=palette["sheet"],
                    linewidth=0.5,
                )
            axes.set(title=split, xlim=(0, 100), ylim=(len(folds) - 0.5, -0.5), xlabel="%")
            axes.grid(visible=False)
        panels[0].set_yticks(range(len(folds)), [f"fold {fold}" for fold in folds])
        handles = [_stage_patch(palette.stage(s)) for s in stages]
        figure.legend(handles, list(stages), loc="outside upper center", ncols=len(stages))

    description = f"Share of the stages {', '.join(stages)} in every fold: {', '.join(counts)}"
    return Plot(draw, (9.0, 1.1 + 0.21 * len(folds)), description)


def _stage_patch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour)
