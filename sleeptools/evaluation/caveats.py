"""Caveats of a run, one sentence each: leakage, simulated data, few subjects, optimism."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sleeptools.errors import DataError
from sleeptools.evaluation import bootstrap, metrics, scorers, sleep_agreement
from sleeptools.evaluation.confusion import LevelConfusions
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.runs import logs, nights, predictions
from sleeptools.runs.folds import BEST_ON_TEST, LEAK_FREE
from sleeptools.runs.parent import describe
from sleeptools.runs.run import Run

if TYPE_CHECKING:
    import polars as pl

SIMULATED_DATA = (
    "The data is simulated: these numbers say nothing about sleep in people or animals."
)
OLD_SIMULATOR = (
    "The data is of simulator {versions}, today's is {today}: numbers on nights of different "
    "simulators do not compare."
)
RANDOMISED = (
    "The nights are those of a training set: levels, leads and recorders were drawn anew for each "
    "(`randomise`), wider than real nights of one laboratory differ."
)
FAST = (
    "The nights repeat few epochs of each stage (`fast`), which were made to measure time and "
    "memory: a model needs only to remember them."
)
CONTINUED = (
    "The run goes on with {run} from pass {passes}: that one had tested its folds by then, and "
    "these numbers come from a second test."
)
UNKNOWN_ORIGIN = "No file of the run says whether its data is simulated."


def check_leakage(run: Run) -> str:
    """Look for subjects on two sides of a fold, and say with what result.

    Raises
    ------
    DataError
        If there are any, and the run was not trained with leaky folds on purpose.
    """
    if "external" in run.facts:
        return str(run.facts["external"]["leakage"])
    leaks, noun = predictions.leaks(run), run.subject_noun
    checked = len({(training.protocol, training.fold) for training in run.done})
    if leaks and not run.leaky:
        raise DataError(
            f"{run.folder / 'folds.parquet'}: subjects on two sides of a fold: {'; '.join(leaks)}",
            hint="train again: every fold must be divided by subject",
            code="LEAK-FOLDS",
        )
    if leaks:
        return f"LEAKY: {noun}s on two sides of a fold, by request: {'; '.join(leaks)}"
    checks = f"no {noun} trains or validates and is tested in the same fold ({checked} checked)"
    if run.unseen:
        checks += f"; none of the {len(run.unseen)} held-out {noun}s trains or validates anywhere"
    return f"{checks}{_check_parent(run)}"


def _check_parent(run: Run) -> str:
    """Look for tested subjects that the parent of a fine-tuned run has learnt from.

    Raises
    ------
    DataError
        If there are any, and their ids were not said to be those of others.
    """
    if not run.parent:
        return ""
    learnt = predictions.tested_subjects(run) & {*run.parent.get("subjects", ())}
    if learnt and not run.parent.get("shared_subject_ids_allowed"):
        raise DataError(
            f"{run.folder}: tested subjects trained the parent: {', '.join(sorted(learnt))}",
            hint="train again, from a model that has not learnt from them",
            code="LEAK-FOLDS",
        )
    leakage = run.parent.get("leakage")
    if leakage is None:
        return f"; none of the tested {run.subject_noun}s trained or validated the parent"
    return f"; the parent: {leakage}"


def all_notes(
    run: Run, tested: pl.DataFrame, confusions: Mapping[str, LevelConfusions], ceiling: str
) -> Iterator[str]:
    """Collect all notes on a run, its predictions of test epochs and its confusion matrices."""
    yield from run_notes(run)
    if ceiling:
        yield ceiling
    yield from few_subjects_note(confusions["subject"], run.subject_noun)
    yield from absent_stage_notes(confusions["pooled"], run.stages)
    yield from unpredicted_stage_notes(confusions["pooled"], run.stages)
    if not run.overlapping:  # where epochs that no split drew for its test were trained on
        yield from unpredicted_sleep_note(run, tested)


def run_notes(run: Run) -> Iterator[str]:
    """Say of a run whether it is simulated, incomplete, tested repeatedly or optimistic."""
    if run.simulated:
        yield SIMULATED_DATA
        if run.simulators != [SIMULATOR]:
            versions = " and ".join(map(str, run.simulators))
            yield OLD_SIMULATOR.format(versions=versions, today=SIMULATOR)
        if run.randomised:
            yield RANDOMISED
        if run.fast:
            yield FAST
    elif run.simulated is None:
        yield UNKNOWN_ORIGIN
    if run.missing:
        total = len(run.done) + len(run.missing)
        yield f"The run is incomplete: {len(run.missing)} of {total} trainings are missing."
    if run.continued:
        yield CONTINUED.format(**{"run": "another run", "passes": "some", **run.continued})
    readings = logs.count_test_readings(run, watching=False).get(LEAK_FREE, 1)
    if readings > 1:
        yield f"A leak-free test fold was read {readings} times; once, at the end, is right."
    elif logs.count_test_readings(run).get(LEAK_FREE, 1) > readings:
        yield (
            "The leak-free test folds were watched after every pass, to measure "
            "what choosing on them would gain; no pass was chosen by it."
        )
    unchosen = run.unchosen(LEAK_FREE)
    if unchosen and any(training.protocol == LEAK_FREE for training in run.done):
        folds = ", ".join(map(str, unchosen))
        yield f"leak-free, fold {folds}: nothing chose the pass, the last one is kept."
    if any(training.protocol == BEST_ON_TEST for training in run.done):
        yield (
            "best-on-test keeps the pass that is best on the scored fold: optimistic, only for "
            "comparison with publications that do the same."
        )
    if run.parent:
        yield f"Fine-tuned from {describe(run.parent)}."
        yield from run.parent.get("notes", [])
    yield from run.facts.get("external_notes", [])


def overlap_note(run: Run, tested: pl.DataFrame) -> Iterator[str]:
    """Say what overlapping splits mean for the numbers: how often an epoch counts."""
    if run.overlapping:
        keys = ["protocol", "seed", "recording", "epoch"]
        once = len(tested.unique(keys))
        yield (
            f"The splits were drawn independently of one another (stratified-shuffle): the test "
            f"epochs of all of them, {len(tested):,}, are {once:,} different ones, of which some "
            "count several times, and other epochs were never tested. What is told of a night or "
            "of single epochs takes each epoch once, from the first split that tested it."
        )


def ceiling_note(run: Run, tested: pl.DataFrame) -> str:
    """Say how well a simulated scorer agrees with the stages that made the signals, if known."""
    kappa = scorers.scoring_ceiling(tested, nights.read_nights(run.folder), run.stages)
    if kappa is None:
        return ""
    return (
        "The ceiling: the simulated scorer agrees with the stages that made the signals with "
        f"kappa {kappa:.3f} on these epochs; no model can be expected to agree with it better."
    )


def few_subjects_note(by_subject: LevelConfusions, noun: str = "subject") -> Iterator[str]:
    """Say where there are too few subjects for an interval."""
    count = len({subject for *_, subject in by_subject.keys})
    if count < bootstrap.FEW_SUBJECTS:
        yield (
            f"The intervals are over {count} {noun}{'' if count == 1 else 's'}: with fewer than "
            f"{bootstrap.FEW_SUBJECTS} a bootstrap is known to be too narrow."
        )


def absent_stage_notes(pooled: LevelConfusions, stages: Sequence[str]) -> Iterator[str]:
    """Say under which protocols a mean over stages leaves out stages that were never scored."""
    lines = {}
    for (protocol, _), matrix in zip(pooled.keys, pooled.matrices, strict=True):
        support = metrics.support(matrix)
        absent = [name for name, count in zip(stages, support, strict=True) if not count]
        if absent:
            lines[protocol, *absent] = (
                f"{protocol}: pooled means over stages are over "
                f"{metrics.count_true_stages(matrix)} of {len(stages)} stages, nothing is scored "
                f"{' or '.join(absent)}."
            )
    yield from lines.values()


def unpredicted_stage_notes(pooled: LevelConfusions, stages: Sequence[str]) -> Iterator[str]:
    """Say under which protocols a stage that was scored was never predicted."""
    lines = {}
    for (protocol, _), matrix in zip(pooled.keys, pooled.matrices, strict=True):
        columns = zip(stages, matrix.sum(1), matrix.sum(0), strict=True)
        unpredicted = [name for name, scored, predicted in columns if scored and not predicted]
        if unpredicted:
            verb = "was" if len(unpredicted) == 1 else "were"
            lines[protocol, *unpredicted] = (
                f"{protocol}: {' and '.join(unpredicted)} {verb} never predicted: F1 is 0, and "
                "precision, which is then undefined, is left out of the macro precision."
            )
    yield from lines.values()


def unpredicted_sleep_note(run: Run, tested: pl.DataFrame) -> Iterator[str]:
    """Say in how many nights scored sleep was never predicted, as under the rule drop-last."""
    unpredicted = sleep_agreement.unpredicted_sleep(tested, nights.read_nights(run.folder))
    if len(unpredicted):
        count = f"{len(unpredicted)} night{'' if len(unpredicted) == 1 else 's'}"
        minutes = float(np.median(unpredicted["minutes"].to_numpy()))
        yield (
            f"In {count} scored sleep was left out before the model saw it, {minutes:g} min in the "
            "median night of these: total sleep time and the end of the night are those of the "
            "epochs that it saw."
        )
