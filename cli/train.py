"""`sleeptools train`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import console, drawn, talk
from ._times import hours_minutes_seconds

if TYPE_CHECKING:
    from sleeptools.commands.train import TrainingProgress

LINE_EVERY = 10.0  # s between plain lines within a pass
WIDE = 130  # columns in which all that is known of a step has room beside a bar


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: sleeptools train epochs runs/mmasleepnet --folds 20 "
        "--protocol leak-free,best-on-test --set recipe.learning_rate=0.001; sleeptools train "
        "lab/epochs runs/lab --from runs/mmasleepnet/final --freeze streams"
    )(train)


def train(
    context: typer.Context,
    epochs: Annotated[Path, typer.Argument(help="Epochs that preprocess wrote.")] = Path("epochs"),
    run: Annotated[Path | None, typer.Argument(help="Run folder; runs/MODEL if left out.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model; see 'sleeptools list models'. Several with commas: a run each, in "
            "RUN/MODEL.  [default: mmasleepnet]"
        ),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Fine-tune this model: the folder of a fold, a run's final, or default. Channels "
            "may bear other labels, if their modalities are the same in the same order.",
        ),
    ] = None,
    continued: Annotated[
        Path | None,
        typer.Option(
            "--continue",
            metavar="RUN",
            help="Go on with a finished run to so many --passes in all, in a run folder of its "
            "own: it ends as one that had these passes from the beginning. All else is RUN's.",
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="With --from: parts that stay as they are, with commas: encoder, classifier, or "
            "what else the model has by name; weights and statistics, to the bit."
        ),
    ] = None,
    allow_shared_subject_ids: Annotated[
        bool,
        typer.Option(
            "--allow-shared-subject-ids",
            help="With --from: tested subjects named as ones that trained it are other people.",
        ),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How to train, and where a publication's network differs, which network: default, "
            "authors (as their program does), paper, fine-tuning, or what else 'sleeptools list "
            "models' has for the model; --set goes before it.  [default: default, or fine-tuning "
            "with --from]"
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="What is divided into folds: subjects, or epochs, by which subjects train and "
            "are tested at once: LEAKY. stratified-epochs tests each once; stratified-shuffle "
            "draws a fifth again and again, as SlumberNet's authors did.  [default: subjects]"
        ),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            help="Variants of the model that its paper compares, with commas: a run each, of the "
            "same folds and seeds, in RUN/VARIANT. mmasleepnet: mbfe,mbfe+te,eeg,eeg+eog,all."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Folds; 20 by subject, or all subjects if fewer, 5 of epochs."),
    ] = None,
    folds_from: Annotated[
        str | None,
        typer.Option(
            help="seed, or published: the folds of Sleep-EDF's and ISRUC's papers.  [default: seed]"
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Train only this fold, from 0, as in a job array.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="leak-free, best-on-test (optimistic), or both with a comma.  [default: leak-free]"
        ),
    ] = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="Train the final model on all subjects, passes fixed beforehand: alone nothing "
            "else, with the settings that RUN has if it exists; with --folds or --folds-from also "
            "the folds; not with --fold.",
        ),
    ] = False,
    hold_out: Annotated[
        str | None,
        typer.Option(
            metavar="SUBJECTS",
            help="Subjects, with commas, that no training sees: neither of a fold nor the final "
            "model, which is tested on them. In config.toml: hold_out = ['m10', 'm11'].",
        ),
    ] = None,
    watch_test: Annotated[
        bool,
        typer.Option(
            "--watch-test",
            help="Under leak-free, also judge the test fold after every pass, to measure what "
            "choosing on it would gain; logged and audited, and without influence on any result.",
        ),
    ] = False,
    passes: Annotated[
        int | None,
        typer.Option(help="Passes through the training epochs; else the recipe's."),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(help="Seed, or several with commas.  [default: 0]")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32; bf16: products of bfloat16 and sums of float32, faster where the CPU or "
            "the GPU has them; or tf32: products of float32 rounded to TF32, on a GPU. Part of the "
            "recipe.  [default: fp32]"
        ),
    ] = None,
    modality_dropout: Annotated[
        float | None,
        typer.Option(
            help="Probability, 0 to 1, that a modality (EEG, EOG, EMG) is zero in what the model "
            "sees at once; never all. The model can then score without one: 'score --without'. "
            "Part of the recipe."
        ),
    ] = None,
    gain_augmentation: Annotated[
        bool,
        typer.Option(
            "--gain-augmentation",
            help="Multiply each channel by a random number from 1/4 to 4, so that the gain of an "
            "amplifier does not matter; other than 4 by --set recipe.augmentation.gain_factor=N.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads; OMP_NUM_THREADS or Slurm's if left out. A training continues with "
            "as many as it began with, and only then to the same bits."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain/--no-explain",
            help="Write features and modality weights of the test epochs for the report.",
        ),
    ] = True,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Train nothing, but number what is to be trained: every fold, seed, protocol, "
            "model and ablation a task in RUN/plan/tasks.csv, and slurm.sh to train them.",
        ),
    ] = False,
    submit: Annotated[
        bool,
        typer.Option(
            "--submit",
            help="Plan, and submit to Slurm what is not done, with evaluation and report after it; "
            "--set slurm.NAME=VALUE, or [slurm] in the file of --config, says what of a node.",
        ),
    ] = False,
    pack: Annotated[
        int | None,
        typer.Option(min=1, help="With --plan: so many tasks one after the other in one job."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train each fold on so many GPUs, or by so many processes on a CPU, each with its "
            "share of every batch; BatchNorm takes the statistics of the share.",
        ),
    ] = None,
    stack_folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Train K folds, seeds and protocols at once as one model, to fill a GPU; more "
            "than there are means all. Each ends as by itself but for the last bits. Of no use "
            "on a CPU.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="I",
            help="Train this task of RUN's plan, or several: 7 or 0-3,7; what is done "
            "is skipped. All else comes from the plan, but --device, --threads, --stack-folds.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with tables [model] and [recipe], or the config.toml of a run: then "
            "its folds, protocols and seeds, too, where no option gives others."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="One setting, for example recipe.batch=128; may be repeated.",
        ),
    ] = None,
) -> None:
    """Train a model, cross-validated by subject.

    What is done is skipped, so run the same command again to continue. SIGINT, SIGTERM and
    SIGUSR1 write a checkpoint and exit with 75.
    """
    from sleeptools.errors import quoted
    from sleeptools.runs.folds import SUBJECTS
    from sleeptools.runs.slurm_settings import read_slurm_settings
    from sleeptools.training.options import merge_options

    from . import _devices, _plan

    planned = plan or submit
    _plan.check_options(
        context, task=task, pack=pack, planned=planned, stacked=stack_folds, devices=devices
    )
    # GNU OpenMP's threads wait a moment, not for long: on a shared node a step is otherwise up to
    # twice as slow (measured: 76 against 122 epochs/s with one core taken), alone as fast
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if devices is not None and devices > 1 and not planned and not _devices.is_one():
        _devices.run_all(devices)
    if task is not None:
        changes: dict[str, object] = {"threads": threads, "stack_folds": stack_folds}
        changes |= {} if device == "auto" else {"device": device}
        with _progress() as on_progress:
            folder = run or Path("runs") / "mmasleepnet"
            _plan.train_task(epochs, folder, task, changes, on_progress)
        return
    slurm = read_slurm_settings(config, settings or ())
    _check_together(passes, continued, parent, ablation, allow_shared_subject_ids)
    divided = folds is not None or folds_from is not None or fold is not None
    alone = final and not divided and ablation is None and continued is None
    kept_settings = _own_settings(run, model) if alone and config is None else None
    merge = partial(
        merge_options,
        config or kept_settings or (continued and _config_of(continued)),
        settings or (),
        recipe=recipe,
        precision=precision,
        parent=_parent(parent),
        allow_shared_subject_ids=allow_shared_subject_ids or None,
        freeze=_names(freeze),
        modality_dropout=modality_dropout,
        gain_augmentation=gain_augmentation,
        split=split,
        folds=folds,
        folds_from=folds_from,
        fold=fold,
        protocols=_names(protocol),
        seeds=_seeds(seed),
        final=final or None,
        hold_out=_names(hold_out),
        watch_test=watch_test or None,
        passes=passes,
        continued=continued,
        stack_folds=stack_folds,
        device=device,
        threads=threads,
        explain=explain,
    )
    by_model = [merge(model=name) for name in _names(model) or (None,)]
    if kept_settings is not None:  # its folds are trained, or not, by commands of their own
        by_model = [replace(o, folds=None, folds_from="seed") for o in by_model]
    options = by_model[0]
    from sleeptools.commands import train

    kind = "" if ablation is None else "-ablation"
    own = f"{options.model}{kind if parent is None else '-fine-tuned'}"
    out = run or (Path("runs") / own if len(by_model) == 1 else Path("runs"))
    variants = {out if len(by_model) == 1 else out / o.model: o for o in by_model}
    if (names := _names(ablation)) is not None:
        variants = {
            r: o for f, m in variants.items() for r, o in train.variants(f, m, names).items()
        }
    if planned:
        count = devices or 1
        _plan.plan(epochs, out, variants, slurm, pack=pack or 1, submitted=submit, devices=count)
        return
    for folder, variant in variants.items():
        if len(variants) > 1:
            talk(f"{folder}:")
        with _progress() as on_progress:
            train.train(epochs, folder, variant, on_progress=on_progress, log=talk, estimate=True)
    if _devices.is_follower():
        return
    if options.cross_validates and options.split != SUBJECTS:
        talk(f"{out}: LEAKY: subjects train and are tested in the same folds, as asked for")
    trained = f"{quoted(out)}{'/*' * (len(by_model) > 1)}{'/*' * (names is not None)}"
    following = f"; next: sleeptools evaluate {trained}"
    if not options.cross_validates:  # final models alone: of several, each is its own to score with
        scored = f"; next: sleeptools score {quoted(out / 'final')} NIGHT.edf --out scores"
        following = scored if len(variants) == 1 else ""
    talk(f"{out}: done{following}")


def _check_together(
    passes: int | None,
    continued: Path | None,
    parent: str | None,
    ablation: str | None,
    shared_ids: bool,
) -> None:
    """Refuse options that do not go together."""
    from sleeptools.errors import UsageError

    message, hint = None, None
    if continued is not None and passes is None:
        message = "--continue without --passes: how many are there to be?"
        hint = "--passes is the number of all passes, with those that are done"
    elif parent is not None and ablation is not None:
        message = "--ablation with --from: the parent is one variant"
    elif parent is None and shared_ids:
        message = "--allow-shared-subject-ids goes with --from"
    if message is not None:
        raise UsageError(message, hint=hint, code="USE-TOGETHER")


def _own_settings(run: Path | None, model: str | None) -> Path | None:
    """Find the config.toml of the run that a final model is to be added to; None for a new one."""
    path = (run or Path("runs") / (model or "mmasleepnet")) / "config.toml"
    return path if path.exists() else None


def _config_of(run: Path) -> Path:
    """Give the config.toml of a run that must be there."""
    from sleeptools import store

    return store.need(run, "run folder") / "config.toml"


def _parent(model: str | None) -> Path | None:
    """Find the model to begin with, by the words that `score` takes."""
    from sleeptools.commands.score.paths import model_at

    return None if model is None else model_at(model)


def _names(text: str | None) -> tuple[str, ...] | None:
    """Split at commas, each name once."""
    return None if text is None else tuple(dict.fromkeys(t.strip() for t in text.split(",")))


def _seeds(text: str | None) -> tuple[int, ...] | None:
    from sleeptools.errors import UsageError

    names = _names(text)
    if names is not None and not all(name.isdecimal() for name in names):
        raise UsageError(f"--seed is {text!r}; expected a whole number, or several with commas")
    return None if names is None else tuple(map(int, names))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Show a bar with the time left in a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    stderr = console(err=True)
    narrow = stderr.width < WIDE
    where, state = (_where_briefly, _state_briefly) if narrow else (_where, _state)
    bar_column = BarColumn(bar_width=10 if narrow else 40)
    columns = (TextColumn("{task.description}"), bar_column, TextColumn("{task.fields[text]}"))
    with drawn(Bars(*columns, console=stderr)) as bar:
        task = bar.add_task("training", text="")

        def show(p: TrainingProgress) -> None:
            bar.update(task, completed=p.step, total=p.steps, description=where(p), text=state(p))

        yield show


def _where_briefly(p: TrainingProgress) -> str:
    """Say in 44 letters which training and pass it is; the first seed goes without saying."""
    seed = f" seed {p.seed}" if p.seed else ""
    fold = "" if p.protocol == "final" else f" fold {p.fold + 1}/{p.folds}"
    return f"{p.protocol}{seed}{fold} pass {p.pass_number}/{p.passes}"


def _state_briefly(p: TrainingProgress) -> str:
    return f"loss {p.loss:.3f} {hours_minutes_seconds(p.seconds_left)} left"


class _Lines:
    """Plain lines: at a training's first step, the end of every pass, and after some seconds."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.last = 0.0

    def show(self, p: TrainingProgress) -> None:
        time_now = time.monotonic()
        training = (p.protocol, p.seed, p.fold)
        if training not in self.seen or time_now - self.last > LINE_EVERY or p.pass_done:
            talk(f"{_where(p)} {_state(p)}")
            self.seen.add(training)
            self.last = time_now


def _where(p: TrainingProgress) -> str:
    fold = "" if p.protocol == "final" else f" fold {p.fold + 1} of {p.folds} (fold-{p.fold:02d})"
    return f"{p.protocol} seed {p.seed}{fold} pass {p.pass_number}/{p.passes}"


def _state(p: TrainingProgress) -> str:
    from sleeptools.runs.folds import BEST_ON_TEST

    judge = "test" if p.protocol == BEST_ON_TEST else "val"
    kappa = "" if p.val_kappa is None else f" {judge} kappa {p.val_kappa:.3f}"
    return (
        f"step {p.step}/{p.steps} loss {p.loss:.3f}{kappa} "
        f"{p.epochs_per_second:.0f} epochs/s {hours_minutes_seconds(p.seconds_left)} left"
    )
