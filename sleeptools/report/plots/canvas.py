"""Plots by matplotlib that take the colours and the font of the page they stand on.

matplotlib writes fixed colours; on a page each of ours is a sentinel that becomes a CSS value
afterwards, so that the figure follows light and dark. In a file of its own it has the light ones.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sleeptools import store
from sleeptools.report import colours, markup
from sleeptools.report.markup import Markup

COLOUR_NAMES: Final[Mapping[str, str]] = {
    "ink": colours.INK,
    "muted": colours.MUTED,
    "line": colours.GRID,
    "accent": colours.ACCENT,
    "second": colours.SECOND,
    "third": colours.THIRD,
    "sheet": colours.SHEET,
} | {f"stage {name}": colours.stage_colour(name) for name in (*colours.STAGES, "other")}
SENTINELS: Final[Mapping[str, str]] = {
    name: f"#0102{i:02x}" for i, name in enumerate(COLOUR_NAMES, start=3)
}
"""Placeholder colours by name, used for nothing else; each becomes its CSS value on a page."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of the series, so that these do not differ in colour alone."""

PIXELS: Final = 200
"""Pixels an inch of a plot as a picture."""
MADE_BY: Final = {
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator"),
    "png": ("Software",),
}
"""What matplotlib says of itself in a file, and is left out: the same plot is the same file."""


@dataclass(frozen=True)
class Palette:
    """Colours by name, as matplotlib takes them."""

    values: Mapping[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def stage(self, name: str) -> str:
        """Return a stage's colour."""
        return self.values.get(f"stage {name}", self.values["stage other"])

    def series(self, number: int) -> str:
        """Return the colour of the first, second, ... series (from 0); they begin anew."""
        names = ("accent", "second", "third", "ink", "muted")
        return self.values[names[number % len(names)]]


PAGE: Final = Palette(SENTINELS)
PAPER: Final = Palette({name: colours.fixed_colours(css) for name, css in COLOUR_NAMES.items()})


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when it is asked for.

    Parameters
    ----------
    draw
        Draws on an empty matplotlib figure with the colours of a palette.
    size
        Width and height; 0.01 is one unit of the page.
    description
        What it shows, for those who cannot see it.
    """

    draw: Callable[[Any, Palette], None] = field(repr=False)
    size: tuple[float, float]
    description: str

    def svg(self, ident: str) -> Markup:
        """Draw the plot as SVG for a page, with that page's colours and font.

        Parameters
        ----------
        ident
            Name of the figure, which makes its internal ids unique on the page.
        """
        with _styled(PAGE, **{"svg.fonttype": "none", "svg.hashsalt": ident}):
            return _adopt(_printed(_saved(self, PAGE, "svg")), self.size, self.description)

    def pdf(self) -> bytes:
        """Draw the plot as a PDF of one page."""
        with _styled(PAPER, **{"pdf.fonttype": 42}):
            return _saved(self, PAPER, "pdf")

    def png(self) -> bytes:
        """Draw the plot as a picture of `PIXELS` pixels an inch."""
        with _styled(PAPER):
            return _saved(self, PAPER, "png")


@contextmanager
def _styled(palette: Palette, **settings: object) -> Iterator[None]:
    import matplotlib as mpl

    style: Any = {
        "font.size": 11,
        "font.family": "sans-serif",
        "text.color": palette["ink"],
        "axes.labelcolor": palette["muted"],
        "xtick.color": palette["muted"],
        "ytick.color": palette["muted"],
        "xtick.labelcolor": palette["muted"],
        "ytick.labelcolor": palette["muted"],
        "axes.edgecolor": palette["line"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": palette["line"],
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "path.simplify_threshold": 0.4,
    }
    with mpl.rc_context(style | settings):
        yield


def _saved(plot: Plot, palette: Palette, kind: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plot.size[0] * 100 / 72, plot.size[1] * 100 / 72), dpi=72)
    figure.set_layout_engine("constrained")
    plot.draw(figure, palette)
    _without_formulas(figure)
    buffer = io.BytesIO()
    nothing = dict.fromkeys(MADE_BY[kind])
    dpi = PIXELS if kind == "png" else "figure"
    figure.savefig(buffer, format=kind, transparent=kind == "svg", metadata=nothing, dpi=dpi)
    return buffer.getvalue()


def _without_formulas(figure: Any) -> None:
    """Show texts as they are: a $ in a label begins no formula, and control characters are seen."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(store.visible(text.get_text()))


def _printed(svg: bytes) -> str:
    """Decode an SVG; the control characters that labels of axes had are written as escapes."""
    return "\n".join(map(store.visible, svg.decode(errors="backslashreplace").split("\n")))


def _adopt(drawn: str, size: tuple[float, float], description: str) -> Markup:
    """Turn matplotlib's SVG into an inline one that takes the page's colours and font.

    A hundredth of a unit is enough in the tags; what stands between them is text to be read.
    """
    for noise in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        drawn = re.sub(noise, "", drawn, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn))
    drawn = re.sub(r' id="([^"]+)"', lambda i: i[0] if i[1] in used else "", drawn)
    drawn = re.sub(r"font: ?(?:bold )?(\d+)px [^;\"]+", r"font-size:\1px", drawn)
    drawn = drawn.replace("xlink:href", "href")
    drawn = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), drawn)
    for name, sentinel in SENTINELS.items():
        drawn = drawn.replace(sentinel, COLOUR_NAMES[name])
    inside = re.sub(r"\s*\n\s*", " ", drawn[drawn.index(">", drawn.index("<svg")) + 1 :])
    inside = inside[: inside.rindex("</svg>")]
    return markup.svg_element([Markup(inside)], 100 * size[0], 100 * size[1], description)
