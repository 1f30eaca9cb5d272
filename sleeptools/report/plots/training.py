"""Loss and kappa over the passes of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sleeptools.report.plots.canvas import Ink, Plot

if TYPE_CHECKING:
    import polars as pl

LINES: Final = {"leak-free": "accent", "best-on-test": "second"}
SCORES: Final = {"leak-free": "val_kappa", "best-on-test": "test_kappa"}
DASHES: Final = {"best-on-test": "--"}


def curves(logs: pl.DataFrame) -> Plot:
    """Draw loss and kappa over the passes: median over folds and seeds, and the range.

    Parameters
    ----------
    logs
        As `logs.training_logs` gives them; not empty. Kappa is of the validation subjects under
        leak-free         and of the scored test fold under best-on-test.
    """
    protocols = logs["protocol"].unique(maintain_order=True).to_list()

    def draw(figure: Any, ink: Ink) -> None:
        left, right = figure.subplots(1, 2)
        for protocol in protocols:
            _curve(left, ink, logs, protocol, "loss")
            _curve(right, ink, logs, protocol, SCORES.get(protocol, "val_kappa"))
        left.set(title="Training loss", xlabel="pass", ylim=(0, None))
        right.set(title="Kappa after each pass (dots: the pass kept)", xlabel="pass")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half a pass
        left.legend()

    said = f"Training loss and kappa over the passes, {' and '.join(protocols)}"
    return Plot(draw, (9.0, 2.9), said)


def _curve(axes: Any, ink: Ink, logs: pl.DataFrame, protocol: str, value: str) -> None:
    """One protocol's median line, its range over folds, and dots on the passes kept."""
    import polars as pl

    mine = logs.filter((pl.col("protocol") == protocol) & pl.col(value).is_not_null())
    if not len(mine):
        return
    v = pl.col(value)
    each = mine.group_by("pass").agg(low=v.min(), middle=v.median(), high=v.max()).sort("pass")
    line, dashes = ink[LINES.get(protocol, "ink")], DASHES.get(protocol, "-")
    axes.fill_between(each["pass"], each["low"], each["high"], color=line, alpha=0.16, linewidth=0)
    label = f"{protocol} (optimistic)" if protocol == "best-on-test" else protocol
    axes.plot(each["pass"], each["middle"], dashes, color=line, linewidth=1.8, label=label)
    kept = mine.filter("selected")
    if value != "loss":
        axes.plot(kept["pass"], kept[value], "o", color=line, markersize=4, alpha=0.8)
