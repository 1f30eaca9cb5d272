"""One training: passes through the epochs of the training subjects, a pass kept, the test scored.

A step depends on the state before it and on seed, protocol, fold and its own number, nothing else:
the order of the epochs and the dropout masks come from seeds made of these. (The number of CPU
threads decides the order of sums, and so the last bits.) Under `leak-free` the validation subjects
choose the pass and the test fold is read once, at the end; under `best-on-test` the test fold
itself chooses the pass, as the papers' programs do (by the recipe's `selection_on_test`), which
makes the result optimistic. Every reading of the test fold goes into audit.csv.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sleeptools.errors import DataError, quoted
from sleeptools.evaluation import metrics
from sleeptools.models.folder import build_model, save_model
from sleeptools.models.layers.stacking import LARGEST_SEED, step_seeds
from sleeptools.models.recipe.schedule import Position
from sleeptools.preprocessing.sequences import Windows
from sleeptools.recording.stages import UNSCORED
from sleeptools.runs import writing
from sleeptools.runs.folds import HELD_OUT
from sleeptools.runs.leakage import night_marks
from sleeptools.runs.logs import WATCH
from sleeptools.runs.run import LAST_STATE
from sleeptools.runs.temperature import CALIBRATION
from sleeptools.training import checkpoint
from sleeptools.training.augmentation import augment, vary_montage
from sleeptools.training.batches import EpochSource, Numbers, probabilities, windows
from sleeptools.training.calibration import calibrate
from sleeptools.training.checkpoint import State
from sleeptools.training.explain import ScoredEpochs, compute_explanations
from sleeptools.training.fine_tuning import ESTIMATED, Tuned, read_parent_weights
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import adjust_optimiser, make_optimiser
from sleeptools.training.stop import Stop
from sleeptools.training.task import FINAL, STATE, Task

SCORES = {"accuracy": metrics.accuracy, "kappa": metrics.kappa, "macro_f1": metrics.macro_f1}
SHOWN = 4  # epochs named in a message
RETRAIN = "take the file from where it was written, or train all passes anew"
SAVE_INTERVALS = {"cpu": 0.0, "cuda": 60.0}
"""Seconds between checkpoints, by device: on a GPU one takes as long as a pass or more."""
Scored = tuple[Numbers, npt.NDArray[np.float32], str]
"""Indices of epochs within the whole set, their hypnodensity, and their role."""


class Batch(NamedTuple):
    """What a step learns from.

    Parameters
    ----------
    x
        (B, C, T) float32, or of sequences (B, L, C, T), augmented.
    stages
        (B,) or (B L,) int64; -1 does not count.
    """

    x: Tensor
    stages: Tensor


class Training:
    """A task at work.

    Parameters
    ----------
    task
        What to train.
    source
        The epochs, on the device.
    stop
        Checked after every step.
    """

    def __init__(self, task: Task, source: EpochSource, stop: Stop) -> None:
        self.task, self.source, self.stop = task, source, stop
        self.recipe = task.recipe
        self.train = self.numbers("train")
        weights = torch.tensor(self.recipe.class_weights, device=source.device)
        self.test = self.numbers("test")
        self.weights = weights if len(weights) else None
        self.state = self._start()
        self.windows = self.choose_windows()
        self.smallest_step = 2  # windows: BatchNorm needs two
        self.steps = self.count_steps()
        self.saved_at = time.monotonic()

    def _start(self) -> State:
        # without the protocol, so that both protocols start from the same weights
        torch.manual_seed(_number([self.task.seed, self.task.fold.number]))
        model = build_model(self.task.model, self.task.config)
        self.tuned: Tuned | None = None
        parameters = list(model.parameters())
        if self.task.parent is not None:
            model.load_state_dict(read_parent_weights(self.task.parent))
            self.tuned = Tuned(model, self.recipe)
            parameters = [p for p in parameters if p.requires_grad]
        model.to(self.source.device)
        state = State(model, make_optimiser(parameters, self.recipe))
        if self.saved.exists():
            checkpoint.restore(self.saved, state)
        elif self.task.continued is not None:
            checkpoint.restore(self.task.continued, state, RETRAIN)
            if len(self.test):  # its result was read, and may be why it is continued
                state.audit.append((len(state.rows), "score"))
        return state

    def choose_windows(self) -> Windows:
        """Arrange the training epochs as the model takes them; a pass goes through all of them."""
        return windows(self.state.model, self.source.epochs, self.train)

    def count_steps(self) -> int:
        """Count the steps of a pass."""
        return steps(len(self.windows), self.recipe.batch, self.smallest_step)

    @property
    def network(self) -> torch.nn.Module:
        """What a training step calls: the model."""
        return self.state.model

    def share(self, rows: Numbers) -> Numbers:
        """Take the windows of a batch that this process computes: all."""
        return rows

    @property
    def on_gpu(self) -> bool:
        """Whether its steps are made on a GPU by `Lockstep`, which waits for none of them."""
        return self.source.device.type == "cuda"

    @property
    def salt(self) -> list[int]:
        """Further numbers of the seed of a step's dropout; none."""
        return []

    def numbers(self, role: str) -> Numbers:
        """Give the indices, within the whole set, of the epochs that have a role here."""
        return self.task.fold.numbers(role, self.source.epochs.numbers_of)

    @property
    def saved(self) -> Path:
        """The checkpoint's file."""
        return self.task.folder / STATE

    @property
    def pass_number(self) -> int:
        """The pass at work, from 1."""
        return len(self.state.rows) + 1

    def schedule_place(self, step: int) -> Position:
        """State of the training, at a step of the present pass, that its learning rate needs."""
        losses = [row["loss"] for row in self.state.rows]
        return Position(step, self.steps * self.recipe.passes, losses)

    @cached_property
    def held_out(self) -> tuple[str, Numbers]:
        """What each pass is judged on: the log's column prefix, and the epochs."""
        role = "test" if self.task.selects_on_test else "val"
        return role, self.numbers(role)

    @property
    def learnt(self) -> bool:
        """Whether all passes are done and judged."""
        return self.pass_number > self.recipe.passes

    @property
    def pass_over(self) -> bool:
        """Whether all steps of the present pass are done: it is to be judged."""
        return self.state.step >= self.pass_number * self.steps

    def begin(self) -> None:
        """Do what comes before the first step."""
        if not self.state.step:
            self.estimate_statistics()

    def save_is_due(self) -> bool:
        """Whether a checkpoint is written after a pass: after the last, and by time on a GPU."""
        last = self.pass_number > self.recipe.passes
        interval = SAVE_INTERVALS[self.source.device.type]
        return last or time.monotonic() - self.saved_at >= interval

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.saved, self.state)
        self.saved_at = time.monotonic()

    def order(self, number: int) -> Numbers:
        """Give the order of the training epochs, or of their windows, in a pass."""
        if number != self._ordered[0]:
            rng = np.random.default_rng(self.task.seeds(number))
            self._ordered = number, rng.permutation(len(self.windows))
        return self._ordered[1]

    _ordered: tuple[int, Numbers] = (-1, np.empty(0, np.int64))

    @property
    def pass_start(self) -> int:
        """Updates before the present pass."""
        return (self.pass_number - 1) * self.steps

    @property
    def rows(self) -> int:
        """Count the windows of a step, but for the last one of a pass, which may have others."""
        return self.recipe.batch if self.steps > 1 else len(self.windows)

    def span(self, step: int) -> slice:
        """Place of a step's windows within the order of the present pass."""
        start = self.recipe.batch * (step - self.pass_start)
        last = step + 1 == self.pass_start + self.steps
        return slice(start, len(self.windows) if last else start + self.recipe.batch)

    @property
    def next_rows(self) -> int:
        """Count the windows of the next step."""
        return len(range(*self.span(self.state.step).indices(len(self.windows))))

    def step(self) -> int:
        """Make one update; return the number of epochs in it."""
        batch = self.take_batch()
        with step_seeds(self.step_seed(self.state.step)):
            sums = self.descend(batch)
        self.update()
        count = self.note(self.state.step, sums.tolist())  # the one wait for the device in a step
        self.state.step += 1
        return count

    def step_windows(self, step: int) -> Windows:
        """Give what a step of the present pass takes, of this process."""
        return self.windows.pick(self.share(self.order(self.pass_number)[self.span(step)]))

    def take_batch(self) -> Batch:
        """Take what the next step learns from."""
        windows = self.step_windows(self.state.step)
        x, stages = self.source.take(windows)  # (B, C, T), (B,); of sequences (B, L, C, T), (B, L)
        return Batch(self.augmented(x, windows.inputs), stages.flatten())

    def step_seed(self, step: int) -> int:
        """Seed of all random numbers of a step but those of `augmented`."""
        return _number(self.task.seeds(0, step, *self.salt)) & LARGEST_SEED

    def descend(self, batch: Batch) -> Tensor:
        """Compute the gradients of a step.

        Returns
        -------
        sums
            (3,): the loss, the number of epochs whose stage is right, and of all that count.
        """
        self.state.optimiser.zero_grad(set_to_none=True)
        self.set_training()
        with self.autocast():
            logits = self.network(batch.x)
        loss, sums = self.loss(logits, batch.stages)
        return self.descend_from(loss, batch.stages, sums)

    def set_training(self) -> None:
        """Set the model to training, in fine-tuning but for what is frozen."""
        self.state.model.train() if self.tuned is None else self.tuned.train()

    def autocast(self) -> torch.autocast:
        """Give the context in which products are of the recipe's precision."""
        half = self.recipe.precision == "bf16"
        return torch.autocast(self.source.device.type, torch.bfloat16, enabled=half)

    def loss(self, logits: Tensor, stages: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of a batch, and the sums of `descend`."""
        logits = logits.flatten(0, -2)  # (B or B L, S)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = stage_loss(logits, stages, self.weights, self.recipe.loss)
        hits = logits.detach().argmax(1) == stages
        counts = torch.stack([hits, stages != UNSCORED]).sum(1)  # (2,)
        return loss, torch.cat([loss.detach()[None], counts.to(loss.dtype)])

    def descend_from(self, loss: Tensor, stages: Tensor, sums: Tensor) -> Tensor:
        """Compute the gradients of a loss.

        Parameters
        ----------
        loss, stages
            Loss of the batch, and the stages of its epochs, -1 for one that does not count.
        sums
            As `descend` gives them, of this process.

        Returns
        -------
        sums
            The same of the whole step.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        return sums

    def update(self) -> None:
        """Change the weights by the gradients."""
        position = self.schedule_place(self.state.step)
        adjust_optimiser(self.state.optimiser, self.recipe, position)
        self.state.optimiser.step()

    def note(self, step: int, sums: Sequence[float]) -> int:
        """Note a step of the present pass by its sums; return the number of epochs in it.

        Raises
        ------
        DataError
            If the loss is no number.
        """
        state, (value, correct, count) = self.state, sums
        if not math.isfinite(value):
            self.refuse(step, value)
        state.loss += value * count
        state.correct += int(correct)
        state.seen += int(count)
        return int(count)

    def augmented(self, x: Tensor, numbers: Numbers) -> Tensor:
        """Augment a batch as the recipe says; a cached augmentation is that of the first pass."""
        augmentation = self.recipe.augmentation
        seeds = self.task.seeds(0, 0, 1 if augmentation.cached else self.pass_number)
        x = augment(x, numbers, augmentation, seeds)
        return vary_montage(x, numbers, augmentation, seeds, self.source.epochs.modalities)

    def estimate_statistics(self) -> None:
        """Give BatchNorm the statistics of the training epochs, in fine-tuning."""
        if self.tuned is not None:
            self.tuned.estimate(self._spread_batches)

    def _spread_batches(self) -> Iterator[Tensor]:
        """Give batches of training epochs that are spread over all of them, each of one size."""
        count = max(1, len(self.windows) // self.recipe.batch)
        length = count * (len(self.windows) // count)
        epochs = self.windows.inputs.size // len(self.windows)
        for first in range(0, count, math.ceil(length * epochs / ESTIMATED)):
            self.stop.check()
            yield self.source.take(self.windows.pick(np.arange(first, length, count)))[0]

    def finish_pass(self, charge: Callable[[], None]) -> float | None:
        """Judge a pass, keep it if it is the best, write the log; return the kappa.

        Parameters
        ----------
        charge
            Called for the state's `seconds` to be brought up to date.
        """
        state, selection = self.state, self.task.selection
        self.estimate_statistics()
        prefix, numbers = self.held_out
        scores = self.judge(numbers) if len(numbers) else {}
        score = scores.get(selection, float("nan"))
        if selection != "last" and (score > state.best_score or state.best is None):
            state.keep(score if math.isfinite(score) else float("-inf"))
        charge()
        row = {
            "pass": self.pass_number,
            "step": state.step,
            "loss": state.loss / state.seen,
            "train_accuracy": state.correct / state.seen,
            "seconds": round(state.seconds, 3),
        }
        row |= {f"{prefix}_{k}": v for k, v in scores.items()}
        if self.task.watch_test:  # after the pass is chosen: it cannot have an influence
            row |= {f"test_{k}": v for k, v in self.judge(self.test, WATCH).items()}
        self.end_pass(row)
        writing.write_log(self.task.folder, state.rows, self.selected_pass)
        return scores.get("kappa")

    def end_pass(self, row: dict[str, Any]) -> None:
        """Note a finished pass, and begin the next one."""
        self.state.rows.append(row)
        self.state.loss, self.state.correct, self.state.seen = 0.0, 0, 0

    def probabilities(self, numbers: Numbers, purpose: str) -> npt.NDArray[np.float32]:
        """Score epochs; every reading of the test fold is noted."""
        density = probabilities(self.state.model, self.source, numbers, self.stop)
        if np.isin(numbers, self.test).any():
            self.state.audit.append((len(self.state.rows) + (purpose != "score"), purpose))
        return density

    def judge(self, numbers: Numbers, purpose: str = "selection") -> dict[str, float]:
        """Accuracy, kappa and macro-F1 of the present weights on some epochs."""
        p = self.probabilities(numbers, purpose)
        truth = self.source.epochs.stages[numbers]
        matrix = metrics.confusion_matrix(truth, p.argmax(1), p.shape[1])
        return {name: float(score(matrix)) for name, score in SCORES.items()}

    @property
    def selected_pass(self) -> int:
        """The pass whose weights are kept, from 1: the best so far, or the last."""
        return self.state.best_pass or len(self.state.rows)

    def finish(self) -> None:
        """Write the kept weights, and the predictions last: they mark the training as done."""
        state, folder, data = self.state, self.task.folder, self.source.epochs
        if state.best is not None:
            state.model.load_state_dict(state.best)
        validation = self.numbers("val")
        density = np.empty((0, len(data.names)), np.float32)
        if len(validation):
            density = self.probabilities(validation, "score")
        scored: list[Scored] = [(validation, density, "val")] if len(validation) else []
        target = self.task.tested_in if self.task.protocol == FINAL else folder
        began = time.monotonic()
        if target is not None:
            scored.append((self.test, self.probabilities(self.test, "score"), "test"))
        seconds = time.monotonic() - began
        learnt = {*self.task.fold.subjects("train"), *self.task.fold.subjects("val")}
        facts = {
            **self.task.facts,
            "night_marks": night_marks(data, learnt),
            "selection": self.task.selection,
            "pass": self.selected_pass,
            "threads": state.threads,
            CALIBRATION: calibrate(self.task, density, data.stages[validation]),
        }
        save_model(state.model, folder, facts)
        if target is not None:
            if target != folder:
                writing.write_scoring_time(target, len(self.test), seconds)
            self.write_predictions(target, scored)
        if self.recipe.schedule.depends_on_passes:  # no passes can be added to it
            self.saved.unlink(missing_ok=True)
        else:
            self.saved.rename(folder / LAST_STATE)

    def write_predictions(self, folder: Path, scored: list[Scored]) -> None:
        """Write what the kept weights predict, of the test epochs last."""
        tables = [writing.predictions_table(self.source.epochs, *entry) for entry in scored]
        if self.task.explain and self.task.protocol != FINAL:
            self.explain(folder, ScoredEpochs(self.test, tables[-1]["predicted"].to_numpy()))
        protocol = HELD_OUT if self.task.protocol == FINAL else self.task.protocol
        writing.write_audit(folder, protocol, self.state.audit)
        writing.write_predictions(folder, tables)

    def explain(self, folder: Path, tested: ScoredEpochs) -> None:
        """Write features and modality weights of the test epochs under the kept weights."""
        arrays, facts = compute_explanations(
            self.state.model, self.source, tested, self.task.seeds(), self.stop
        )
        writing.write_explanations(folder, arrays, facts)

    def refuse(self, step: int, value: float) -> None:
        """Stop at a loss that is no number, and name the epochs of its batch.

        Raises
        ------
        DataError
            Always.
        """
        numbers = np.unique(self.step_windows(step).inputs)
        finite = np.isfinite(self.source.epochs.gather(numbers)).all((1, 2))
        data = self.source.epochs
        located = [data.find_epoch(int(n)) for n in [*numbers[~finite], *numbers[finite]]]
        epochs = [(file.recording, index) for file, index in located]
        path = writing.write_not_finite(self.task.folder, epochs)
        listing = ", ".join(f"{recording} epoch {index}" for recording, index in epochs[:SHOWN])
        why = "signals that are not finite among them" if not finite.all() else "signals all finite"
        mend = f"'sleeptools verify {quoted(data.folder)}' tells whether the epochs are damaged"
        if finite.all():
            mend = "a lower `recipe.learning_rate` may keep it finite"
        raise DataError(
            f"loss is {value} at step {step} of pass {self.pass_number}; epochs of the "
            f"batch: {listing}, ... ({why})",
            hint=f"{path} lists them all; {mend}",
            code="LOSS-FINITE",
        )


def steps(windows: int, batch: int, smallest: int = 2) -> int:
    """Count the steps of a pass; what is left over goes along if it is less than the smallest."""
    return math.ceil(windows / batch) - (1 < batch < windows and 0 < windows % batch < smallest)


def _number(seeds: list[int]) -> int:
    """One 63-bit seed for torch out of several numbers."""
    return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> np.uint64(1))
