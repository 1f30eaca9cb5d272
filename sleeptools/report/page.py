"""What a report shows of one run, gathered before anything is drawn, and numbers as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleeptools.errors import DataError
from sleeptools.evaluation import comparison, evaluation, published
from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.runs import predictions
from sleeptools.runs.run import Run, open_run

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
    epochs
        Those the run was trained on, where they are given.
    recordings
        Folder of the recordings behind them.
    """

    found: Evaluation
    number: int
    tested: pl.DataFrame = field(repr=False)
    logs: pl.DataFrame = field(repr=False)
    ours: Mapping[str, published.Protocol]
    epochs: EpochSet | None = field(default=None, repr=False)
    recordings: Path | None = None

    @property
    def protocol(self) -> str:
        """The protocol of the headline."""
        return self.found.headline

    @property
    def seed(self) -> int:
        """The seed whose predictions are drawn."""
        return first_seed(self.found)

    @property
    def who(self) -> str:
        """What a subject is: "subject", or "animal" where the stages are those of mice."""
        return "animal" if "NREM" in self.found.stages else "subject"


def gather(
    folder: Path,
    number: int,
    *,
    partial: bool = False,
    epochs: Path | None = None,
    recordings: Path | None = None,
) -> Page:
    """Collect all that is shown of one run.

    Raises
    ------
    DataError
        If the epochs are not those that the run was trained on.
    """
    found = evaluation.compute(open_run(folder, partial=partial))
    tested = found.tested.filter(protocol=found.headline, seed=first_seed(found))
    data = _opened(found.run, tested, epochs) if epochs else None
    return Page(
        found,
        number,
        tested,
        predictions.logs(found.run),
        comparison.protocols(found),
        data,
        recordings,
    )


def _opened(run: Run, tested: pl.DataFrame, folder: Path) -> EpochSet:
    """Open the epochs, and check that the run was trained on them."""
    data = open_epochs(folder)
    known = run.config.get("epochs", {}).get("sha256")
    listing = json.dumps(data.manifest.get("files", {}), sort_keys=True).encode()
    same = known is None or known == hashlib.sha256(listing).hexdigest()
    if not same or set(tested["recording"]) - {file.recording for file in data.files}:
        raise DataError(
            f"{folder}: not the epochs that {run.folder} was trained on",
            hint="give the folder that the run was trained on with --epochs, or leave it out",
        )
    return data


def first_seed(found: Evaluation) -> int:
    """Pick the seed whose predictions are drawn."""
    return min(seed for protocol, seed in found.confusions if protocol == found.headline)


def show(name: str, value: float | None, *, signed: bool = False) -> str:
    """Per cent, except kappa, which is a number; a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "–"  # noqa: RUF001 - a dash for "none"
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if name == "kappa" else f"{100 * value:{sign}.2f}"


def interval_text(
    name: str, value: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Show a value with the ends of its interval, where it has one."""
    shown = show(name, value, signed=signed)
    if low is None or high is None or low != low or high != high:  # noqa: PLR0124 - NaN
        return shown
    return f"{shown} [{show(name, low, signed=signed)}, {show(name, high, signed=signed)}]"


def p_text(p: float | None) -> str:
    """Show a p value; a dash where there is none."""
    if p is None or p != p:  # noqa: PLR0124 - NaN
        return "–"  # noqa: RUF001 - a dash for "none"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def count(number: int, what: str) -> str:
    """Join number and noun: "1 subject", "2 subjects"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def unit(name: str) -> str:
    """Label of a metric with its unit; kappa has none."""
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
