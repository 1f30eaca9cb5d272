"""Drawings written as SVG are the same on paper."""

import io

import numpy as np
import pytest

from sleeptools.report import colours
from sleeptools.report.plots.drawings import drawing_plot, path_points
from sleeptools.report.svg import HypnogramNight, confusion_svg, hypnogram_svg


def pixels(plot):
    from matplotlib.image import imread

    drawn = 255 * imread(io.BytesIO(plot.png()))[..., :3]
    height, width = (round(100 * n) for n in plot.size[::-1])  # one for each unit of the drawing
    rows = np.arange(height) * len(drawn) // height
    columns = np.arange(width) * drawn.shape[1] // width
    return drawn[rows][:, columns]


def test_a_path_of_straight_lines_is_followed():
    points, codes = path_points("M1 2H4V.5h-1v2L-1 0zM0 0h1e1")
    expected = [(1, 2), (4, 2), (4, 0.5), (3, 0.5), (3, 2.5), (-1, 0), (1, 2), (0, 0), (10, 0)]
    assert points.tolist() == [list(map(float, pair)) for pair in expected]
    assert codes.tolist() == [1, 2, 2, 2, 2, 2, 79, 1, 2]


def test_a_matrix_is_shaded_where_it_is_in_the_svg():
    plot = drawing_plot(confusion_svg(np.array([[90, 10], [0, 100]]), ("W", "REM"), "x"))
    drawn = pixels(plot)
    assert drawn.shape[:2] == (202, 236)
    shade = np.array([int(colours.fixed_colours(colours.SHADE)[i : i + 2], 16) for i in (1, 3, 5)])
    cells = [drawn[60 + 74 * i, 90 + 74 * j] for i in range(2) for j in range(2)]
    weights = [0.04 + 0.96 * share for share in (0.9, 0.1, 0, 1)]
    for cell, weight in zip(cells, weights, strict=True):
        assert cell == pytest.approx(weight * shade + (1 - weight) * 255, abs=2)
    assert plot.pdf().startswith(b"%PDF-")


def test_a_hypnogram_has_its_probabilities_and_differences():
    stages = np.repeat([0, 1], 50)
    predicted = np.where(np.arange(100) < 10, 1, stages)
    night = HypnogramNight(
        "a $night$",
        ("W", "REM"),
        stages,
        predicted,
        np.eye(2)[predicted],
        30.0 * np.arange(100),
    )
    drawn = pixels(drawing_plot(hypnogram_svg(night)))
    density = 24 + 2 * 26 + 6 + 22 + 8 + 50  # rows from the top to the middle of the hypnodensity
    rgb = [tuple(int(colours.STAGES[s][i : i + 2], 16) for i in (1, 3, 5)) for s in ("W", "REM")]
    assert drawn[density, 400] == pytest.approx(rgb[0], abs=3)  # scored and predicted W
    assert drawn[density, 60] == pytest.approx(rgb[1], abs=3)
    assert drawn[density, 900] == pytest.approx(rgb[1], abs=3)
    differs = 24 + 2 * 26 + 10
    wrong = [int(colours.fixed_colours(colours.WRONG)[i : i + 2], 16) for i in (1, 3, 5)]
    assert drawn[differs, 90] == pytest.approx(wrong, abs=3)
    assert drawn[differs, 400] == pytest.approx([255] * 3, abs=3)
