"""Figures that matplotlib draws, made to belong to the page: its colours and its font.

matplotlib writes fixed colours; each of ours is a sentinel that becomes a CSS value afterwards, so
that the figure follows light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sleeptools import markup as m
from sleeptools.markup import Markup

if TYPE_CHECKING:
    import polars as pl

# Colours that matplotlib writes and that nothing else uses: each becomes a CSS value afterwards.
SENTINELS: Final[Mapping[str, str]] = {
    "#010203": "currentColor", "#010204": "var(--muted,#5b6470)", "#010205": "var(--line,#d5dae0)",
    "#010206": "var(--accent,#1f5fa8)", "#010207": "var(--second,#b5541c)",
}  # fmt: skip
LINES: Final = {"leak-free": "#010206", "best-on-test": "#010207"}
SCORES: Final = {"leak-free": "val_kappa", "best-on-test": "test_kappa"}


def training_curves(logs: pl.DataFrame, ident: str) -> Markup:
    """Draw loss and kappa over the passes: median over folds and seeds, and the range.

    Parameters
    ----------
    logs
        As `runs.logs` gives them; not empty. Kappa is of the validation subjects under leak-free
        and of the scored test fold under best-on-test.
    ident
        Sets its internal names apart from those of other figures on the page.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": ident, "font.size": 11,
        "font.family": "sans-serif", "text.color": "#010203", "axes.labelcolor": "#010204",
        "xtick.color": "#010204", "ytick.color": "#010204", "axes.edgecolor": "#010205",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#010205", "grid.linewidth": 0.6, "axes.titlelocation": "left",
        "axes.titlesize": 12, "legend.frameon": False,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(12.4, 3.7), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        protocols = logs["protocol"].unique(maintain_order=True).to_list()
        for protocol in protocols:
            _curve(left, logs, protocol, "loss")
            _curve(right, logs, protocol, SCORES.get(protocol, "val_kappa"))
        left.set(title="Training loss", xlabel="pass", ylim=(0, None))
        right.set(title="Kappa after each pass (dots: the pass kept)", xlabel="pass")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half a pass
        left.legend()
        said = f"Training loss and kappa over the passes, {' and '.join(protocols)}"
        return _adopt(figure, said)


def _curve(axes: Any, logs: pl.DataFrame, protocol: str, value: str) -> None:
    """One protocol's median line, its range over folds, and dots on the passes kept."""
    import polars as pl

    mine = logs.filter((pl.col("protocol") == protocol) & pl.col(value).is_not_null())
    if not len(mine):
        return
    v = pl.col(value)
    each = mine.group_by("pass").agg(low=v.min(), middle=v.median(), high=v.max()).sort("pass")
    line = LINES.get(protocol, "#010203")
    axes.fill_between(each["pass"], each["low"], each["high"], color=line, alpha=0.16, linewidth=0)
    label = f"{protocol} (optimistic)" if protocol == "best-on-test" else protocol
    axes.plot(each["pass"], each["middle"], color=line, linewidth=1.8, label=label)
    kept = mine.filter("selected")
    if value != "loss":
        axes.plot(kept["pass"], kept[value], "o", color=line, markersize=4, alpha=0.8)


def _adopt(figure: Any, said: str) -> Markup:
    """Turn a matplotlib figure into inline SVG that takes the page's colours and font."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.S)
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.S)
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn))
    drawn = re.sub(r' id="([^"]+)"', lambda i: i[0] if i[1] in used else "", drawn)
    drawn = re.sub(r"font: ?(\d+)px [^;\"]+", r"font-size:\1px", drawn)
    drawn = drawn.replace("xlink:href", "href")
    for sentinel, css in SENTINELS.items():
        drawn = drawn.replace(sentinel, css)
    width, height = (72 * inches for inches in figure.get_size_inches())
    inside = re.sub(r"\s*\n\s*", " ", drawn[drawn.index(">", drawn.index("<svg")) + 1 :])
    inside = inside[: inside.rindex("</svg>")]
    return m.svg([Markup(inside)], width, height, said)
