"""`sleeptools train`: a model on every fold of a set of epochs, and the final one on all subjects.

A run folder holds config.toml (settings), folds.parquet (roles of the subjects), a folder for each
protocol, seed and fold, `final/`, and manifest.json (docs/folders.md). A fold with predictions is
done and skipped; an unfinished one continues from its checkpoint, on a CPU to the same bits as
without a break, if the number of threads is the same: it is kept in the checkpoint and taken from
there. Several processes may work on different folds, seeds or protocols of one run.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sleeptools import native, store
from sleeptools.errors import SleeptoolsError, UsageError
from sleeptools.native.devices import runs_kernels
from sleeptools.preprocessing.epochs import check_epochs
from sleeptools.runs import model_folder, writing
from sleeptools.runs.folds import LEAK_FREE
from sleeptools.runs.parent import describe
from sleeptools.runs.run import FINAL, RUN_KIND
from sleeptools.runs.temperature import ModelCalibration
from sleeptools.training.ablation import variants
from sleeptools.training.batches import EpochSource
from sleeptools.training.device import (
    choose_device,
    float32_products,
    numeric_flags,
    set_cpu_threads,
)
from sleeptools.training.group import Group
from sleeptools.training.loop import Training
from sleeptools.training.memory import device_memory, fitting_batch
from sleeptools.training.options import BY_SEED, TrainOptions
from sleeptools.training.pace import estimate_text, measure_pace
from sleeptools.training.plan import Plan, make_plan
from sleeptools.training.run_config import clear_stale_locks
from sleeptools.training.shared import Ranks, SharedTraining, ranks_of_environment
from sleeptools.training.stop import catch_signals
from sleeptools.training.task import STATE, Task

__all__ = ["TrainOptions", "TrainingProgress", "train", "variants"]


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training command, after a step or a pass.

    Parameters
    ----------
    protocol, seed, fold
        The present training; protocol "final" for the model trained on all subjects.
    folds
        Number of folds of the run.
    pass_number, passes
        The present or just finished pass, from 1, and the number of passes.
    pass_done
        Whether that pass has just been finished and judged.
    step, steps
        Updates done in this training, and their number in all its passes.
    loss
        Mean over the present pass so far, or over the last one; NaN before the first step.
    val_kappa
        Kappa after the last finished pass, on the validation subjects, or under best-on-test on the
        test fold; None if nothing is judged.
    seconds_left
        Estimated time for all that this command still has to do.
    epochs_per_second
        Speed of training, evaluation and checkpoints included.
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


OnProgress = Callable[[TrainingProgress], None]
Log = Callable[[str], None]


def train(
    epochs: Path,
    run: Path,
    options: TrainOptions,
    *,
    on_progress: OnProgress = lambda _: None,
    log: Log = lambda _: None,
    trainer: type[Training] = Training,
    estimate: bool = False,
    failures: MutableMapping[str, SleeptoolsError] | None = None,
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
    on_progress
        Called after every step, and after every pass.
    log
        Called with a line of text for events worth knowing, such as a lack of validation subjects.
    trainer
        Class that does one training; a child of `Training` may choose other epochs for a pass.
    estimate
        Whether to measure beforehand, for about a second, how long it will take, and to log that.
    failures
        Gets the error of every training whose loss is no number, by name.

    Raises
    ------
    UsageError
        For an unknown model, setting, protocol or device, or a fold that does not exist.
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
    ranks = ranks_of_environment()
    _check_stacking(options.stack_folds, ranks)
    plan = make_plan(epochs, run, options)
    device = choose_device(options.device)
    threads = set_cpu_threads(options.threads)
    with float32_products(plan.recipe.precision, device), ranks.joined(device):
        flags = numeric_flags()
        if ranks.shared:
            trainer = SharedTraining
        if not ranks.writes:
            agreed = ranks.agreed(None)
            pending = [task for task in plan.tasks() if str(task) in agreed]
            _work(plan, pending, trainer, device, lambda _: None, lambda _: None, {})
            return
        clear_stale_locks(run)
        pending = [task for task in plan.tasks() if not task.done]
        if not pending and plan.written():
            ranks.agreed([])
            return
        check_epochs(epochs)
        with plan.holding():
            plan.write()
            folders = [f for t in pending for f in (t.folder, t.tested_in) if f is not None]
            writing.unlist(run, folders)
        ranks.agreed([str(task) for task in pending])
        if pending:
            estimate = estimate and not ranks.shared and options.stack_folds == 1
            failed = {} if failures is None else failures
            _work(plan, pending, trainer, device, on_progress, log, failed, estimate=estimate)
    with plan.holding():  # another process may have added to the run meanwhile
        manifest.facts = plan.facts() | {"device": _described(device), "threads": threads}
        manifest.facts |= {"native": native.describe(), "torch": flags, **ranks.facts()}
        if options.stack_folds > 1:
            manifest.facts["stack_folds"] = options.stack_folds
        writing.write_manifest(run, manifest)


def _check_stacking(count: int, ranks: Ranks) -> None:
    """Refuse to train several tasks at once in several processes, and fewer than one."""
    if count < 1:
        raise UsageError(f"`stack_folds={count}`: expected at least 1", code="USE-VALUE")
    if count > 1 and ranks.shared:
        raise UsageError(
            f"`stack_folds={count}` in {ranks.count} processes: either one device trains several "
            "folds, or several train one",
            hint="`stack_folds=1` trains one after the other",
            code="USE-TOGETHER",
        )


def smaller_choices(plan: Plan) -> list[str]:
    """List the settings of which a smaller value would take less time; none once it has begun."""
    if not plan.folds or any(t.done or (t.folder / STATE).exists() for t in plan.tasks()):
        return []
    options = plan.options
    if options.fold is not None:
        return ["passes"]
    by_seed = options.folds_from == BY_SEED and not plan.continued
    return ["passes", *(["folds"] if by_seed else []), "fold"]


def _log_parent(plan: Plan, log: Log) -> None:
    """Log what the trainings begin with, and what is not as a parent learnt it."""
    if plan.continued:
        log(f"continued from {plan.continued.folder}, after pass {plan.continued.passes}")
    if plan.parent is None:
        return
    log(f"fine-tuned from {describe(plan.parent.table)}")
    if plan.recipe.freeze:
        log(f"frozen: {', '.join(plan.recipe.freeze)}")
    log(f"the parent: {plan.leakage}")
    for note in plan.notes():
        log(f"warning: {note}" if "not processed" in note else note)


def _log_unselected(pending: list[Task], log: Log) -> None:
    """Log in which folds no validation subject can select the pass."""
    folds = sorted({t.fold.number for t in pending if t.protocol == LEAK_FREE and t.unselected})
    if folds:
        log(
            f"{LEAK_FREE}, fold {', '.join(map(str, folds))}: too few subjects for a validation "
            "subject, so the last pass is kept"
        )


def _work(
    plan: Plan,
    pending: list[Task],
    trainer: type[Training],
    device: torch.device,
    on_progress: OnProgress,
    log: Log,
    failures: MutableMapping[str, SleeptoolsError],
    *,
    estimate: bool = False,
) -> None:
    """Train the tasks, `stack_folds` at once, one group after the other."""
    threads, ranks = torch.get_num_threads(), ranks_of_environment()
    batch = plan.recipe.batch
    if device.type == "cuda":
        runs_kernels(torch.cuda.current_device())  # a line where not, before those of progress
    with catch_signals() as stop, contextlib.ExitStack() as contexts:
        with device_memory(batch, device):
            source = EpochSource(plan.data, device)
        trial = None if ranks.shared else partial(fitting_batch, pending[0], source, stop)
        contexts.enter_context(device_memory(batch, device, trial))
        if estimate and (pace := measure_pace(pending, source, stop)):
            log(estimate_text(pace, pending, plan.data, smaller_choices(plan)))
        _log_parent(plan, log)
        _log_unselected(pending, log)
        clock = _Clock(plan, pending, on_progress)
        size = plan.options.stack_folds
        for start in range(0, len(pending), size):
            with contextlib.ExitStack() as locks:
                tasks = pending[start : start + size]
                if ranks.writes:
                    for task in tasks:
                        locks.enter_context(store.lock(task.folder))
                    plan.check()
                # another process may have been faster
                tasks = [task for task in tasks if ranks.agreed(not task.done)]
                set_cpu_threads(threads)
                trainings = [trainer(task, source, stop) for task in tasks]
                _keep_threads(trainings, plan.options.threads, log)
                for training in trainings:
                    clock.follow(training)
                Group(trainings, clock.report, failures).run()
                for task in tasks:
                    if task.protocol == FINAL and ranks.writes:
                        facts = model_folder.read_config(task.folder)
                        log(f"{task}: {ModelCalibration.of_model(facts, task.folder)}")


def _keep_threads(trainings: list[Training], threads: int | None, log: Log) -> None:
    """Continue with as many CPU threads as before, unless another number is asked for.

    Trainings at once have those of the first that was begun. The state of a training keeps every
    number it was trained with.
    """
    begun = [t.state.threads[-1] for t in trainings if t.state.threads]
    if begun and threads is None:
        set_cpu_threads(begun[0])
    count = torch.get_num_threads()
    for training in trainings:
        before = training.state.threads
        if before and before[-1] != count:
            log(
                f"{training.task}: continued with {count} CPU threads, begun with {before[-1]}: "
                "the last bits will differ from those of a training without a break"
            )
        if before[-1:] != [count]:
            before.append(count)


class _Clock:
    """Progress of a command, with an estimate of the time left."""

    def __init__(self, plan: Plan, pending: list[Task], on_progress: OnProgress) -> None:
        self.plan, self.on_progress = plan, on_progress
        self.since = time.monotonic()
        self.trained = 0  # epochs
        self.kappas: dict[str, float] = {}  # of the last judged pass of each task
        passes = plan.recipe.passes
        self.remaining = sum(
            passes * len(t.fold.numbers("train", plan.data.numbers_of)) for t in pending
        )

    def follow(self, training: Training) -> None:
        """Count what is left of a training; some of it may have been done in an earlier sitting."""
        size, state = len(training.train), training.state
        self.remaining -= len(state.rows) * size + state.seen

    def report(self, training: Training, count: int, kappa: float | None) -> None:
        """Take note of epochs trained on, or of a finished pass, and report the progress."""
        self.trained += count
        self.remaining -= count
        task, state = training.task, training.state
        if kappa is not None:
            self.kappas[str(task)] = kappa
        speed = self.trained / max(time.monotonic() - self.since, 1e-9)
        self.on_progress(
            TrainingProgress(
                protocol=task.protocol,
                seed=task.seed,
                fold=task.fold.number,
                folds=len(self.plan.folds) or 1,
                pass_number=len(state.rows) + (count > 0),  # without epochs, the one just finished
                passes=task.recipe.passes,
                pass_done=not count,
                step=state.step,
                steps=training.steps * task.recipe.passes,
                loss=state.mean_loss,
                val_kappa=self.kappas.get(str(task)),
                seconds_left=self.remaining / speed if speed else math.nan,
                epochs_per_second=speed,
            )
        )


def _described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
