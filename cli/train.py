"""`sleeptools train`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import console, talk

if TYPE_CHECKING:
    from sleeptools.train import Progress

LINE_EVERY = 10.0  # s between plain lines within a pass


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: sleeptools train epochs runs/mmasleepnet --folds 20 "
        "--protocol leak-free,best-on-test --set recipe.learning_rate=0.001"
    )(train)


def train(
    epochs: Annotated[Path, typer.Argument(help="Epochs that preprocess wrote.")] = Path("epochs"),
    run: Annotated[Path | None, typer.Argument(help="Run folder; runs/MODEL if left out.")] = None,
    model: Annotated[str, typer.Option(help="Model; see 'sleeptools list models'.")] = (
        "mmasleepnet"
    ),
    folds: Annotated[
        int | None, typer.Option(help="Folds by subject; 20, or all subjects if fewer.")
    ] = None,
    folds_from: Annotated[
        str, typer.Option(help="seed, or published: the 20 or 10 folds of Sleep-EDF's papers.")
    ] = "seed",
    fold: Annotated[
        int | None, typer.Option(help="Train only this fold, from 0, as in a job array.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="leak-free, best-on-test (optimistic), or both with a comma."),
    ] = "leak-free",
    final: Annotated[
        bool, typer.Option("--final", help="Also train on everybody, passes fixed beforehand.")
    ] = False,
    passes: Annotated[
        int | None,
        typer.Option(help="Passes through the training epochs; else the recipe's."),
    ] = None,
    seed: Annotated[str, typer.Option(help="Seed, or several with commas.")] = "0",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; OMP_NUM_THREADS or Slurm's if left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with tables [model] and [recipe].")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, for example recipe.batch=128; may be repeated."),
    ] = None,
) -> None:
    """Train a model, cross-validated by subject.

    What is done is skipped, so run the same command again to continue. SIGINT, SIGTERM and
    SIGUSR1 write a checkpoint and exit with 75.
    """
    from sleeptools import config as files
    from sleeptools import registry
    from sleeptools.errors import UsageError

    if model not in registry.names("models"):
        registry.load("models", model)  # raises, before torch is loaded
    values = files.read(config, settings or ())
    if not seed.replace(",", "").isdigit():
        raise UsageError(f"--seed is {seed!r}; expected a whole number, or several with commas")
    # GNU OpenMP's threads wait a moment, not for long: on a shared node a step is otherwise up to
    # twice as slow (measured: 76 against 122 epochs/s with one core taken), alone as fast
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from sleeptools import train as library

    options = library.TrainOptions(
        model=model, folds=_folds(epochs, folds, folds_from, final=final), folds_from=folds_from,
        fold=fold, protocols=tuple(protocol.split(",")),
        seeds=tuple(int(s) for s in seed.split(",") if s), final=final, passes=passes,
        device=device, threads=threads, settings=values,
    )  # fmt: skip
    out = run or Path("runs") / model
    with _progress() as progress:
        library.train(epochs, out, options, progress)
    talk(f"{out}: done; next: sleeptools evaluate {out}")


def _folds(epochs: Path, folds: int | None, folds_from: str, *, final: bool) -> int | None:
    """Take the folds asked for; 20, or one per subject, where none are and none are implied."""
    if folds is not None or folds_from != "seed" or final:
        return folds
    from sleeptools.epochs import open_set

    return min(20, max(2, len(open_set(epochs).subjects)))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Show a bar with the time left in a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Bars(*columns, console=console(err=True)) as bar:
        task = bar.add_task("training", text="")

        def show(p: Progress) -> None:
            bar.update(task, completed=p.step, total=p.steps, description=_where(p), text=_state(p))

        yield show


class _Lines:
    """Plain lines: one at the end of every pass, and in between after some seconds."""

    def __init__(self) -> None:
        self.seen: tuple[str, int, int, int] | None = None
        self.last = 0.0

    def show(self, p: Progress) -> None:
        now = time.monotonic()
        here = (p.protocol, p.seed, p.fold, p.pass_number)
        if here != self.seen or now - self.last > LINE_EVERY or p.step == p.steps:
            talk(f"{_where(p)} {_state(p)}")
            self.seen, self.last = here, now


def _where(p: Progress) -> str:
    fold = "" if p.protocol == "final" else f" fold {p.fold + 1}/{p.folds}"
    return f"{p.protocol} seed {p.seed}{fold} pass {p.pass_number}/{p.passes}"


def _state(p: Progress) -> str:
    kappa = "" if p.val_kappa is None else f" kappa {p.val_kappa:.3f}"
    minutes, seconds = divmod(round(p.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}"
    return (
        f"step {p.step}/{p.steps} loss {p.loss:.3f}{kappa} "
        f"{p.epochs_per_second:.0f} epochs/s {left} left"
    )
