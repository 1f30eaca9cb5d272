"""Figures written as SVG: the hypnogram over its hypnodensity, and the confusion matrix.

They are inlined in the report: colours come from its CSS variables, with a fallback, so that they
follow light and dark. The hypnogram is not drawn by matplotlib, because there is one per night and
it must be small and sharp at any zoom: all that depends on time lies in an inner drawing whose unit
is the epoch, so that zooming is a change of its `viewBox`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.report import colours, markup
from sleeptools.report.colours import ACCENT, GRID, INK, MUTED, SHADE, STAGE_ORDER, WRONG
from sleeptools.report.markup import Markup

MOST_COLUMNS: Final = 1440  # of a hypnodensity; more epochs than this are averaged
HEIGHT_STEPS: Final = 100  # steps of a probability's height


@dataclass(frozen=True)
class HypnogramNight:
    """A night as a hypnogram figure shows it.

    Parameters
    ----------
    label
        Name of the recording.
    names
        Stage names.
    truth, predicted
        (epochs,) int, index into `names`; no truth where nobody scored the night.
    probabilities
        (epochs, stages) float.
    onset
        (epochs,) float, s from the start of the recording; gaps are left open.
    epoch_seconds
        Length of an epoch, s.
    span
        Begin and end of what is drawn, s; from the first to the last epoch if left out.
    clock
        Time of day at which the recording starts, s after midnight, to write times of day below
        the figure; hours since the start if None.
    """

    label: str
    names: tuple[str, ...]
    truth: npt.NDArray[Any] | None = field(repr=False)
    predicted: npt.NDArray[Any] = field(repr=False)
    probabilities: npt.NDArray[Any] = field(repr=False)
    onset: npt.NDArray[np.float64] = field(repr=False)
    epoch_seconds: float = 30.0
    span: tuple[float, float] | None = None
    clock: float | None = None

    @property
    def begin(self) -> float:
        """Begin of what is drawn, s from the start of the recording."""
        return float(self.onset[0]) if self.span is None else self.span[0]

    @property
    def slots(self) -> npt.NDArray[np.int64]:
        """(epochs,) index of each epoch on the regular grid of what is drawn."""
        slots = np.rint((self.onset - self.begin) / self.epoch_seconds)
        return np.asarray(slots, np.int64)

    @property
    def count(self) -> int:
        """Number of epochs on the grid."""
        if self.span is None:
            return int(self.slots[-1]) + 1
        return round((self.span[1] - self.span[0]) / self.epoch_seconds)


@dataclass(frozen=True)
class SpectrogramPicture:
    """A spectrogram below a hypnogram.

    Parameters
    ----------
    label
        Name of the signal.
    uri
        The picture, a column per epoch of what is drawn, as a data URI.
    highest
        Frequency at its top, Hz; 0 Hz is at its bottom.
    """

    label: str
    uri: str = field(repr=False)
    highest: float


# --- hypnogram ------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT = 960, 52, 16  # user units of the SVG
ROW, TOP, GAP, DENSITY, PICTURE = 26, 24, 22, 104, 90
HOUR_STEPS: Final = (1 / 60, 1 / 12, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48)  # h between labels
MOST_TICKS: Final = 13
FIXED: Final = "non-scaling-stroke"  # lines keep their width while time is stretched


def hypnogram_svg(night: HypnogramNight, spectrograms: Sequence[SpectrogramPicture] = ()) -> Markup:
    """Draw one night: the stages as step lines, the hypnodensity, and spectrograms below.

    Where there is a truth, it is drawn beside the prediction, with the epochs that differ.

    Returns
    -------
    svg
        Stages from W at the top to N3, time in hours from the start of the recording, or of day.
    """
    order = [name for name in STAGE_ORDER if name in night.names]
    order += [name for name in night.names if name not in order]
    row = np.array([order.index(name) for name in night.names])
    slots = night.slots
    strip = TOP + ROW * len(order) + 6
    density = strip + GAP + (8 if night.truth is not None else 0)
    pictures = density + DENSITY + GAP
    bottom = density + DENSITY + len(spectrograms) * (GAP + PICTURE)
    height = bottom + 34
    offset = 0.0 if night.truth is None else 4.0
    timed = step_lines(slots, row[night.predicted], ACCENT, offset)
    axis = "h:min from the start of the recording" if night.clock is None else "time of day"
    labels = [
        text_label(LEFT - 6, density + 10, "100 %", anchor="end"),
        text_label(LEFT - 6, density + DENSITY, "0 %", anchor="end"),
        text_label(WIDTH - RIGHT, height - 3, axis, anchor="end"),
    ]
    if night.truth is not None:
        wrong = np.flatnonzero(night.truth != night.predicted)
        timed += step_lines(slots, row[night.truth], INK, 0.0)
        timed.append(
            markup.element("path", d=boxes_over(slots[wrong], strip, 8), style=f"fill:{WRONG}")
        )
        labels += [*_legend(), text_label(LEFT - 6, strip + 7, "differs", anchor="end")]
        agreed = 1 - len(wrong) / len(slots)
        summary = f"scored and predicted stage agree in {agreed:.1%}"
    else:
        summary = ", ".join(
            f"{name} {share:.1%}"
            for name, share in zip(
                night.names,
                np.bincount(night.predicted, minlength=len(night.names)) / len(slots),
                strict=True,
            )
        )
    timed.append(_density(night, order, slots, density))
    for number, picture in enumerate(spectrograms):
        top = pictures + number * (GAP + PICTURE)
        timed.append(_picture(picture, night.count, top))
        labels += _picture_labels(picture, top)
    content = [
        *_rows(order),
        hour_axis(night, bottom),
        *labels,
        timed_drawing(timed, night.count, height),
    ]
    description = (
        f"Hypnogram of {night.label}: {len(slots)} epochs of {night.epoch_seconds:g} s; {summary}"
    )
    attributes = {
        "data_start": f"{night.begin + (night.clock or 0):.9g}",
        "data_epoch": f"{night.epoch_seconds:g}",
        "data_day": "" if night.clock is None else "86400",
    }
    return markup.svg_element(content, WIDTH, height, description, class_="night", **attributes)


def _picture(picture: SpectrogramPicture, width: int, top: float) -> Markup:
    return markup.element(
        "image",
        href=picture.uri,
        x=0,
        y=f"{top:g}",
        width=width,
        height=PICTURE,
        preserveAspectRatio="none",
    )


def _picture_labels(picture: SpectrogramPicture, top: float) -> list[Markup]:
    """Frequencies on the left of a spectrogram, and its signal above it."""
    labels = [text_label(LEFT + 2, top - 4, f"{picture.label}, Hz", fill=INK)]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if picture.highest / s <= 4)  # noqa: PLR2004
    for hertz in range(0, int(picture.highest) + 1, step):
        y = top + PICTURE * (1 - hertz / picture.highest)
        labels.append(text_label(LEFT - 6, y + 4, f"{hertz}", anchor="end"))
    return labels


def text_label(
    x: float, y: float, value: str, *, anchor: str = "start", fill: str = MUTED
) -> Markup:
    """Write a text in small type."""
    return markup.element(
        "text",
        markup.escape(value),
        x=f"{x:.4g}",
        y=f"{y:.4g}",
        text_anchor=anchor,
        font_size=11,
        style=f"fill:{fill}",
    )


def grid_line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Draw a line of the grid."""
    return markup.element("path", d=f"M{x1:.4g} {y1:.4g}L{x2:.4g} {y2:.4g}", style=f"stroke:{GRID}")


