"""One dot per subject: how much a metric differs between people, and between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sleeptools.report.plots.canvas import MARKERS, Ink, Plot

Values = Sequence[float]
JITTER = 0.26  # rows
GOLDEN = (5**0.5 - 1) / 2  # spreads any number of dots evenly, the same every time


def dots(values: Mapping[str, Values], *, stages: Sequence[str], title: str) -> Plot:
    """Draw a row per metric and a dot per subject in it, with the median.

    Parameters
    ----------
    values
        Name of the row to the subjects' values, fractions of 1; NaN is left out. A row that is
        named as a stage has that stage's colour.
    stages
        Stage names.
    title
        Says whose dots these are.
    """
    known = {name: np.asarray(v, float) for name, v in values.items()}
    known = {name: v[np.isfinite(v)] for name, v in known.items()}

    def draw(figure: Any, ink: Ink) -> None:
        axes = figure.subplots()
        for row, (name, v) in enumerate(known.items()):
            shade = ink.stage(name.removeprefix("F1 ")) if _stage(name, stages) else ink["accent"]
            spread = ((np.arange(len(v)) * GOLDEN) % 1 - 0.5) * 2 * JITTER
            axes.scatter(v, row + spread, s=20, color=shade, edgecolors=ink["ink"], linewidths=0.5)
            if len(v):
                middle = float(np.median(v))
                axes.plot([middle] * 2, [row - 0.36, row + 0.36], color=ink["ink"], linewidth=2.2)
        axes.set_yticks(range(len(known)), list(known))
        axes.set(ylim=(len(known) - 0.4, -0.6), xlabel=title)
        lowest = min((float(v.min()) for v in known.values() if len(v)), default=0.0)
        axes.set_xlim(min(0.0, lowest) - 0.02, 1.02)
        axes.grid(visible=False, axis="y")

    each = "; ".join(
        f"{name}: median {np.median(v):.2f}, {v.min():.2f} to {v.max():.2f}" if len(v) else name
        for name, v in known.items()
    )
    return Plot(draw, (9.0, 0.6 + 0.36 * len(known)), f"A dot per subject. {each}")


def _stage(name: str, stages: Sequence[str]) -> bool:
    return name.removeprefix("F1 ") in stages


def models(
    rows: Mapping[str, tuple[float, float, float]], *, title: str, optimistic: frozenset[str]
) -> Plot:
    """Draw one metric of several runs, each with its interval.

    Parameters
    ----------
    rows
        Name of the run to value and ends of its interval; NaN where there is none.
    title
        The metric.
    optimistic
        Rows whose pass was chosen on the scored fold; drawn hollow.
    """

    def draw(figure: Any, ink: Ink) -> None:
        axes = figure.subplots()
        for row, (name, (value, low, high)) in enumerate(rows.items()):
            series = "second" if name in optimistic else "accent"
            axes.plot([low, high], [row, row], color=ink[series], linewidth=1.6)
            face = ink["sheet"] if name in optimistic else ink[series]
            axes.plot(
                [value], [row], MARKERS[0], color=ink[series], markerfacecolor=face, markersize=7
            )
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=title)
        axes.grid(visible=False, axis="y")

    each = "; ".join(f"{name} {value:.3f}" for name, (value, _, _) in rows.items())
    return Plot(draw, (9.0, 0.6 + 0.34 * len(rows)), f"{title}: {each}")


def shares(counts: Mapping[str, Mapping[int, Sequence[int]]], stages: Sequence[str]) -> Plot:
    """Draw the share of every stage, a bar per fold and a panel per split.

    Parameters
    ----------
    counts
        Split to fold to epochs per stage.
    stages
        Stage names.
    """
    folds = sorted({fold for each in counts.values() for fold in each})

    def draw(figure: Any, ink: Ink) -> None:
        panels = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
        for axes, (split, each) in zip(panels, counts.items(), strict=True):
            for row, fold in enumerate(folds):
                of = np.asarray(each.get(fold, [0] * len(stages)), float)
                of = 100 * of / max(of.sum(), 1)
                left = np.concatenate([[0], np.cumsum(of)[:-1]])
                axes.barh(
                    [row] * len(of),
                    of,
                    0.82,
                    left,
                    color=[ink.stage(s) for s in stages],
                    edgecolor=ink["sheet"],
                    linewidth=0.5,
                )
            axes.set(title=split, xlim=(0, 100), ylim=(len(folds) - 0.5, -0.5), xlabel="%")
            axes.grid(visible=False)
        panels[0].set_yticks(range(len(folds)), [f"fold {fold}" for fold in folds])
        handles = [_patch(ink.stage(s)) for s in stages]
        figure.legend(handles, list(stages), loc="outside upper center", ncols=len(stages))

    said = f"Share of the stages {', '.join(stages)} in every fold: {', '.join(counts)}"
    return Plot(draw, (9.0, 1.1 + 0.21 * len(folds)), said)


def _patch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour)
