"""What a report shows of one run, gathered before anything is drawn, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sleeptools.errors import DataError
from sleeptools.evaluation import comparison, evaluation, published
from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.runs import logs, writing
from sleeptools.runs.run import Run, open_run

if TYPE_CHECKING:
    import polars as pl


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
        logs.training_logs(found.run),
        comparison.protocols(found),
        data,
        recordings,
    )


def _opened(run: Run, tested: pl.DataFrame, folder: Path) -> EpochSet:
    """Open the epochs, and check that the run was trained on them."""
    data = open_epochs(folder)
    known = run.config.get("epochs", {}).get("sha256")
    same = known is None or known == writing.epochs_fingerprint(data)["sha256"]
    if not same or set(tested["recording"]) - {file.recording for file in data.files}:
        raise DataError(
            f"{folder}: not the epochs that {run.folder} was trained on",
            hint="give the folder that the run was trained on with `epochs`, or leave it out",
        )
    return data


def first_seed(found: Evaluation) -> int:
    """Pick the seed whose predictions are drawn."""
    return min(seed for protocol, seed in found.confusions if protocol == found.headline)
