"""`train`: a model on every fold of a set of epochs, and on everybody.

A run folder holds config.toml (what was asked), folds.parquet (who does what), a folder for each
protocol, seed and fold, `final/`, and manifest.json (docs/folders.md). A fold with predictions is
done and skipped; an unfinished one continues from its checkpoint, on a CPU to the same bits as
without a break, if the number of threads is the same: it is kept in the checkpoint and taken from
there. Several processes may work on different folds, seeds or protocols of one run.
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
from sleeptools.preprocessing.epochs import check_epochs
from sleeptools.runs.folds import LEAK_FREE
from sleeptools.runs.run import RUN_KIND
from sleeptools.training.ablation import variants
from sleeptools.training.batches import Source
from sleeptools.training.checkpoint import State
from sleeptools.training.device import choose_device, set_cpu_threads
from sleeptools.training.loop import Training
from sleeptools.training.options import BY_SEED, TrainOptions
from sleeptools.training.plan import Plan, make_plan
from sleeptools.training.stop import catching
from sleeptools.training.task import Task

__all__ = ["BY_SEED", "Progress", "TrainOptions", "train", "variants"]


@dataclass(frozen=True)
class Progress:
    """Where a command stands.

    Parameters
    ----------
    protocol, seed, fold, folds
        The training at work; `folds` is their number; protocol "final" for the model on everybody.
    pass_number, passes
        From 1; the pass at work, or the one just finished.
    pass_done
        Whether that pass has just been finished and judged.
    step, steps
        Updates done in this training, and in all of it.
    loss
        Mean over the pass at work so far, or of the last one; NaN before the first step.
    val_kappa
        Of the last finished pass, on the validation subjects, or under best-on-test on the test
        fold; None if nothing is judged.
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
    pass_done: bool
    step: int
    steps: int
    loss: float
    val_kappa: float | None
    seconds_left: float
    epochs_per_second: float


Report = Callable[[Progress], None]
Say = Callable[[str], None]


def train(
    epochs: Path,
    run: Path,
    options: TrainOptions,
    progress: Report = lambda _: None,
    say: Say = lambda _: None,
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
        Called after every step, and after every pass.
    say
        Called with a line of text for what is worth knowing and happens once.

    Raises
    ------
    UsageError
        For an unknown model, setting, protocol or device, or a fold that is not there.
    DataError
        If the epochs are damaged, do not fit the model or the folds, or the loss is not finite.
    OutputError
        If the run exists with other settings, or another process works on the same fold; a run of
        which nothing is trained yet takes the new settings.
    UnavailableError
        If the device is missing or too small.
    Stopped
        After a stop signal.
    """
    manifest = store.Manifest(RUN_KIND)
    plan = make_plan(epochs, run, options)
    device = choose_device(options.device)
    threads = set_cpu_threads(options.threads)
    pending = [task for task in plan.tasks() if not task.done]
    if not pending and plan.written():
        return
    check_epochs(epochs)
    with plan.holding():
        plan.write()
    if pending:
        _unchosen(pending, say)
        _work(plan, pending, device, progress, say)
    with plan.holding():  # another process may have added to the run meanwhile
        manifest.facts = plan.facts() | {"device": _described(device), "threads": threads}
        manifest.facts |= {"native": native.describe(), "torch": _flags()}
        manifest.write(run, plan.files())


def _unchosen(pending: list[Task], say: Say) -> None:
    """Say once where no validation subject is there to choose the pass."""
    found = sorted({t.fold.number for t in pending if t.protocol == LEAK_FREE and t.unchosen})
    if found:
        say(
            f"{LEAK_FREE}, fold {', '.join(map(str, found))}: too few subjects for a validation "
            "subject, so the last pass is kept"
        )


def _work(
    plan: Plan, pending: list[Task], device: torch.device, progress: Report, say: Say
) -> None:
    """Train one task after the other."""
    threads = torch.get_num_threads()
    with catching() as stop, _room(plan.recipe.batch):
        source = Source(plan.data, device)
        clock = _Clock(plan, pending, progress)
        for task in pending:
            with store.lock(task.folder):
                plan.check()
                if not task.done:  # another process may have been faster
                    set_cpu_threads(threads)
                    training = Training(task, source, stop)
                    _same_threads(training, plan.options.threads, say)
                    clock.follow(training)
                    training.run(clock.report)


def _same_threads(training: Training, asked: int | None, say: Say) -> None:
    """Go on with as many threads as the training has had, or note that it is otherwise."""
    before = training.state.threads
    if before and asked is None:
        set_cpu_threads(before[-1])
    now = torch.get_num_threads()
    if before and before[-1] != now:
        say(
            f"{training.task}: continued with {now} CPU threads, begun with {before[-1]}: the "
            "last bits will differ from those of a training without a break"
        )
    if before[-1:] != [now]:
        before.append(now)


@contextlib.contextmanager
def _room(batch: int) -> Iterator[None]:
    """Turn a lack of device memory into a message that says what would fit."""
    try:
        yield
    except torch.OutOfMemoryError as e:
        raise UnavailableError(
            f"the device's memory is too small for a batch of {batch} epochs",
            hint=f"`recipe.batch={max(1, batch // 2)}` (it changes the results), or `device=cpu`",
        ) from e


class _Clock:
    """Progress of a command, with an estimate of the time left."""

    def __init__(self, plan: Plan, pending: list[Task], progress: Report) -> None:
        self.plan, self.progress = plan, progress
        self.since = time.monotonic()
        self.trained = 0
        passes = plan.recipe.passes
        self.left = sum(passes * len(t.fold.numbers("train", plan.data.of)) for t in pending)

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
        number = len(state.rows) + (count > 0)  # without epochs, it is the pass just finished
        speed = self.trained / max(time.monotonic() - self.since, 1e-9)
        self.progress(
            Progress(
                task.protocol,
                task.seed,
                task.fold.number,
                len(self.plan.folds) or 1,
                number,
                task.recipe.passes,
                not count,
                state.step,
                self.training.steps * task.recipe.passes,
                _loss(state),
                self.kappa,
                self.left / speed if speed else math.nan,
                speed,
            )
        )


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