def _rows(order: Sequence[str]) -> Iterator[Markup]:
    """Stage names with a line and a swatch of their colour each."""
    for i, name in enumerate(order):
        y = TOP + ROW * (i + 0.5)
        yield grid_line(LEFT, y, WIDTH - RIGHT, y)
        yield text_label(LEFT - 16, y + 4, name, anchor="end", fill=INK)
        yield markup.element(
            "rect",
            x=LEFT - 12,
            y=f"{y - 5:g}",
            width=7,
            height=10,
            rx=1.5,
            style=f"fill:{colours.stage_colour(name)}",
        )


def timed_drawing(shapes: Iterable[Markup], epochs: int, height: float) -> Markup:
    """Stretch shapes whose x counts epochs over the width of the time axis, which can be zoomed."""
    return markup.element(
        "svg",
        *shapes,
        class_="time",
        x=LEFT,
        y=0,
        width=WIDTH - LEFT - RIGHT,
        height=height,
        viewBox=f"0 0 {epochs} {height}",
        preserveAspectRatio="none",
    )


def hour_axis(night: HypnogramNight, bottom: float) -> Markup:
    """Grid lines and labels on whole hours of the recording or the day, or parts of them."""
    start = (night.begin + (night.clock or 0)) / 3600
    span = night.count * night.epoch_seconds / 3600
    step = next((s for s in HOUR_STEPS if span / s <= MOST_TICKS), HOUR_STEPS[-1])
    content: list[Markup] = []
    for hour in np.arange(np.ceil(start / step) * step, start + span + 1e-9, step):
        x = LEFT + (hour - start) / span * (WIDTH - LEFT - RIGHT)
        minutes = round(60 * hour)
        if night.clock is not None:
            minutes %= 24 * 60
        clock = f"{minutes // 60}:{minutes % 60:02d}"
        content += [
            grid_line(x, TOP, x, bottom + 4),
            text_label(x, bottom + 17, clock, anchor="middle"),
        ]
    attributes = {"data_left": LEFT, "data_top": TOP, "data_bottom": f"{bottom:g}"}
    return markup.element("g", *content, class_="hours", **attributes)


