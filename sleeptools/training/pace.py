"""How long a training will take on this machine, from some steps of a copy that is thrown away.

The copy begins as the training does, and steps draw from generators of their own, so that nothing
of the training changes by it. The steps are small where the network is slow: the whole measurement
takes about a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.training.batches import EpochSource, probabilities
from sleeptools.training.device import set_cpu_threads
from sleeptools.training.fine_tuning import ESTIMATED
from sleeptools.training.loop import Training
from sleeptools.training.stop import Stop
from sleeptools.training.task import STATE, Task

FEW: Final = 16  # epochs of the first steps, which tell how many more a short time allows
SHORT: Final = 0.5  # s, of a step that is measured; nothing is repeated that took longer
BRIEF: Final = 60.0  # s, that the first steps measure well enough
WORTH_LESS: Final = 600.0  # s, from which on smaller choices are told
FEWER_FOLDS: Final = 5
FEWER_PASSES: Final = 10  # a tenth of the passes
UNITS: Final = ((172_800, 86_400, "days"), (5_400, 3_600, "h"), (90, 60, "min"), (0, 1, "s"))
"""From so many seconds on, in units of so many, by name."""


@dataclass(frozen=True)
class Pace:
    """Time that an epoch takes, s: one that is trained on, and one that is scored."""

    trained: float
    scored: float

    def duration(self, task: Task, data: EpochSet) -> float:
        """Estimate how long the rest of a training takes, s."""
        counts = {
            role: len(task.fold.numbers(role, data.numbers_of)) for role in ("train", "val", "test")
        }
        judged = counts["test" if task.selects_on_test else "val"]
        judged += counts["test"] * task.watch_test
        judged += min(ESTIMATED, counts["train"]) * (task.parent is not None)
        passes = task.recipe.passes - passes_done(task)
        a_pass = counts["train"] * self.trained + judged * self.scored
        return passes * a_pass + (counts["val"] + counts["test"]) * self.scored


def passes_done(task: Task) -> int:
    """Count the passes that a training begins with, from its checkpoint or another run's."""
    for path in (task.folder / STATE, task.continued):
        try:
            if path is not None and path.exists():
                return len(store.read_tensors(path).facts["rows"])
        except (DataError, MissingInputError, KeyError, TypeError):  # the training itself tells
            return 0
    return 0


def measure_pace(pending: Sequence[Task], source: EpochSource, stop: Stop) -> Pace | None:
    """Measure how fast the first of some trainings goes here; None if it cannot.

    Parameters
    ----------
    pending
        The trainings; all together tell how exactly it is worth to be known.
    source
        The epochs, on the device.
    stop
        Checked now and then.

    Raises
    ------
    Stopped
        If a stop signal has come.
    """
    task = replace(pending[0], folder=pending[0].folder / "copy", continued=None)
    try:
        pace = _measure(task, source, stop, FEW)
        more = int(SHORT / pace.trained)
        brief = sum(pace.duration(t, source.epochs) for t in pending) < BRIEF
        if brief or more < 2 * FEW:
            return pace
        return _measure(task, source, stop, more)
    except (DataError, ArithmeticError):  # a loss that is no number: the training itself tells
        return None


def longest_duration(
    tasks: Sequence[Task], source: EpochSource, threads: int | None
) -> float | None:
    """Estimate how long the longest of some trainings takes here, s; None if it cannot be told.

    Parameters
    ----------
    tasks
        The trainings.
    source
        The epochs, on the device.
    threads
        CPU threads that each will have.
    """
    before = torch.get_num_threads()
    set_cpu_threads(threads)
    try:
        pace = measure_pace(tasks, source, Stop()) if tasks else None
    finally:
        torch.set_num_threads(before)
    return None if pace is None else max(pace.duration(task, source.epochs) for task in tasks)


class TrialTraining(Training):
    """A training that repeats its first step and writes nothing."""

    def step(self) -> int:
        """Make the first step once more; return the number of epochs in it."""
        self.state.step = 0  # the last one of a pass may be short
        return super().step()

    def refuse(self, step: int, value: float) -> None:
        """Raise ArithmeticError; the training itself says more."""
        raise ArithmeticError(f"loss is {value}")


def _measure(task: Task, source: EpochSource, stop: Stop, epochs: int) -> Pace:
    """Measure with steps of about so many epochs, but of no more than the recipe's."""
    copy = TrialTraining(task, source, stop)
    length = copy.windows.inputs.size // len(copy.windows)  # epochs of a window
    batch = min(task.recipe.batch, max(2, math.ceil(epochs / length)))  # BatchNorm needs two
    fewer = task.recipe.model_copy(update={"batch": batch})
    copy = TrialTraining(replace(task, recipe=fewer), source, stop)
    numbers = copy.train[: 2 * epochs]

    def score() -> int:
        probabilities(copy.state.model, source, numbers, stop)
        return len(numbers)

    return Pace(_seconds_each(copy.step), _seconds_each(score))


def _seconds_each(work: Callable[[], int]) -> float:
    """Time of one epoch: the second time, unless the first one, which lays out memory, was long."""
    seconds = count = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        count = work()
        seconds = time.perf_counter() - begin
        if seconds > SHORT:
            break
    return seconds / count


# --- in words -------------------------------------------------------------------------------------


def estimate_text(
    pace: Pace, pending: Sequence[Task], data: EpochSet, choices: Iterable[str]
) -> str:
    """Tell how long trainings take together, and how long with smaller choices.

    Parameters
    ----------
    pace
        As measured.
    pending
        The trainings that are not done.
    data
        The epochs.
    choices
        Settings that may be smaller: "passes", "folds", "fold"; none where anything is trained.
    """
    seconds = [pace.duration(task, data) for task in pending]
    total, passes = sum(seconds), pending[0].recipe.passes
    count = f"{len(pending)} training{'s' * (len(pending) > 1)}"
    each = f"{passes} pass{'es' * (passes > 1)}"
    text = f"about {rough(total)} on this machine, for {count} of {each}"
    if total < WORTH_LESS:
        return text
    folds = len({task.fold.number for task in pending})
    fewer = max(1, passes // FEWER_PASSES)
    shares = {
        "passes": (f"`passes={fewer}`", fewer / passes),
        "folds": (f"`folds={FEWER_FOLDS}`", (FEWER_FOLDS - 1) / max(1, folds - 1)),
        "fold": (f"`fold={pending[0].fold.number}`", 1 / folds),
    }
    smaller = [
        f"{setting} {rough(share * total)}"
        for setting, share in (shares[name] for name in choices)
        if share < 1
    ]
    return f"{text}; less: {', '.join(smaller)}" if smaller else text


def rough(seconds: float) -> str:
    """Write a duration with two digits: "40 s", "12 min", "3.4 h"."""
    _, unit, name = next(row for row in UNITS if seconds >= row[0])
    value = seconds / unit
    digits = 1 if value < 10 and unit > 60 else 0  # noqa: PLR2004
    return f"{value:.{digits}f} {name}"
