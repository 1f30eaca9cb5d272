"""What a reader must know before believing a number, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sleeptools.errors import DataError
from sleeptools.evaluation import bootstrap, metrics, scorers, sleep_agreement
from sleeptools.evaluation.confusion import Counted
from sleeptools.runs import logs, nights, predictions
from sleeptools.runs.folds import BEST_ON_TEST, LEAK_FREE
from sleeptools.runs.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

SIMULATED = "The data is simulated: these numbers say nothing about sleep in people or animals."
UNKNOWN = "No file of the run says whether its data is simulated."


def leakage(run: Run) -> str:
    """Say what was checked about subjects on two sides of a fold.

    Raises
    ------
    DataError
        If there are any, and the run was not asked to leak.
    """
    if "external" in run.facts:
        return str(run.facts["external"]["leakage"])
    found = predictions.leaks(run)
    checked = len({(t.protocol, t.fold) for t in run.done})
    if found and not run.leaky:
        raise DataError(
            f"{run.folder / 'folds.parquet'}: subjects on two sides of a fold: {'; '.join(found)}",
            hint="train again: every fold must be divided by subject",
        )
    if found:
        return f"LEAKY: subjects on two sides of a fold, by request: {'; '.join(found)}"
    return f"no subject trains or validates and is tested in the same fold ({checked} checked)"


def every(run: Run, found: pl.DataFrame, counted: Mapping[str, Counted]) -> Iterator[str]:
    """Collect all notes on a run, its predictions and its matrices."""
    yield from notes(run)
    yield from ceiling(run, found)
    yield from few(counted)
    yield from absent(counted["pooled"], run.stages)
    yield from outside(run, found)


def notes(run: Run) -> Iterator[str]:
    """Say what the run itself tells: simulated, incomplete, read twice, optimistic."""
    if run.simulated:
        yield SIMULATED
    elif run.simulated is None:
        yield UNKNOWN
    if run.missing:
        total = len(run.done) + len(run.missing)
        yield f"The run is incomplete: {len(run.missing)} of {total} trainings are missing."
    read = logs.count_test_readings(run, watching=False).get(LEAK_FREE, 1)
    if read > 1:
        yield f"A leak-free test fold was read {read} times; once, at the end, is right."
    elif logs.count_test_readings(run).get(LEAK_FREE, 1) > read:
        yield (
            "The leak-free test folds were watched after every pass, to measure "
            "what choosing on them would gain; no pass was chosen by it."
        )
    last = run.unchosen(LEAK_FREE)
    if last and any(t.protocol == LEAK_FREE for t in run.done):
        which = ", ".join(map(str, last))
        yield f"leak-free, fold {which}: nothing chose the pass, the last one is kept."
    if any(t.protocol == BEST_ON_TEST for t in run.done):
        yield (
            "best-on-test keeps the pass that is best on the scored fold: optimistic, only for "
            "comparison with publications that do the same."
        )
    yield from run.facts.get("external_notes", [])


def ceiling(run: Run, found: pl.DataFrame) -> Iterator[str]:
    """Say how far simulated scoring agrees with what made the signals."""
    known = nights.read_nights(run.folder)
    kappa = scorers.ceiling(found.filter(role="test"), known, run.stages)
    if kappa is not None:
        yield (
            f"The ceiling: the simulated scorer agrees with the stages that made the signals with "
            f"kappa {kappa:.3f} on these epochs; no model can be expected to agree with it better."
        )


def few(counted: Mapping[str, Counted]) -> Iterator[str]:
    """Say where there are too few subjects for an interval."""
    count = len({place[3] for place in counted["subject"].places})
    if count < bootstrap.FEW:
        yield (
            f"The intervals are over {count} subject{'' if count == 1 else 's'}: with fewer than "
            f"{bootstrap.FEW} a bootstrap is known to be too narrow."
        )


def absent(pooled: Counted, stages: Sequence[str]) -> Iterator[str]:
    """Say where a mean over stages is over fewer than there are."""
    lines = {}
    for where, matrix in zip(pooled.places, pooled.matrices, strict=True):
        lacking = [n for n, c in zip(stages, metrics.support(matrix), strict=True) if not c]
        if lacking:
            lines[where[0], *lacking] = (
                f"{where[0]}: pooled means over stages are over {metrics.present(matrix)} of "
                f"{len(stages)} stages, nothing is scored {' or '.join(lacking)}."
            )
    yield from lines.values()


def outside(run: Run, found: pl.DataFrame) -> Iterator[str]:
    """Say where scored sleep was never predicted, as under the rule drop-last."""
    lost = sleep_agreement.unpredicted_sleep(
        found.filter(role="test"), nights.read_nights(run.folder)
    )
    if len(lost):
        what = f"{len(lost)} night{'' if len(lost) == 1 else 's'}"
        minutes = float(np.median(lost["minutes"].to_numpy()))
        yield (
            f"In {what} scored sleep was left out before the model saw it, {minutes:g} min in the "
            "median night of these: total sleep time and the end of the night are those of the "
            "epochs that it saw."
        )
