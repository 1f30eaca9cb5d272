"""`sleeptools score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ._console import IgnoreChannels, batch_progress, plural, talk
from ._times import parse_time

if TYPE_CHECKING:
    from sleeptools.commands.score import ScoreOptions
    from sleeptools.native import Precision
    from sleeptools.store.batch import FinishedItem


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "score",
        epilog="Example: sleeptools score default nights/ --out scores",
    )(command)


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="`default` is the model of the package, for nights of people with any usual EEG "
            "lead; it learnt from simulated nights alone. `yasa` is YASA's classifier. Or a model "
            "folder (a fold's, or RUN/final; ./default if that is its name), or an ONNX file."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RECORDING...", help="Recordings, folders of them, or patterns."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Files to write of a night, of: edf,bids,csv,html.")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channel",
            metavar="NAME=SIGNAL",
            help='Signal to take for a channel of the model, for example "EEG Fpz-Cz=C3-A2"; can '
            "be given several times.",
        ),
    ] = None,
    match_channels_by_order: Annotated[
        bool,
        typer.Option(
            "--match-channels-by-order",
            help="For a channel that is not there, take the next signal of its kind.",
        ),
    ] = False,
    lights_off: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Lights off: 22:30, a day and time, or seconds. Sleep latency and efficiency "
            "need it.",
        ),
    ] = None,
    lights_on: Annotated[
        str | None, typer.Option(metavar="TIME", help="Lights on, likewise.")
    ] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of voltages whose file names none, for example uV.")
    ] = None,
    ignore_channels: IgnoreChannels = None,
    following: Annotated[
        Path | None,
        typer.Option(
            "--follow",
            metavar="FILE",
            help="Instead of RECORDING: an EDF or BDF file that is being recorded; each epoch is a "
            "line on stdout as soon as it is complete.",
        ),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            min=0, help="With --follow: end when nothing was written for so many seconds."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 where the CPU and the model have it.")
    ] = "fp32",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; OMP_NUM_THREADS or Slurm's if left out.")
    ] = None,
    uncalibrated: Annotated[
        bool,
        typer.Option(
            "--uncalibrated",
            help="Raw probabilities, not divided by the temperature that the model learnt on its "
            "validation subjects; the stages are the same.",
        ),
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY",
            help="Score without EMG, for example, whatever the recordings have; may be repeated. "
            "Only for a model trained with --modality-dropout.",
        ),
    ] = None,
) -> None:
    """Score new recordings with a trained model.

    Writes of each night an EDF+ hypnogram, BIDS events, a table of stages with their probabilities
    and a page to look at, and sleep.csv with the sleep statistics of all nights. What was done to
    the signals that the model was trained on is done to these.
    """
    from sleeptools.commands.score import ScoreOptions, score
    from sleeptools.errors import UsageError, quoted

    options = ScoreOptions(
        only=tuple(filter(None, (only or "").split(","))),
        channels=dict(_channel(text) for text in channels or ()),
        match_channels_by_order=match_channels_by_order,
        ignore_channels=tuple(ignore_channels or ()),
        assume_unit=assume_unit,
        lights_off=None if lights_off is None else parse_time(lights_off, "--lights-off"),
        lights_on=None if lights_on is None else parse_time(lights_on, "--lights-on"),
        precision=cast("Precision", precision),
        threads=threads,
        calibrated=not uncalibrated,
        without=tuple(without or ()),
    )
    if (following is None) != bool(recordings):
        raise UsageError(
            f"give recordings after the model, for which {model} is taken, or --follow and one "
            "file that is being recorded"
        )
    if following is not None:
        _follow(model, following, out, options, idle)
        return
    with batch_progress("scoring") as on_progress:
        counted = 0

        def progress(finished: FinishedItem) -> None:
            nonlocal counted
            counted = finished.number
            on_progress(finished)

        score(model, recordings or [], out, progress, options=options, log=talk)
    page = "; NAME.html is a night's page" if not options.only or "html" in options.only else ""
    report = f"; next: sleeptools report {quoted(out)}" if not options.only else ""
    talk(f"{out}: {plural(counted, 'recording')} scored{page}{report}")


def _follow(model: str, path: Path, out: Path, options: ScoreOptions, idle: float | None) -> None:
    """Print a row of CSV for every epoch, as soon as it is complete."""
    from sleeptools.commands.score import follow_recording
    from sleeptools.commands.score.follow import FollowedEpoch

    def show(epoch: FollowedEpoch) -> None:
        if not epoch.number:
            typer.echo(",".join(["epoch", "onset", "stage", *(f"p_{s}" for s in epoch.stages)]))
        values = "," * len(epoch.stages) if epoch.stage is None else ""
        values = values or "".join(f",{p:.6g}" for p in epoch.density.tolist())
        typer.echo(f"{epoch.number},{epoch.onset:g},{epoch.stage or ''}{values}")
        sys.stdout.flush()

    follow_recording(model, path, out, show, options=options, idle=idle, log=talk)
    talk(f"{out}: {path.name} scored to its end")


def _channel(text: str) -> tuple[str, str]:
    """Divide "EEG Fpz-Cz=C3-A2" at its first equals sign."""
    from sleeptools.errors import UsageError

    name, equals, source = (part.strip() for part in text.partition("="))
    if not (name and equals and source):
        raise UsageError(f'--channel {text!r}: expected NAME=SIGNAL, as in "EEG Fpz-Cz=C3-A2"')
    return name, source
