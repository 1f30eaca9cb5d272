"""The drawings of `svg` as plots, so that they can be PDF and PNG files, too.

Of SVG it knows what these drawings hold: paths of straight lines, boxes, texts, pictures, and
groups and inner drawings that move and stretch them.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from sleeptools.report import colours
from sleeptools.report.markup import Markup
from sleeptools.report.plots.canvas import Palette, Plot

Element = ElementTree.Element
Affine = tuple[float, float, float, float]
"""Place of the origin and scale, of x and y each: x_on_page = x0 + sx * x."""
TOKENS: Final = re.compile(r"([A-Za-z])|(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)")
ANCHORS: Final = {"start": "left", "middle": "center", "end": "right"}
PIXELS: Final = 100
"""Units of a drawing in one of `Plot.size`; each is a point on paper."""


def drawing_plot(drawing: Markup) -> Plot:
    """Make a plot of a drawing, for paper; on a page the drawing itself is better."""
    root = ElementTree.fromstring(colours.fixed_colours(drawing))
    width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])

    def draw(figure: Any, palette: Palette) -> None:
        figure.set_layout_engine("none")  # the drawing has its own margins
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        for element, frame in _flattened(root, (0.0, 0.0, 1.0, 1.0)):
            DRAWERS[_name(element)](axes, element, frame, palette)
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")

    return Plot(draw, (width / PIXELS, height / PIXELS), root.attrib.get("aria-label", ""))


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _flattened(parent: Element, frame: Affine) -> Iterator[tuple[Element, Affine]]:
    """Give what is drawn, in its order, each with its place on the page."""
    for element in parent:
        match _name(element):
            case "svg":
                yield from _flattened(element, _inner(element, frame))
            case "g":
                yield from _flattened(element, _moved(element.get("transform", ""), frame))
            case name if name in DRAWERS:
                yield element, frame


def _inner(element: Element, frame: Affine) -> Affine:
    """Place of an inner drawing, which is stretched to its box."""
    x, y, width, height = (float(element.get(k, 0)) for k in ("x", "y", "width", "height"))
    left, top, inner_width, inner_height = map(float, element.attrib["viewBox"].split())
    sx, sy = width / inner_width, height / inner_height
    return _joined(frame, (x - sx * left, y - sy * top, sx, sy))


def _moved(transform: str, frame: Affine) -> Affine:
    for kind, numbers in re.findall(r"(translate|scale)\(([^)]*)\)", transform):
        x, y = map(float, numbers.split())
        frame = _joined(frame, (x, y, 1, 1) if kind == "translate" else (0, 0, x, y))
    return frame


def _joined(outer: Affine, inner: Affine) -> Affine:
    x, y, sx, sy = outer
    return (x + sx * inner[0], y + sy * inner[1], sx * inner[2], sy * inner[3])


def _style(element: Element) -> Mapping[str, str]:
    parts = (part.partition(":") for part in element.get("style", "").split(";") if part)
    return {name: value for name, _, value in parts}


def _painted(element: Element) -> dict[str, Any]:
    """Fill and stroke as matplotlib takes them; a path without either is not seen."""
    from matplotlib.colors import to_rgba

    style = _style(element)
    fill, stroke = style.get("fill", "none"), style.get("stroke", "none")
    return {
        "facecolor": to_rgba(fill, float(style.get("fill-opacity", 1)) if fill != "none" else None),
        "edgecolor": to_rgba(stroke, float(style.get("stroke-opacity", 1)))
        if stroke != "none"
        else "none",
        "linewidth": float(style.get("stroke-width", 1)) if stroke != "none" else 0.0,
    }


def _path(axes: Any, element: Element, frame: Affine, palette: Palette) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    del palette
    points, codes = path_points(element.attrib["d"])
    if len(points):
        points = points * frame[2:] + frame[:2]
        axes.add_patch(PathPatch(Path(points, codes), capstyle="butt", **_painted(element)))


def path_points(
    outline: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Give points (points, 2) and matplotlib's codes of a path of straight lines."""
    move, line, close = 1, 2, 79  # matplotlib.path.Path
    points: list[tuple[float, float]] = []
    codes: list[int] = []
    x = y = 0.0
    start = (0.0, 0.0)
    tokens = [letter or float(number) for letter, number in TOKENS.findall(outline)]
    position = 0
    while position < len(tokens):
        command = tokens[position]
        count = {"M": 2, "L": 2, "H": 1, "V": 1, "h": 1, "v": 1, "z": 0}[str(command)]
        numbers = [float(n) for n in tokens[position + 1 : position + 1 + count]]
        position += 1 + count
        match command:
            case "M" | "L":
                x, y = numbers
            case "H":
                x = numbers[0]
            case "V":
                y = numbers[0]
            case "h":
                x += numbers[0]
            case "v":
                y += numbers[0]
            case "z":
                x, y = start
        start = (x, y) if command == "M" else start
        points.append((x, y))
        codes.append({"M": move, "z": close}.get(str(command), line))
    return np.array(points, np.float64).reshape(-1, 2), np.array(codes, np.uint8)


def _rect(axes: Any, element: Element, frame: Affine, palette: Palette) -> None:
    from matplotlib.patches import Rectangle

    del palette
    x, y, width, height = (float(element.attrib[k]) for k in ("x", "y", "width", "height"))
    corner = (frame[0] + frame[2] * x, frame[1] + frame[3] * y)
    size = (frame[2] * width, frame[3] * height)
    axes.add_patch(Rectangle(corner, *size, **_painted(element)))


def _text(axes: Any, element: Element, frame: Affine, palette: Palette) -> None:
    style = _style(element)
    x, y = float(element.get("x", 0)), float(element.get("y", 0))
    turned = re.fullmatch(r"translate\((\S+) (\S+)\) rotate\((\S+)\)", element.get("transform", ""))
    if turned:
        x, y = float(turned[1]), float(turned[2])
    axes.text(
        frame[0] + frame[2] * x,
        frame[1] + frame[3] * y,
        element.text or "",
        ha=ANCHORS[element.get("text-anchor", "start")],
        va="baseline",
        rotation=-float(turned[3]) if turned else 0,
        rotation_mode="anchor",
        fontsize=float(element.get("font-size", 11)),
        fontweight="bold" if style.get("font-weight") == "600" else "normal",
        color=style.get("fill", palette["ink"]),
    )


def _image(axes: Any, element: Element, frame: Affine, palette: Palette) -> None:
    from matplotlib.image import imread

    del palette
    picture = imread(io.BytesIO(base64.b64decode(element.attrib["href"].partition(",")[2])))
    x, y, width, height = (float(element.attrib[k]) for k in ("x", "y", "width", "height"))
    left, right = (frame[0] + frame[2] * value for value in (x, x + width))
    top, bottom = (frame[1] + frame[3] * value for value in (y, y + height))
    axes.imshow(picture, extent=(left, right, bottom, top), aspect="auto", interpolation="nearest")


DRAWERS: Final = {"path": _path, "rect": _rect, "text": _text, "image": _image}