def _legend() -> Iterator[Markup]:
    for x, fill, name in ((LEFT, INK, "scored (truth)"), (LEFT + 110, ACCENT, "predicted")):
        yield markup.element("path", d=f"M{x} 9h18", style=f"stroke:{fill};stroke-width:2.5")
        yield text_label(x + 23, 13, name, fill=INK)


def _runs(slots: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> Iterator[tuple[int, int, Any]]:
    """Stretches of equal value without a gap: first slot, slot after the last, value."""
    breaks = np.flatnonzero((np.diff(values) != 0) | (np.diff(slots) != 1)) + 1
    for start, stop in pairwise([0, *breaks.tolist(), len(slots)]):
        yield int(slots[start]), int(slots[stop - 1]) + 1, values[start]


def step_lines(
    slots: npt.NDArray[np.int64],
    rows: npt.NDArray[Any],
    stroke: str,
    lower: float,
    *,
    top: float = TOP,
    height: float = ROW,
) -> list[Markup]:
    """Draw stages as bold lines and the changes between them as fine ones; gaps stay open.

    Parameters
    ----------
    slots, rows
        (epochs,) place on the grid, and the row of the stage.
    lower
        How far below the middle of its row a line lies.
    top, height
        Top of the first row, and height of each.
    """
    bold, fine, end = [], [], -1
    for start, stop, row in _runs(slots, rows):
        y = top + height * (row + 0.5) + lower
        fine.append(f"V{y:g}" if start == end else f"M{start} {y:g}")
        fine.append(f"H{stop}")
        bold.append(f"M{start} {y:g}H{stop}")
        end = stop
    style = f"stroke:{stroke};fill:none"
    widths = ((fine, "stroke-width:.7;stroke-opacity:.55"), (bold, "stroke-width:2.4"))
    return [
        markup.element("path", d="".join(path), style=f"{style};{width}", vector_effect=FIXED)
        for path, width in widths
    ]


def boxes_over(slots: npt.NDArray[np.int64], top: float, height: float) -> str:
    """Boxes over stretches of slots."""
    if not len(slots):
        return f"M0 {top}"
    spans = _runs(slots, np.zeros(len(slots), int))
    return "".join(f"M{start} {top}H{stop}v{height}H{start}z" for start, stop, _ in spans)


def _density(
    night: HypnogramNight, order: Sequence[str], slots: npt.NDArray[np.int64], top: float
) -> Markup:
    """Areas of every stage's probability, stacked with the order's last at the bottom."""
    pick = [night.names.index(name) for name in reversed(order)]
    columns, step = _columns(slots, night.probabilities[:, pick])
    tops = np.rint(np.cumsum(columns, axis=1) * HEIGHT_STEPS)  # NaN where nothing was predicted
    scaled = f"translate(0 {top + DENSITY}) scale({step} {-DENSITY / HEIGHT_STEPS:g})"
    areas = [  # the highest first: each covers the foot of the one before
        markup.element(
            "path", d=_area(tops[:, i]), style=f"fill:{colours.stage_colour(order[-1 - i])}"
        )
        for i in reversed(range(len(order)))
    ]
    return markup.element("g", *areas, class_="density", transform=scaled)


def _columns(
    slots: npt.NDArray[np.int64], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], int]:
    """Lay values on a grid of at most `MOST_COLUMNS` columns, averaged; NaN where there are none.

    Returns
    -------
    grid, step
        (columns, stages), and how many epochs make a column.
    """
    step = -(-(int(slots[-1]) + 1) // MOST_COLUMNS)
    column = slots // step
    count = np.bincount(column)
    total = np.stack([np.bincount(column, v) for v in values.T.astype(np.float64)], axis=1)
    with np.errstate(invalid="ignore"):
        return total / count[:, None], step


def _area(tops: npt.NDArray[np.float64]) -> str:
    """Outline of bars one column wide, in as few commands as it takes; NaN is no bar."""
    filled = np.flatnonzero(~np.isnan(tops))
    path = []
    for first, last, _ in _runs(filled, np.zeros(len(filled), int)):
        bars = "".join(f"V{y:g}h{n}" for y, n in _flat(tops[first:last]))
        path.append(f"M{first} 0{bars}V0z")
    return "".join(path)


def _flat(values: npt.NDArray[np.float64]) -> Iterator[tuple[float, int]]:
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in pairwise(bounds):
        yield float(values[start]), stop - start


# --- confusion matrix -----------------------------------------------------------------------------

CELL, SIDE, HEAD = 74, 84, 50


def confusion_svg(
    matrix: npt.NDArray[np.int64],
    names: Sequence[str],
    title: str,
    sides: tuple[str, str] = ("scored (truth)", "predicted"),
) -> Markup:
    """Draw a confusion matrix: share of the true stage in colour and per cent, and the count.

    Parameters
    ----------
    matrix
        (stages, stages), rows truth, columns prediction.
    names
        Stage names.
    title
        Text for those who cannot see the figure; the numbers are added to it.
    sides
        Who has the rows, and who the columns.
    """
    total = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(total, 1)
    size = CELL * len(names)
    content = [
        text_label(SIDE + size / 2, 16, sides[1], anchor="middle"),
        markup.element(
            "text",
            markup.escape(sides[0]),
            text_anchor="middle",
            font_size=11,
            transform=f"translate(14 {HEAD + size / 2:g}) rotate(-90)",
            style=f"fill:{MUTED}",
        ),
    ]
    for i, name in enumerate(names):
        middle = CELL * (i + 0.5)
        content.append(text_label(SIDE + middle, HEAD - 10, name, anchor="middle", fill=INK))
        content.append(text_label(SIDE - 10, HEAD + middle, name, anchor="end", fill=INK))
        content.append(text_label(SIDE - 10, HEAD + middle + 14, f"{total[i, 0]:,}", anchor="end"))
        content += [_cell(i, j, share[i, j], int(matrix[i, j])) for j in range(len(names))]
    shares = "; ".join(
        f"{name}: " + ", ".join(f"{share[i, j]:.0%} {column}" for j, column in enumerate(names))
        for i, name in enumerate(names)
    )
    return markup.svg_element(
        content, SIDE + size + 4, HEAD + size + 4, f"{title}. Of the epochs scored {shares}"
    )


def _cell(i: int, j: int, share: float, count: int) -> Markup:
    x, y = SIDE + CELL * j, HEAD + CELL * i
    dark = share > 0.62  # noqa: PLR2004 - where light on dark reads better than dark on light
    fill = "var(--on-shade,#ffffff)" if dark else INK
    box = markup.element(
        "rect",
        x=x + 1,
        y=y + 1,
        width=CELL - 2,
        height=CELL - 2,
        rx=3,
        style=f"fill:{SHADE};fill-opacity:{0.04 + 0.96 * share:.3f}",
    )
    percent = markup.element(
        "text",
        markup.escape(f"{100 * share:.1f} %"),
        x=x + CELL / 2,
        y=y + CELL / 2 - 1,
        font_size=14,
        text_anchor="middle",
        style=f"fill:{fill};font-weight:{600 if i == j else 400}",
    )
    number = markup.element(
        "text",
        markup.escape(f"{count:,}"),
        x=x + CELL / 2,
        y=y + CELL / 2 + 16,
        font_size=11,
        text_anchor="middle",
        style=f"fill:{fill}",
    )
    return markup.join([box, percent, number])
