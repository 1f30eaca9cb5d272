"""Trainings that run together, each as if alone: one is the usual case, several are stacked.

Several make their steps as one model with a leading axis of tasks (`lockstep`, by `torch.func`); a
step with another number of rows, as at the end of a pass, each makes by itself, because BatchNorm
cannot pass over rows. The order of its epochs, its masks, rates, checkpoints and files are each
training's own, and it leaves when it has ended. Gradients are those of separate trainings but for
the order of sums. On a GPU one alone goes that way, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence

from sleeptools.errors import DataError, SleeptoolsError, Stopped, UnavailableError
from sleeptools.training.lockstep import Lockstep
from sleeptools.training.loop import Training
from sleeptools.training.memory import lacks_memory

OnStep = Callable[[Training, int, float | None], None]
"""Called with the epochs a training has just learnt from, and the kappa of a pass just finished."""


class Group:
    """Trainings at work.

    Parameters
    ----------
    trainings
        The trainings, of one model and recipe.
    on_step
        Called after every step and every pass of each.
    failures
        Gets the error of each whose loss is no number, by the name of its task.
    """

    def __init__(
        self,
        trainings: Sequence[Training],
        on_step: OnStep,
        failures: MutableMapping[str, SleeptoolsError] | None = None,
    ) -> None:
        self.members = list(trainings)
        self.on_step = on_step
        self.failures = {} if failures is None else failures
        self.charged = time.monotonic()
        self.together: dict[int, Lockstep] = {}  # by the rows of a step

    def run(self) -> None:
        """Train all to their ends and write their results.

        Raises
        ------
        Stopped
            After a stop signal, with a checkpoint of each written.
        DataError
            If the loss of one was no number; the others have been trained to their ends.
        """
        try:
            for training in self.members:
                training.begin()
            while self.members:
                for training in [*self.members]:
                    self.end_pass(training)
                self.step()
                for training in self.members:
                    training.stop.check()
        except Stopped:
            self.charge()
            for training in [*self.members]:
                with self.attempt(training):
                    self.read(training)
                    training.save()
            raise
        for error in self.failures.values():
            raise error

    def charge(self) -> None:
        """Share out the time since the last call among the trainings at work."""
        now = time.monotonic()
        for training in self.members:
            training.state.seconds += (now - self.charged) / len(self.members)
        self.charged = now

    def end_pass(self, training: Training) -> None:
        """Judge a training's pass if that is over, and write its results if it was the last."""
        if not training.learnt and training.pass_over:
            with self.attempt(training):
                self.read(training)
            if training not in self.members:
                return
            kappa = training.finish_pass(self.charge)
            if training.save_is_due():
                training.save()
            self.on_step(training, 0, kappa)
            training.stop.check()
        if training.learnt:
            self.leave(training)
            training.finish()
            self.charged = time.monotonic()  # a training's time is that of its passes

    def leave(self, training: Training) -> None:
        """Take a training out of the group; the others are put together anew."""
        self.charge()
        self.members.remove(training)
        for member in [*self.members]:
            with self.attempt(member):
                self.read(member)
        self.together.clear()

    def read(self, training: Training) -> None:
        """Have a training note all its steps that are done; see `Lockstep.read`."""
        lockstep = self.together.get(training.rows)
        if lockstep is not None:
            lockstep.read(training)

    def step(self) -> None:
        """Make the next step of every training, of those with as many rows at once."""
        by_rows: dict[int, list[Training]] = {}
        for training in self.members:
            by_rows.setdefault(training.rows, []).append(training)
        for rows, trainings in by_rows.items():
            if len(trainings) == 1 and not trainings[0].on_gpu:
                with self.attempt(trainings[0]):
                    self.on_step(trainings[0], trainings[0].step(), None)
            else:
                self.step_together(rows, trainings)

    def step_together(self, rows: int, trainings: Sequence[Training]) -> None:
        """Make the next step of several trainings, or of one on a GPU.

        Raises
        ------
        UnavailableError
            If the device's memory is too small for so many.
        """
        counts = None
        try:
            if rows not in self.together:
                self.together[rows] = Lockstep(trainings)
            counts = self.together[rows].step()
        except RuntimeError as error:
            if len(trainings) == 1 or not lacks_memory(error, trainings[0].source.device):
                raise
        if counts is None:  # and the tensors of that attempt are let go
            self.together.clear()
            raise too_many(trainings)
        lockstep = self.together[rows]
        due = lockstep.read_is_due
        for training, count in counts:
            with self.attempt(training):
                if due:
                    lockstep.read(training)
                if training in self.members:  # another's failure may have shown its own
                    self.on_step(training, count, None)

    @contextlib.contextmanager
    def attempt(self, training: Training) -> Iterator[None]:
        """Take a training whose loss is no number out of the group."""
        try:
            yield
        except DataError as e:
            self.leave(training)
            self.failures[str(training.task)] = e


def fits(trainings: Sequence[Training]) -> bool:
    """Whether the device's memory is large enough for a step of some trainings; they make it."""
    try:
        Lockstep(trainings).step()
    except RuntimeError as error:
        if not lacks_memory(error, trainings[0].source.device):
            raise
        return False
    return True


def too_many(trainings: Sequence[Training]) -> UnavailableError:
    """Say how many trainings the device's memory is large enough for, after trying."""
    count = len(trainings) // 2
    while count > 1 and not fits(trainings[:count]):
        count //= 2
    return UnavailableError(
        f"the device's memory is too small for {len(trainings)} trainings at once, of "
        f"{trainings[0].rows} epochs each",
        hint=f"`stack_folds={count}` (it changes no result but in its last bits)",
        code="MEM-DEVICE",
    )
