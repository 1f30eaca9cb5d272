"""Trainings that make their steps together, with all that a step needs on the device.

At the beginning of a pass its tables go there: which epochs each step takes, their stages, the
seeds of dropout and the learning rates. A step finds its row by a number that it counts up itself,
and leaves its loss in a table that the host reads once in a pass, or every few seconds for those
who watch. So on a GPU one CUDA graph holds the step, and nobody waits for it.

All make the same steps at once: while one makes the last step of its pass, which may have another
number of epochs, the others wait.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from sleeptools.models.layers.stacking import step_seeds
from sleeptools.preprocessing.sequences import NONE
from sleeptools.recording.stages import UNSCORED
from sleeptools.training.batches import PinnedFeed
from sleeptools.training.graph import CapturedWork
from sleeptools.training.loop import Batch, Training
from sleeptools.training.optimisation import FACTORS, step_factors
from sleeptools.training.stacked_state import StackedState

READ_SECONDS: Final = 5.0  # between two looks at the losses of a GPU
SUMS: Final = 3  # as Training.descend gives them


class Lockstep:
    """Trainings side by side.

    Parameters
    ----------
    trainings
        K trainings, of one model and recipe, whose steps have as many windows (`Training.rows`).
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = list(trainings)
        first = trainings[0]
        self.recipe, self.source = first.recipe, first.source
        device, count, rows = first.source.device, len(trainings), first.rows
        self.state = StackedState([training.state for training in trainings], first.recipe)

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(count, *shape, dtype=torch.int64, device=device)

        steps = max(training.steps for training in trainings)
        inputs, targets = first.windows.inputs.shape[1:], first.windows.targets.shape[1:]
        self.tasks = torch.arange(count, device=device)
        self.place = numbers()  # of the next step in its pass
        self.inputs = numbers(steps, rows, *inputs)
        self.stages = numbers(steps, rows * int(np.prod(targets)))
        self.seeds = numbers(steps)
        self.factors = self.state.weights.new_zeros(count, steps, FACTORS)
        self.sums = self.state.weights.new_zeros(count, steps, SUMS)
        self.filled = [0] * count  # number of the pass in the tables
        self.noted = [training.state.step for training in trainings]
        self.read_at = time.monotonic()
        self.x: Tensor | None = None  # of the next step, where it is not gathered on the device
        self.feed: PinnedFeed | None = None
        self.launch = CapturedWork(self.compute) if device.type == "cuda" else self.compute

    @property
    def augments(self) -> bool:
        """Whether signals are changed at random, by numbers that the host draws."""
        augmentation = self.recipe.augmentation
        return not augmentation.nothing or bool(augmentation.montage)

    @property
    def gathers(self) -> bool:
        """Whether a step takes its signals from those of the whole set on the device."""
        return self.source.resident is not None and not self.augments

    @property
    def read_is_due(self) -> bool:
        """Whether losses are to be read after a step: of every one on a CPU, at times on a GPU."""
        on_cpu = self.source.device.type == "cpu"
        return on_cpu or time.monotonic() - self.read_at >= READ_SECONDS

    def step(self) -> list[tuple[Training, int]]:
        """Make the next step of those that wait for no other; give each with its epochs."""
        for row in range(len(self.trainings)):
            self._enter_pass(row)
        odd = [row for row, t in enumerate(self.trainings) if t.next_rows != t.rows]
        counts = [
            (t, int((t.step_windows(t.state.step).targets != NONE).sum()))
            for row, t in enumerate(self.trainings)
            if row in odd or not odd
        ]
        for row in odd:
            self._step_alone(row)
        if not odd:
            if not self.gathers:
                self._bring_signals()
            self.launch()
        for training, _ in counts:
            training.state.step += 1
        return counts

    def _enter_pass(self, row: int) -> None:
        """Bring the tables of a pass to the device, if they are not there."""
        training = self.trainings[row]
        if self.filled[row] == training.pass_number:
            return
        self.filled[row] = training.pass_number
        size, start = training.rows, training.pass_start
        windows = training.windows.pick(training.order(training.pass_number))
        steps = len(windows) // size  # that have so many rows
        windows = windows.pick(slice(0, steps * size))
        stages = self.source.epochs.stages[windows.targets].astype(np.int64)
        stages[windows.targets == NONE] = UNSCORED
        numbers = range(start, start + steps)
        factors = [step_factors(self.recipe, training.schedule_place(step)) for step in numbers]
        seeds = [training.step_seed(step) for step in numbers]
        for table, values in (
            (self.inputs, windows.inputs),
            (self.stages, stages),
            (self.seeds, np.array(seeds)),
            (self.factors, np.array(factors)),
        ):
            table[row, :steps] = torch.from_numpy(values.reshape(steps, *table.shape[2:]))
        self.place[row] = training.state.step - start

    def _bring_signals(self) -> None:
        """Bring the signals of the next step to where it takes them from."""
        if self.source.device.type == "cuda" and not self.augments:
            if self.x is None or self.feed is None:
                shape = (*self.inputs[:, 0].shape, *self.source.epochs.files[0].epoch_shape)
                self.x = torch.empty(shape, device=self.source.device)
                self.feed = PinnedFeed(shape, self.source.device)
            self.feed.send(self._gather, self.x)
            return
        batches = [training.take_batch().x for training in self.trainings]
        if self.x is None:
            self.x = torch.stack(batches)  # (K, B, ...)
        else:
            torch.stack(batches, out=self.x)

    def _gather(self, out: npt.NDArray[np.float32]) -> None:
        """Copy the signals of the next step, (K, B, ...), out of the files."""
        for row, training in zip(out, self.trainings, strict=True):
            self.source.epochs.gather(training.step_windows(training.state.step).inputs, row)

    def compute(self) -> None:
        """Make a step of all, from what is on the device and with nothing else."""
        step = (self.tasks, self.place)
        x = self.x
        if self.gathers:
            assert self.source.resident is not None
            x = self.source.resident[self.inputs[step]]  # (K, B, ...)
        assert x is not None
        stages, seeds, factors = self.stages[step], self.seeds[step], self.factors[step]
        if len(self.trainings) == 1:
            with step_seeds(seeds):
                sums = self.trainings[0].descend(Batch(x[0], stages[0]))[None]
            self.state.learn_alone(0, factors)
        else:
            sums = self._descend(x, stages, seeds)
            self.state.learn(factors)
        self.sums[step] = sums
        self.place += 1

    def _descend(self, x: Tensor, stages: Tensor, seeds: Tensor) -> Tensor:
        """Compute the gradients of a step of all, (K, ...) each; give the sums, (K, 3)."""
        first = self.trainings[0]
        for training in self.trainings:
            training.set_training()

        def run(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, stages: Tensor
        ) -> tuple[Tensor, Tensor]:
            with first.autocast():
                logits = functional_call(first.state.model, (parameters, buffers), (x,))
            return first.loss(logits, stages)

        # vmap has no rule for the other kinds of attention
        with step_seeds(seeds, stacked=True), sdpa_kernel(SDPBackend.MATH):
            losses, sums = vmap(run)(self.state.parameters, self.state.buffers, x, stages)
        # the gradient of each is that of its own loss
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return sums

    def _step_alone(self, row: int) -> None:
        """Make the next step of one training, of any number of rows."""
        training = self.trainings[row]
        step = training.state.step
        seed = torch.tensor([training.step_seed(step)], device=self.source.device)
        with step_seeds(seed):
            sums = training.descend(training.take_batch())
        factors = step_factors(self.recipe, training.schedule_place(step))
        self.state.learn_alone(row, self.factors.new_tensor([factors]))
        self.sums[row, step - training.pass_start] = sums

    def read(self, training: Training) -> None:
        """Note the steps of a training that are done: the host waits for the device here.

        Raises
        ------
        DataError
            If a loss is no number; the steps after it have spoilt the weights.
        """
        row = self.trainings.index(training)
        begun, done = self.noted[row], training.state.step
        self.noted[row], self.read_at = done, time.monotonic()
        if begun == done:
            return
        start = training.pass_start
        for step, sums in enumerate(self.sums[row, begun - start : done - start].tolist(), begun):
            training.note(step, sums)
        self.state.publish(row, done)
