"""Loss and kappa over the passes of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sleeptools.report.plots.canvas import Palette, Plot

if TYPE_CHECKING:
    import polars as pl

LINE_COLOURS: Final = {"leak-free": "accent", "best-on-test": "second"}
KAPPA_COLUMNS: Final = {"leak-free": "val_kappa", "best-on-test": "test_kappa"}
DASHES: Final = {"best-on-test": "--"}


def plot_training(logs: pl.DataFrame) -> Plot:
    """Draw loss and kappa over the passes: median over folds and seeds, and the range.

    Parameters
    ----------
    logs
        Training logs as `logs.training_logs` reads them; not empty. Kappa is that of the
        validation subjects under leak-free, and of the scored test fold under best-on-test.
    """
    protocols = logs["protocol"].unique(maintain_order=True).to_list()

    def draw(figure: Any, palette: Palette) -> None:
        loss, kappa = figure.subplots(1, 2)
        for protocol in protocols:
            _curve(loss, palette, logs, protocol, "loss")
            _curve(kappa, palette, logs, protocol, KAPPA_COLUMNS.get(protocol, "val_kappa"))
        loss.set(title="Training loss", xlabel="pass", ylim=(0, None))
        kappa.set(title="Kappa after each pass (dots: the pass kept)", xlabel="pass")
        for axes in (loss, kappa):
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half a pass
            if len({*logs["pass"]}) == 1:  # else its axis is a few hundredths of a pass
                axes.set_xlim(logs["pass"][0] - 1, logs["pass"][0] + 1)
        loss.legend()

    description = f"Training loss and kappa over the passes, {' and '.join(protocols)}"
    return Plot(draw, (9.0, 2.9), description)


def _curve(axes: Any, palette: Palette, logs: pl.DataFrame, protocol: str, value: str) -> None:
    """One protocol's median line, its range over folds, and dots on the passes kept."""
    import polars as pl

    trainings = logs.filter((pl.col("protocol") == protocol) & pl.col(value).is_not_null())
    if not len(trainings):
        return
    v = pl.col(value)
    by_pass = (
        trainings.group_by("pass").agg(low=v.min(), middle=v.median(), high=v.max()).sort("pass")
    )
    line, dashes = palette[LINE_COLOURS.get(protocol, "ink")], DASHES.get(protocol, "-")
    axes.fill_between(
        by_pass["pass"], by_pass["low"], by_pass["high"], color=line, alpha=0.16, linewidth=0
    )
    label = f"{protocol} (optimistic)" if protocol == "best-on-test" else protocol
    marker = "." if len(by_pass) == 1 else None  # a line of one point is not seen
    axes.plot(
        *(by_pass["pass"], by_pass["middle"], dashes),
        color=line,
        linewidth=1.8,
        marker=marker,
        label=label,
    )
    selected = trainings.filter("selected")
    if value != "loss":
        axes.plot(selected["pass"], selected[value], "o", color=line, markersize=4, alpha=0.8)
