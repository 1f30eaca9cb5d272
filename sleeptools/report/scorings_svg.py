"""The scorings of a night as an SVG: a hypnogram each, one below the other on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.common_grid import AlignedScorings
from sleeptools.recording.hypnogram import seconds_of_day
from sleeptools.recording.stages import UNSCORED
from sleeptools.report import markup
from sleeptools.report.colours import ACCENT, INK, SECOND, STAGE_ORDER, THIRD, WRONG
from sleeptools.report.hypnogram_figure import LONGEST_CLOCK
from sleeptools.report.markup import Markup
from sleeptools.report.svg import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    HypnogramNight,
    boxes_over,
    grid_line,
    hour_axis,
    step_lines,
    text_label,
    timed_drawing,
)

ROW: Final = 13  # user units of the SVG
HEAD: Final = 18  # above each hypnogram, for its name
STRIP: Final = 8  # height of the marks below
SHADES: Final = (ACCENT, SECOND, THIRD, INK)


def scorings_svg(night: str, aligned: AlignedScorings) -> Markup:
    """Draw the scorings of a night, and below them the epochs in which not all agree."""
    order = [name for name in STAGE_ORDER if name in aligned.names]
    order += [name for name in aligned.names if name not in order]
    rows = np.array([order.index(name) for name in aligned.names])
    count = aligned.stages.shape[1]
    high = HEAD + ROW * len(order) + 6
    content: list[Markup] = []
    timed: list[Markup] = []
    for number, (name, stages) in enumerate(zip(aligned.scorings, aligned.stages, strict=True)):
        top = TOP - HEAD + 4 + number * high
        shade = SHADES[number % len(SHADES)]
        content += _frame(name, order, top + HEAD, shade)
        scored = np.flatnonzero(stages != UNSCORED)
        if len(scored):
            drawn = rows[stages[scored]]
            timed += step_lines(scored, drawn, shade, 0.0, top=top + HEAD, height=ROW)
    strip = TOP - HEAD + 4 + len(aligned.scorings) * high + 4
    differ = _differing(aligned)
    timed.append(markup.element("path", d=boxes_over(differ, strip, STRIP), style=f"fill:{WRONG}"))
    content.append(text_label(LEFT - 6, strip + 8, "differ", anchor="end"))
    height = strip + STRIP + 34
    axis = _axis_night(aligned, count)
    labels = "time of day" if axis.clock is not None else "h:min from the start"
    content += [
        hour_axis(axis, strip + STRIP),
        text_label(WIDTH - RIGHT, height - 3, labels, anchor="end"),
        timed_drawing(timed, count, height),
    ]
    total = int(aligned.scored.sum())
    description = (
        f"Scorings of {night}: {', '.join(aligned.scorings)}; of {total} epochs that all scored, "
        f"{len(differ)} differ"
    )
    attributes = {
        "data_start": f"{axis.begin + (axis.clock or 0):.9g}",
        "data_epoch": f"{aligned.epoch_seconds:g}",
        "data_day": "" if axis.clock is None else "86400",
    }
    return markup.svg_element(content, WIDTH, height, description, class_="night", **attributes)


def _frame(name: str, order: Sequence[str], top: float, shade: str) -> list[Markup]:
    """Name of a scoring, and its stages with a line each."""
    content = [text_label(LEFT + 2, top - 4, name, fill=shade)]
    for row, stage in enumerate(order):
        y = top + ROW * (row + 0.5)
        content += [
            grid_line(LEFT, y, WIDTH - RIGHT, y),
            text_label(LEFT - 6, y + 4, stage, anchor="end"),
        ]
    return content


def _differing(aligned: AlignedScorings) -> npt.NDArray[np.int64]:
    """Numbers of the epochs that all scored, and not alike."""
    alike = (aligned.stages == aligned.stages[:1]).all(0)
    return np.flatnonzero(aligned.scored & ~alike)


def _axis_night(aligned: AlignedScorings, count: int) -> HypnogramNight:
    """Make a night that has nothing but its time axis."""
    nothing: npt.NDArray[Any] = np.empty(0)
    seconds = count * aligned.epoch_seconds
    clock = None
    if aligned.begin is not None and seconds <= LONGEST_CLOCK:
        clock = seconds_of_day(aligned.begin) - aligned.onset
    span = (aligned.onset, aligned.onset + seconds)
    return HypnogramNight(
        "", aligned.names, None, nothing, nothing, nothing, aligned.epoch_seconds, span, clock
    )
