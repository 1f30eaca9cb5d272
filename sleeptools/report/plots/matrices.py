"""Confusion matrices side by side, and one with the margins that the mouse report draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.report.plots.canvas import Palette, Plot

Counts = npt.NDArray[Any]
DARK: Final = 0.55  # share from which light text reads better on the shade
PER_ROW: Final = 5  # panels
SIDE: Final = 0.66  # of a cell, in the unit of `Plot.size`


def plot_matrices(panels: Mapping[str, Counts | None], stages: Sequence[str]) -> Plot:
    """Draw a panel for each matrix: shares of the true stage as shade and per cent, and counts.

    Parameters
    ----------
    panels
        Title to the matrix (stages, stages), rows truth; None where there is none.
    stages
        Stage names.
    """
    columns = min(len(panels), PER_ROW if len(stages) < 5 else 2)  # noqa: PLR2004 - room for texts
    rows = -(-len(panels) // columns)

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, matrix) in zip(grid, panels.items(), strict=False):
            axes.set_title(title)
            _frame(axes, stages)
            if matrix is None:
                axes.text(
                    0.5, 0.5, "no run given", ha="center", va="center", transform=axes.transAxes
                )
            else:
                _fill(axes, palette, matrix)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel("predicted stage", fontsize=11, color=palette["muted"])
        figure.supylabel("true stage", fontsize=11, color=palette["muted"])

    side = 0.6 + SIDE * len(stages)  # of a panel
    size = (0.3 + side * columns, 0.4 + side * rows)
    return Plot(draw, size, _described(panels, stages))


def _frame(axes: Any, stages: Sequence[str]) -> None:
    ticks = range(len(stages))
    axes.set(xticks=ticks, yticks=ticks, xlim=(-0.5, len(stages) - 0.5))
    axes.set(ylim=(len(stages) - 0.5, -0.5), aspect="equal")
    axes.set_xticklabels(stages, fontsize=9)
    axes.set_yticklabels(stages, fontsize=9)
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _fill(axes: Any, palette: Palette, matrix: Counts) -> None:
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    for (i, j), value in np.ndenumerate(share):
        _box(axes, (j - 0.5, i - 0.5), palette["accent"], 0.04 + 0.96 * value)
        ink = palette["sheet"] if value > DARK else palette["ink"]
        for text, offset in ((f"{100 * value:.1f} %", -0.14), (f"{int(matrix[i, j]):,}", 0.14)):
            axes.text(j, i + offset, text, ha="center", va="center", fontsize=8.5, color=ink)


def _box(axes: Any, corner: tuple[float, float], colour: str, opacity: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=colour, alpha=opacity, linewidth=0))


def _described(panels: Mapping[str, Counts | None], stages: Sequence[str]) -> str:
    texts = []
    for title, matrix in panels.items():
        if matrix is None:
            texts.append(f"{title}: no run")
            continue
        share = np.diag(matrix) / np.maximum(matrix.sum(1), 1)
        right = ", ".join(f"{n} {s:.0%}" for n, s in zip(stages, share, strict=True))
        texts.append(f"{title}: right of the true {right}")
    return f"Confusion matrices. {'; '.join(texts)}"


def plot_margin_matrices(panels: Mapping[str, Counts], stages: Sequence[str]) -> Plot:
    """Draw a panel for each matrix with rows predicted, columns true, and sums as margins.

    In a cell stand the count and its share of all; at the right of a row its sum, the share of it
    that is right (the precision) and that is wrong; below a column likewise (the recall); in the
    corner what is right of all.

    Parameters
    ----------
    panels
        Title to the matrix (stages, stages), rows truth.
    """
    names = [*stages, "SUM"]

    def draw(figure: Any, palette: Palette) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False).ravel()
        for axes, (title, matrix) in zip(grid, panels.items(), strict=True):
            axes.set_title(title)
            _frame(axes, names)
            axes.set(xlabel="true stage", ylabel="predicted stage")
            for (i, j), lines in margin_cells(matrix).items():
                inside = i < len(stages) and j < len(stages)
                colour = palette["third"] if inside and i == j else palette["second"]
                _box(axes, (j - 0.48, i - 0.48), colour if inside else palette["line"], 0.3)
                _lines(axes, palette, (j, i), lines, (not inside, 10 if len(panels) == 1 else 7.5))

    size = (9.0 if len(panels) > 1 else 5.2, 4.6)
    texts = [
        f"{title}: {np.trace(m):,} of {m.sum():,} right, {np.trace(m) / m.sum():.2%}"
        for title, m in panels.items()
    ]
    return Plot(draw, size, f"Confusion matrices with margins. {'; '.join(texts)}")


def margin_cells(matrix: Counts) -> dict[tuple[int, int], tuple[str, ...]]:
    """Write the cells of a matrix with margins: by row (predicted) and column (true), its lines."""
    turned, total = np.asarray(matrix).T, max(int(np.sum(matrix)), 1)
    count = len(turned)
    right = np.diag(turned)
    cells: dict[tuple[int, int], tuple[str, ...]] = {
        (i, j): (f"{int(turned[i, j]):,}", f"{100 * turned[i, j] / total:.2f} %")
        for i in range(count)
        for j in range(count)
    }
    for i in range(count):
        cells[i, count] = _margin(int(turned[i].sum()), int(right[i]))
        cells[count, i] = _margin(int(turned[:, i].sum()), int(right[i]))
    share = 100 * right.sum() / total
    corner = f"{int(right.sum()):,} / {total:,}"
    cells[count, count] = (corner, f"{share:.2f} %", f"{100 - share:.2f} %")
    return cells


def _margin(total: int, right: int) -> tuple[str, ...]:
    share = 100 * right / max(total, 1)
    return (f"{total:,}", f"{share:.2f} %", f"{100 - share:.2f} %")


def _lines(
    axes: Any,
    palette: Palette,
    position: tuple[int, int],
    lines: Sequence[str],
    kind: tuple[bool, float],
) -> None:
    """Write the lines of a cell; in a margin the right share in green, the wrong one in orange."""
    margin, size = kind
    step = 0.22
    top = position[1] - step * (len(lines) - 1) / 2
    colours = ("ink", "third", "second") if margin else ("ink", "ink")
    for k, text in enumerate(lines):
        axes.text(
            position[0],
            top + step * k,
            text,
            ha="center",
            va="center",
            fontsize=size,
            color=palette[colours[k]],
        )
