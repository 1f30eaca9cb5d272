"""The evaluation of a run from its saved predictions: confusion matrices, and tables by name.

The headline pools the test epochs of all folds under one protocol and seed, as the papers do
(10.3389/fnins.2022.973761); the numbers of each subject stand beside it, because the two differ.
Intervals are over subjects (`subject_metrics`), seeds are averaged and their spread is kept apart.
`TABLES` lists every table of an evaluation; a further one is one more entry there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sleeptools.evaluation import (
    calibration,
    caveats,
    circadian,
    confusion,
    scorers,
    selection,
    sleep_agreement,
    subject_metrics,
    uncertain_epochs,
)
from sleeptools.evaluation.calibration import CalibrationTables
from sleeptools.evaluation.confusion import LevelConfusions, PooledConfusions
from sleeptools.evaluation.subject_metrics import ComparedRun, SubjectConfusions
from sleeptools.runs.folds import LEAK_FREE
from sleeptools.runs.logs import AUDIT_FILE, LOG_FILE
from sleeptools.runs.nights import read_nights
from sleeptools.runs.predictions import first_of_each, read_predictions
from sleeptools.runs.run import EXPLAIN, Run
from sleeptools.runs.writing import RUN_FILES

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Evaluation:
    """A run with its predictions, their confusion matrices, and the tables made from them.

    Everything beyond the fields is computed when it is first used.

    Parameters
    ----------
    run
        The run folder.
    predictions
        Predictions of the validation and the test epochs, as `predictions.read_predictions`
        gives them; of splits that overlap, each epoch once.
    confusions
        Confusion matrices of the test epochs at every level of `confusion.LEVEL_COLUMNS`.
    leakage
        One line: how subjects on two sides of a fold were looked for, and with what result.
    notes
        What a reader must know before believing a number; one sentence each.
    ceiling
        The one of them on what a perfect model would reach; empty where it is not known.
    """

    run: Run
    predictions: pl.DataFrame = field(repr=False)
    confusions: Mapping[str, LevelConfusions] = field(repr=False)
    leakage: str
    notes: tuple[str, ...]
    ceiling: str = ""
    _computed: dict[str, pl.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def table(self, name: str) -> pl.DataFrame:
        """Return a table of `TABLES`; the function there says what its columns are."""
        if name not in self._computed:
            self._computed[name] = TABLES[name](self)
        return self._computed[name]

    @cached_property
    def tested(self) -> pl.DataFrame:
        """Predictions of the test epochs, of every protocol and seed."""
        return self.predictions.filter(role="test")

    @cached_property
    def nights(self) -> pl.DataFrame | None:
        """Table of nights.parquet, which says when the lights went off; None where it is absent."""
        return read_nights(self.run.folder)

    @cached_property
    def pooled(self) -> Mapping[str, PooledConfusions]:
        """Confusion matrices pooled over folds, by protocol; the run's first protocol first."""
        return confusion.pooled_by_protocol(self.confusions)

    @cached_property
    def by_subject(self) -> Mapping[str, SubjectConfusions]:
        """Confusion matrices of the subjects, by protocol."""
        return confusion.confusions_by_subject(self.confusions, len(self.run.stages))

    @cached_property
    def intervals(self) -> Mapping[str, pl.DataFrame]:
        """Metrics with intervals over subjects, by protocol; see `interval_table`."""
        return {
            protocol: subject_metrics.interval_table(matrices, self.run.stages)
            for protocol, matrices in self.by_subject.items()
        }

    @cached_property
    def calibration(self) -> CalibrationTables:
        """How far the probabilities can be trusted."""
        return calibration.calibration_tables(self.predictions, self.run.stages)

    @cached_property
    def ranking(self) -> pl.DataFrame:
        """Epochs of the headline's protocol, the least certain first; see `rank_by_certainty`."""
        tested = self.tested.filter(protocol=self.headline)
        return uncertain_epochs.rank_by_certainty(tested, self.run.stages)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that were evaluated, the run's first one first."""
        return tuple(self.pooled)

    @property
    def headline(self) -> str:
        """The protocol to believe: leak-free where it was run."""
        return LEAK_FREE if LEAK_FREE in self.protocols else self.protocols[0]


Table = Callable[[Evaluation], "pl.DataFrame"]
FOLDER_TABLES: Final[Mapping[str, Table]] = {
    "sleep": lambda e: sleep_agreement.sleep_per_night(
        e.tested, e.nights, e.run.stages, e.run.epoch_seconds
    ),
    "agreement": lambda e: sleep_agreement.bland_altman_table(e.table("sleep")),
    "scorers": lambda e: scorers.compare_scorers(e.tested, e.nights, e.run.stages),
    "day": lambda e: circadian.minutes_by_bin(e.tested, e.run.stages, e.run.epoch_seconds),
    "day_correlation": lambda e: circadian.bin_correlations(e.table("day")),
    "calibration": lambda e: e.calibration.measures,
    "reliability": lambda e: e.calibration.reliability,
    "temperatures": lambda e: e.calibration.temperatures,
    "selection": lambda e: selection.pass_selection(e.run),
    "gain": lambda e: selection.protocol_gain(e.run, e.by_subject),
}
"""Tables that are written into the folder `evaluation/` of the run, where they are not empty."""
TABLES: Final[Mapping[str, Table]] = {
    "metrics": lambda e: confusion.tidy_metrics(
        e.run.name, e.confusions, e.intervals, e.run.stages
    ),
    "subjects": lambda e: confusion.subject_table(e.confusions, e.tested, e.run.stages),
    "review": lambda e: uncertain_epochs.least_certain(e.ranking),
    **FOLDER_TABLES,
}
"""Every table of an evaluation by name."""


def compute_evaluation(run: Run) -> Evaluation:
    """Read a run's predictions, and count and check them; nothing is written.

    Raises
    ------
    MissingInputError
        If a file that the manifest lists is gone.
    DataError
        If settings, folds, logs or predictions are not what the manifest says, are damaged or do
        not fit the folds, or a subject is on two sides of a fold.
    """
    _check_used(run)
    leakage = caveats.check_leakage(run)
    table = read_predictions(run, role=None)
    tested = table.filter(role="test")
    confusions = confusion.count_confusions(tested, len(run.stages), mixed=run.mixed)
    once = first_of_each(tested) if run.overlapping else tested
    ceiling = caveats.ceiling_note(run, once)
    notes = (
        *caveats.overlap_note(run, tested),
        *caveats.all_notes(run, once, confusions, ceiling),
    )
    if run.overlapping:
        table = first_of_each(table)
    return Evaluation(run, table, confusions, leakage, notes, ceiling)


def _check_used(run: Run) -> None:
    """Compare what tells how a run was trained with its manifest; predictions are when read.

    Settings and folds of a run that is being extended are listed when it is complete.
    """
    of_run = [] if run.missing else [run.folder / name for name in RUN_FILES]
    of_trainings = [
        training.folder(run.folder) / name
        for training in run.done
        for name in (AUDIT_FILE, LOG_FILE, EXPLAIN, "config.json")
    ]
    for path in (*of_run, *of_trainings):
        run.check_listed(path)


def compare_evaluations(evaluations: Sequence[Evaluation]) -> pl.DataFrame:
    """Compare runs two by two under their headline's protocol; see `compare_runs`."""
    return subject_metrics.compare_runs(
        [ComparedRun(e.run.name, e.headline, e.by_subject[e.headline]) for e in evaluations]
    )
