"""Trainings that run together, each as if alone: one is the usual case, several are stacked.

Of several, those whose next step has as many rows make it as one model with a leading axis of tasks
(`torch.func`: `stack_module_state`, `functional_call`, `vmap`); one with another number of rows, as
at the end of a pass, makes it by itself, because BatchNorm cannot pass over rows. The order of its
epochs, its masks, rates, checkpoints and files are each training's own, and it leaves when it has
ended. Gradients are those of separate trainings but for the order of sums.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from sleeptools.errors import DataError, SleeptoolsError, Stopped, UnavailableError
from sleeptools.models.layers.stacking import stacked
from sleeptools.training.loop import Batch, Training
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
            for training in self.members:
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
        """Take a training out of the group."""
        self.charge()
        self.members.remove(training)

    def step(self) -> None:
        """Make the next step of every training, of those with as many rows at once."""
        by_rows: dict[int, list[Training]] = {}
        for training in self.members:
            by_rows.setdefault(training.next_rows, []).append(training)
        for trainings in by_rows.values():
            if len(trainings) == 1:
                with self.attempt(trainings[0]):
                    self.on_step(trainings[0], trainings[0].step(), None)
                continue
            for training, batch, sums in self.step_together(trainings):
                with self.attempt(training):
                    self.on_step(training, training.note(batch, sums), None)

    @contextlib.contextmanager
    def attempt(self, training: Training) -> Iterator[None]:
        """Take a training whose loss is no number out of the group."""
        try:
            yield
        except DataError as e:
            self.leave(training)
            self.failures[str(training.task)] = e

    def step_together(
        self, trainings: Sequence[Training]
    ) -> Iterable[tuple[Training, Batch, list[float]]]:
        """Make one step of several trainings; give each with its batch and its sums.

        Raises
        ------
        UnavailableError
            If the device's memory is too small for so many.
        """
        batches = [training.take_batch() for training in trainings]
        sums = fits(trainings, batches)
        if sums is None:
            raise too_many(trainings, batches)
        for training in trainings:
            training.update()
        return zip(trainings, batches, sums.tolist(), strict=True)


def descend_together(trainings: Sequence[Training], batches: Sequence[Batch]) -> Tensor:
    """Compute the gradients of a step of several trainings.

    Parameters
    ----------
    trainings
        The trainings, of one model and recipe.
    batches
        What each learns from; all of the same shape.

    Returns
    -------
    sums
        (K, 3): of each what `Training.descend` gives.
    """
    first, models = trainings[0], [training.state.model for training in trainings]
    for training in trainings:
        training.set_training()
    parameters, buffers = stack_module_state(models)

    def run(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, stages: Tensor
    ) -> tuple[Tensor, Tensor]:
        with first.autocast():
            logits = functional_call(models[0], (parameters, buffers), (x,))
        return first.loss(logits, stages)

    x = torch.stack([batch.x for batch in batches])
    stages = torch.stack([batch.stages for batch in batches])
    seeds = [training.step_seed for training in trainings]
    with stacked(seeds), sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for all others
        losses, hits = vmap(run)(parameters, buffers, x, stages)  # (K,) each
    losses.sum().backward()  # type: ignore[no-untyped-call]  # the gradient of each is that of its own loss
    with torch.no_grad():
        for task, model in enumerate(models):
            for name, parameter in model.named_parameters():
                grads = parameters[name].grad
                parameter.grad = None if grads is None else grads[task].contiguous()
        held = [buffer for model in models for buffer in model.buffers()]
        new = [buffers[name][task] for task in range(len(models)) for name in buffers]
        if held:
            torch._foreach_copy_(held, new)
    scored = torch.tensor([batch.scored for batch in batches])
    return torch.stack([losses.detach(), hits, scored.to(losses)], 1)


def fits(trainings: Sequence[Training], batches: Sequence[Batch]) -> Tensor | None:
    """`descend_together`, or None if the device's memory is too small."""
    try:
        return descend_together(trainings, batches)
    except RuntimeError as error:
        if not lacks_memory(error, trainings[0].source.device):
            raise
        return None  # and the tensors of this attempt are let go


def too_many(trainings: Sequence[Training], batches: Sequence[Batch]) -> UnavailableError:
    """Say how many trainings the device's memory is large enough for, after trying."""
    count = len(trainings) // 2
    while count > 1 and fits(trainings[:count], batches[:count]) is None:
        count //= 2
    return UnavailableError(
        f"the device's memory is too small for {len(trainings)} trainings at once, of "
        f"{len(batches[0].x)} epochs each",
        hint=f"`stack_folds={count}` (it changes no result but in its last bits)",
        code="MEM-DEVICE",
    )
