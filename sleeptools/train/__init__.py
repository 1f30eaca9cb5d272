"""`train`: a model on every fold of a set of epochs, and on everybody.

A run folder holds config.toml (what was asked), folds.parquet (who does what), a folder for each
protocol, seed and fold, `final/`, and manifest.json (docs/formats.md). A fold with predictions is
done and skipped; an unfinished one continues from its checkpoint, on a CPU to the same bits.
Several processes may work on different folds of one run.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sleeptools import native, store
from sleeptools.errors import UnavailableError
from sleeptools.runs import KIND
from sleeptools.train import _device, _plan
from sleeptools.train._checkpoint import State
from sleeptools.train._device import Source
from sleeptools.train._loop import Training
from sleeptools.train._plan import Plan, TrainOptions
from sleeptools.train._stop import catching
from sleeptools.train._task import Task

__all__ = ["Progress", "TrainOptions", "train"]


@dataclass(frozen=True)
class Progress:
    """Where a command stands.

    Parameters
    ----------
    protocol, seed, fold, folds
        The training at work; `folds` is their number; protocol "final" for the model on everybody.
    pass_number, passes
        From 1; the pass at work.
    step, steps
        Updates done in this training, and in all of it.
    loss
        Mean over the pass at work so far, or of the last one; NaN before the first step.
    val_kappa
        Of the last finished pass (on the test fold under best-on-test), None if nothing is judged.
    seconds_left
        Estimated for everything that this command still has to do.
    epochs_per_second
        Trained on, evaluation and checkpoints included.
    """

    protocol: str
    seed: int
    fold: int
    folds: int
    pass_number: int
    passes: int
    step: int
    steps: int
    loss: float
    val_kappa: float | None
    seconds_left: float
    epochs_per_second: float


Report = Callable[[Progress], None]


def train(
    epochs: Path, run: Path, options: TrainOptions, progress: Report = lambda _: None
) -> None:
    """Train what the options ask for and is not done yet.

    Parameters
    ----------
    epochs
        Folder that `preprocess` wrote.
    run
        Run folder; made, or continued.
    options
        What to train.
    progress
        Called after every step.

    Raises
    ------
    UsageError
        For an unknown model, setting, protocol or device, or a fold that is not there.
    DataError
        If the epochs do not fit the model or the folds, or the loss is not finite.
    OutputError
        If the run exists with other settings, or another process works on the same fold.
    UnavailableError
        If the device is missing or too small.
    Stopped
        After a stop signal.
    """
    manifest = store.Manifest(KIND)
    plan = _plan.make(epochs, run, options)
    device = _device.choose(options.device)
    threads = _device.set_threads(options.threads)
    plan.write()
    pending = [task for task in plan.tasks() if not task.done]
    if pending:
        _work(plan, pending, device, progress)
    elif (run / "manifest.json").exists():
        return
    manifest.facts = plan.facts() | {"device": _described(device), "threads": threads}
    manifest.facts |= {"native": native.describe(), "torch": _flags()}
    manifest.write(run, plan.files())


def _work(plan: Plan, pending: list[Task], device: torch.device, progress: Report) -> None:
    """Train one task after the other."""
    with catching() as stop, _room(plan.recipe.batch):
        source = Source(plan.data, device)
        clock = _Clock(plan, pending, progress)
        for task in pending:
            with store.lock(task.folder):
                if not task.done:  # another process may have been faster
                    training = Training(task, source, stop)
                    clock.follow(training)
                    training.run(clock.report)


@contextlib.contextmanager
def _room(batch: int) -> Iterator[None]:
    """Turn a lack of device memory into a message that says what would fit."""
    try:
        yield
    except torch.OutOfMemoryError as e:
        raise UnavailableError(
            f"the device's memory is too small for a batch of {batch} epochs",
            hint=f"--set recipe.batch={max(1, batch // 2)} (it changes the results), or "
            "--device cpu",
        ) from e


class _Clock:
    """Progress of a command, with an estimate of the time left."""

    def __init__(self, plan: Plan, pending: list[Task], progress: Report) -> None:
        self.plan, self.progress = plan, progress
        self.since = time.monotonic()
        self.trained = 0
        passes = plan.recipe.passes
        self.left = sum(passes * len(plan.data.of(set(t.fold.train))) for t in pending)

    def follow(self, training: Training) -> None:
        """Report on this training from now on."""
        self.training = training
        self.kappa: float | None = None
        size, state = len(training.train), training.state
        self.left -= len(state.rows) * size + state.seen  # done in an earlier sitting

    def report(self, count: int, kappa: float | None) -> None:
        """Take note of epochs trained on, or of a finished pass, and pass it on."""
        self.trained += count
        self.left -= count
        self.kappa = self.kappa if kappa is None else kappa
        task, state = self.training.task, self.training.state
        speed = self.trained / max(time.monotonic() - self.since, 1e-9)
        self.progress(
            Progress(
                task.protocol, task.seed, task.fold.number, len(self.plan.folds) or 1,
                min(self.training.pass_number, task.recipe.passes), task.recipe.passes,
                state.step, self.training.steps * task.recipe.passes,
                _loss(state), self.kappa,
                self.left / speed if speed else math.nan, speed,
            )
        )  # fmt: skip


def _loss(state: State) -> float:
    if state.seen:
        return state.loss / state.seen
    return float(state.rows[-1]["loss"]) if state.rows else math.nan


def _described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _flags() -> dict[str, object]:
    """List the settings of torch that change a result in its last bits."""
    return {
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
