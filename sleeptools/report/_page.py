"""What a report shows of one run, gathered before anything is drawn, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleeptools import comparison, evaluation, folds, published, runs
from sleeptools.evaluation import Evaluation

if TYPE_CHECKING:
    import polars as pl

LABELS: Final = {
    "accuracy": "Accuracy", "macro_f1": "Macro-F1", "kappa": "Cohen's kappa",
    "g_mean_recalls": "G-mean of recalls", "g_mean_eq17": "G-mean, Eq. 17",
    "macro_recall": "Macro recall", "macro_precision": "Macro precision",
    "weighted_f1": "Weighted F1", "weighted_recall": "Weighted recall",
    "weighted_precision": "Weighted precision",
}  # fmt: skip
HEADLINE: Final = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")


@dataclass(frozen=True)
class Page:
    """One run's numbers, gathered before anything is drawn.

    Parameters
    ----------
    found
        The evaluation.
    number
        Of the run on the page, from 1; sets its anchors apart.
    tested
        Test predictions of the first protocol and seed, the ones drawn as hypnograms.
    logs
        Training logs.
    ours
        Per protocol, what a printed number is compared with.
    """

    found: Evaluation
    number: int
    tested: pl.DataFrame = field(repr=False)
    logs: pl.DataFrame = field(repr=False)
    ours: Mapping[str, published.Protocol]

    @property
    def protocol(self) -> str:
        """The protocol of the headline."""
        return headline(self.found)


def gather(folder: Path, number: int, partial: bool) -> Page:
    """Collect all that is shown of one run."""
    import polars as pl

    found = evaluation.compute(runs.open_run(folder, partial=partial))
    protocol = headline(found)
    seed = min(s for p, s in found.confusions if p == protocol)
    drawn = (pl.col("protocol") == protocol) & (pl.col("seed") == seed)
    tested = runs.predictions(found.run).filter(drawn)
    return Page(found, number, tested, runs.logs(found.run), comparison.protocols(found))


def headline(found: Evaluation) -> str:
    """Pick the protocol of the headline: leak-free where there is one."""
    known = found.protocols
    return folds.LEAK_FREE if folds.LEAK_FREE in known else known[0]


def show(name: str, value: float | None, *, signed: bool = False) -> str:
    """Per cent, except kappa, which is a number; a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "–"  # noqa: RUF001 - a dash for "none"
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if name == "kappa" else f"{100 * value:{sign}.2f}"


def count(number: int, what: str) -> str:
    """Join number and noun: "1 subject", "2 subjects"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def unit(name: str) -> str:
    return LABELS[name] if name == "kappa" else f"{LABELS[name]}, %"


def value_text(value: object) -> str:
    """Show a fact of a manifest on one line."""
    match value:
        case Mapping():
            return "; ".join(f"{k}: {value_text(v)}" for k, v in value.items()) or "none"
        case list() | tuple():
            shown = ", ".join(map(value_text, value[:12]))
            return f"{shown}, … ({len(value)})" if len(value) > 12 else shown or "none"  # noqa: PLR2004
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)
