"""One training: passes through the epochs of the training subjects, a pass kept, the test scored.

A step depends on the state before it and on seed, protocol, fold and its own number, nothing else:
the order of the epochs and the dropout masks come from generators seeded with these. (The number
of CPU threads decides the order of sums, and so the last bits.) Under
`leak-free` the validation subjects choose the pass and the test fold is read once, at the end;
under `best-on-test` the test fold itself chooses the pass by accuracy, as the papers' programs do,
which makes the result optimistic. Every reading of the test fold goes into audit.csv.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sleeptools import store
from sleeptools.errors import DataError, Stopped
from sleeptools.evaluation import metrics
from sleeptools.models.folder import build_model, save_model
from sleeptools.models.recipe.schedule import Place
from sleeptools.preprocessing.sequences import NONE
from sleeptools.runs.folds import BEST_ON_TEST
from sleeptools.runs.logs import WATCH
from sleeptools.runs.run import EXPLAIN
from sleeptools.training import checkpoint, explain
from sleeptools.training.augmentation import augment
from sleeptools.training.batches import Numbers, Source, probabilities, windows
from sleeptools.training.checkpoint import State
from sleeptools.training.optimisation import adjust_optimiser, make_optimiser, stage_loss
from sleeptools.training.stop import Stop
from sleeptools.training.task import FINAL, STATE, Task

LOG = (
    "pass",
    "step",
    "loss",
    "train_accuracy",
    "val_accuracy",
    "val_kappa",
    "val_macro_f1",
    "test_accuracy",
    "test_kappa",
    "test_macro_f1",
    "seconds",
    "selected",
)
SCORES = {"accuracy": metrics.accuracy, "kappa": metrics.kappa, "macro_f1": metrics.macro_f1}
SHOWN = 4  # epochs named in a message
Reading = Callable[[int, float | None], None]


class Training:
    """A task at work."""

    def __init__(self, task: Task, source: Source, stop: Stop) -> None:
        self.task, self.source, self.stop = task, source, stop
        self.recipe = task.recipe
        self.train = self.numbers("train")
        weights = torch.tensor(self.recipe.class_weights, device=source.device)
        self.test = self.numbers("test")
        self.weights = weights if len(weights) else None
        self.state = self._start()
        self.windows = windows(self.state.model, source.epochs, self.train)
        self.steps = steps(len(self.windows), self.recipe.batch)

    def _start(self) -> State:
        # without the protocol, so that both protocols start from the same weights
        torch.manual_seed(_number([self.task.seed, self.task.fold.number]))
        model = build_model(self.task.model, self.task.config).to(self.source.device)
        state = State(model, make_optimiser(list(model.parameters()), self.recipe))
        if self.saved.exists():
            checkpoint.restore(self.saved, state)
        return state

    def numbers(self, role: str) -> Numbers:
        """Epochs that have a role in this training."""
        return self.task.fold.numbers(role, self.source.epochs.of)

    @property
    def saved(self) -> Path:
        """The checkpoint's file."""
        return self.task.folder / STATE

    @property
    def pass_number(self) -> int:
        """The pass at work, from 1."""
        return len(self.state.rows) + 1

    @property
    def place(self) -> Place:
        """What the schedule of the learning rate goes by."""
        losses = [row["loss"] for row in self.state.rows]
        return Place(self.state.step, self.steps * self.recipe.passes, losses)

    @cached_property
    def held_out(self) -> tuple[str, Numbers]:
        """What each pass is judged on: the log's column prefix, and the epochs."""
        role = "test" if self.task.protocol == BEST_ON_TEST else "val"
        return role, self.numbers(role)

    def run(self, report: Reading) -> None:
        """Train to the end and write the results.

        Parameters
        ----------
        report
            Called with the epochs just trained on and the kappa of a pass just finished.

        Raises
        ------
        Stopped
            After a stop signal, with a checkpoint written.
        """
        since = time.monotonic() - self.state.seconds
        try:
            while self.pass_number <= self.recipe.passes:
                if self.state.step < self.pass_number * self.steps:
                    report(self.step(), None)
                else:
                    kappa = self.finish_pass(since)
                    checkpoint.save(self.saved, self.state)
                    report(0, kappa)
                self.stop.check()
        except Stopped:
            self.state.seconds = time.monotonic() - since
            checkpoint.save(self.saved, self.state)
            raise
        self.finish()

    def order(self, number: int) -> Numbers:
        """Give the order of the training epochs, or of their windows, in a pass."""
        if number != self._ordered[0]:
            rng = np.random.default_rng(self.task.seeds(number))
            self._ordered = number, rng.permutation(len(self.windows))
        return self._ordered[1]

    _ordered: tuple[int, Numbers] = (-1, np.empty(0, np.int64))

    def step(self) -> int:
        """Make one update; return the number of epochs in it."""
        state, size = self.state, self.recipe.batch
        start = size * (state.step - (self.pass_number - 1) * self.steps)
        last = state.step + 1 == self.pass_number * self.steps
        stop = None if last else start + size
        some = self.windows.pick(self.order(self.pass_number)[start:stop])
        x, stages = self.source.take(some)  # (B, C, T), (B,); of sequences (B, L, C, T), (B, L)
        x = self.changed(x, some.inputs)
        torch.manual_seed(_number(self.task.seeds(0, state.step)))
        half = self.recipe.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            logits = state.model.train()(x).flatten(0, -2).float()  # (B or B L, S)
        stages = stages.flatten()
        loss = stage_loss(logits, stages, self.weights, self.recipe.loss)
        adjust_optimiser(state.optimiser, self.recipe, self.place)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        hits = (logits.detach().argmax(1) == stages).sum()
        # the one wait for the device in a step
        value, correct = torch.stack([loss.detach(), hits.to(loss.dtype)]).tolist()
        if not math.isfinite(value):
            self.refuse(np.unique(some.inputs), value)
        count = int((some.targets != NONE).sum())
        state.step += 1
        state.loss += value * count
        state.correct += int(correct)
        state.seen += count
        return count

    def changed(self, x: Tensor, numbers: Numbers) -> Tensor:
        """Augment a batch as the recipe says; what is cached is always that of the first pass."""
        how = self.recipe.augmentation
        drawn = 1 if how.cached else self.pass_number
        return augment(x, numbers, how, self.task.seeds(0, 0, drawn))

    def finish_pass(self, since: float) -> float | None:
        """Judge a pass, keep it if it is the best, write the log; return the kappa."""
        state, selection = self.state, self.task.selection
        prefix, numbers = self.held_out
        scores = self.judge(numbers) if len(numbers) else {}
        score = scores.get(selection, float("nan"))
        if selection != "last" and (score > state.best_score or state.best is None):
            state.keep(score if math.isfinite(score) else float("-inf"))
        state.seconds = time.monotonic() - since
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
        state.rows.append(row)
        state.loss, state.correct, state.seen = 0.0, 0, 0
        self.write_log()
        return scores.get("kappa")

    def probabilities(self, numbers: Numbers, purpose: str) -> npt.NDArray[np.float32]:
        """Score epochs; every reading of the test fold is noted."""
        found = probabilities(self.state.model, self.source, numbers, self.stop)
        if np.isin(numbers, self.test).any():
            self.state.audit.append((len(self.state.rows) + (purpose != "score"), purpose))
        return found

    def judge(self, numbers: Numbers, purpose: str = "selection") -> dict[str, float]:
        """Accuracy, kappa and macro-F1 of the present weights on some epochs."""
        p = self.probabilities(numbers, purpose)
        truth = self.source.epochs.stages[numbers]
        matrix = metrics.confusion_matrix(truth, p.argmax(1), p.shape[1])
        return {name: float(score(matrix)) for name, score in SCORES.items()}

    def write_log(self) -> None:
        """Write log.csv as it stands."""
        import polars as pl

        kept = self.state.best_pass or len(self.state.rows)
        rows = [{**row, "selected": int(row["pass"] == kept)} for row in self.state.rows]
        table = pl.DataFrame([[row.get(name) for row in rows] for name in LOG], schema=list(LOG))
        store.write_text(self.task.folder / "log.csv", table.write_csv())

    def finish(self) -> None:
        """Write the kept weights, and the predictions last: they mark the training as done."""
        state, folder = self.state, self.task.folder
        if state.best is not None:
            state.model.load_state_dict(state.best)
        kept = state.best_pass or len(state.rows)
        facts = {
            **self.task.facts,
            "selection": self.task.selection,
            "pass": kept,
            "threads": state.threads,
        }
        save_model(state.model, folder, facts)
        if self.task.protocol != FINAL:
            self.predict(folder)
        self.saved.unlink(missing_ok=True)

    def predict(self, folder: Path) -> None:
        """Score the validation and the test epochs with the kept weights."""
        import polars as pl

        found = {role: self.numbers(role) for role in ("val", "test")}
        tables = [self.predictions(role, some) for role, some in found.items() if len(some)]
        if self.task.explain:
            self.explain(folder, tables[-1]["predicted"].to_numpy())
        self.write_audit(folder)
        store.write_table(folder / "predictions.parquet", pl.concat(tables))

    def explain(self, folder: Path, predicted: npt.NDArray[np.int8]) -> None:
        """Write what the kept weights make of the test epochs, besides their stages."""
        tested = explain.Tested(self.test, predicted)
        arrays, facts = explain.content(
            self.state.model, self.source, tested, self.task.seeds(), self.stop
        )
        store.write_arrays(folder / EXPLAIN, arrays, facts)

    def predictions(self, role: str, numbers: Numbers) -> Any:
        """Predictions of some epochs as a table, a row for each."""
        import polars as pl

        epochs = self.source.epochs
        p = self.probabilities(numbers, "score")
        owner, place = epochs.places(numbers)
        columns = {
            "recording": np.array([f.recording for f in epochs.files])[owner],
            "subject": np.array([f.subject for f in epochs.files])[owner],
            "night": np.array([f.night for f in epochs.files], np.int16)[owner],
            "epoch": place.astype(np.int32),
            "onset": np.concatenate([f.onset for f in epochs.files])[numbers],
            "role": np.repeat(role, len(p)),
            "stage": epochs.stages[numbers],
            "predicted": p.argmax(1).astype(np.int8),
        }
        names = {f"p_{name}": p[:, i] for i, name in enumerate(epochs.names)}
        return pl.DataFrame(columns | names)

    def write_audit(self, folder: Path) -> None:
        """Write a row for every time that the test fold was read."""
        rows = [f"{self.task.protocol},{number},{purpose}" for number, purpose in self.state.audit]
        lines = ["protocol,pass,purpose", *rows]
        store.write_text(folder / "audit.csv", "\n".join(lines) + "\n")

    def refuse(self, numbers: Numbers, value: float) -> None:
        """Stop at a loss that is no number, and name the epochs of its batch.

        Raises
        ------
        DataError
            Always.
        """
        finite = np.isfinite(self.source.epochs.gather(numbers)).all((1, 2))
        found = [self.source.epochs.where(int(n)) for n in [*numbers[~finite], *numbers[finite]]]
        lines = ["recording,epoch", *(f"{f.recording},{i}" for f, i in found)]
        path = self.task.folder / "not_finite.csv"
        store.write_text(path, "\n".join(lines) + "\n")
        shown = ", ".join(f"{f.recording} epoch {i}" for f, i in found[:SHOWN])
        why = "signals that are not finite among them" if not finite.all() else "signals all finite"
        raise DataError(
            f"loss is {value} at step {self.state.step} of pass {self.pass_number}; epochs of the "
            f"batch: {shown}, ... ({why})",
            hint=f"{path} lists them all; 'sleeptools inspect' looks at the files",
        )


def steps(windows: int, batch: int) -> int:
    """Count the steps of a pass; one window left over goes along: BatchNorm needs two."""
    return math.ceil(windows / batch) - (1 < batch < windows and windows % batch == 1)


def _number(seeds: list[int]) -> int:
    """One 63-bit seed for torch out of several numbers."""
    return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> np.uint64(1))
