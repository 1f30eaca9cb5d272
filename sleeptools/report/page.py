"""What a report shows of one run, gathered before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sleeptools.errors import DataError
from sleeptools.evaluation.comparison import study_designs
from sleeptools.evaluation.evaluation import Evaluation, compute_evaluation
from sleeptools.evaluation.published.study_design import StudyDesign
from sleeptools.preprocessing.epochs import EpochSet, check_epochs, open_epochs
from sleeptools.runs import writing
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import Run, open_run

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Page:
    """One run's numbers, gathered before anything is drawn.

    Parameters
    ----------
    evaluation
        Evaluation of the run.
    number
        Number of the run on the page, from 1; sets its anchors apart.
    tested
        Test predictions of the headline's protocol and its first seed, drawn as hypnograms.
    logs
        Training logs.
    designs
        Per protocol, how its numbers came about, for comparison with printed ones.
    epochs
        Epochs that the run was trained on; None where their folder is not given.
    recordings
        Folder of the recordings behind the epochs; None where it is not given.
    """

    evaluation: Evaluation
    number: int
    tested: pl.DataFrame = field(repr=False)
    logs: pl.DataFrame = field(repr=False)
    designs: Mapping[str, StudyDesign]
    epochs: EpochSet | None = field(default=None, repr=False)
    recordings: Path | None = None

    @property
    def run(self) -> Run:
        """The run."""
        return self.evaluation.run

    @property
    def protocol(self) -> str:
        """The protocol of the headline."""
        return self.evaluation.headline

    @property
    def seed(self) -> int:
        """The seed whose predictions are drawn."""
        return first_seed(self.evaluation)

    @property
    def subject_noun(self) -> str:
        """What a subject is called: "subject", or "animal" in runs of mice."""
        return self.run.subject_noun

    @property
    def night_noun(self) -> str:
        """What a recording is called: "night", or "recording" in runs of mice."""
        return "recording" if self.species == "mouse" else "night"

    @property
    def species(self) -> str:
        """Whose sleep it is: "human", or "mouse" where the stages are those of mice."""
        return self.run.species


def gather_page(
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
    evaluation = compute_evaluation(open_run(folder, partial=partial))
    run = evaluation.run
    tested = evaluation.tested.filter(protocol=evaluation.headline, seed=first_seed(evaluation))
    data = _open_training_epochs(run, tested, epochs) if epochs else None
    designs = study_designs(evaluation)
    return Page(evaluation, number, tested, training_logs(run), designs, data, recordings)


def _open_training_epochs(run: Run, tested: pl.DataFrame, folder: Path) -> EpochSet:
    """Open the epochs, and check that the run was trained on them."""
    data = open_epochs(folder)
    check_epochs(folder)
    expected = run.config.get("epochs", {}).get("sha256")
    is_same = expected is None or expected == writing.epochs_fingerprint(data)["sha256"]
    if not is_same or set(tested["recording"]) - {file.recording for file in data.files}:
        raise DataError(
            f"{folder}: not the epochs that {run.folder} was trained on",
            hint="give the folder that the run was trained on with `epochs`, or leave it out",
            code="RUN-EPOCHS",
        )
    return data


def first_seed(evaluation: Evaluation) -> int:
    """Pick the seed whose predictions are drawn."""
    return min(evaluation.pooled[evaluation.headline].seeds)
