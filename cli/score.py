"""`sleeptools score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ._console import IgnoreChannels, batch_progress, plural, talk
from ._times import parse_time

if TYPE_CHECKING:
    from sleeptools.native import Precision
    from sleeptools.store.batch import FinishedItem


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "score",
        epilog="Example: sleeptools score runs/mmasleepnet/final nights/ --out scores",
    )(command)


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="Model folder: a fold's, or RUN/final. `default` is the model of the package, for "
            "nights of people with any usual EEG lead; it learnt from simulated nights alone. A "
            "folder of that name is ./default."
        ),
    ],
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="RECORDING...", help="Recordings, folders of them, or patterns."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
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
        typer.Option(metavar="TIME", help="Lights off: 22:30, a day and time, or seconds."),
    ] = None,
    lights_on: Annotated[str | None, typer.Option(metavar="TIME", help="Lights on.")] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of voltages whose file names none, for example uV.")
    ] = None,
    ignore_channels: IgnoreChannels = None,
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
    with batch_progress("scoring") as on_progress:
        counted = 0

        def progress(finished: FinishedItem) -> None:
            nonlocal counted
            counted = finished.number
            on_progress(finished)

        score(model, recordings, out, progress, options=options, log=talk)
    talk(f"{out}: {plural(counted, 'recording')} scored")


def _channel(text: str) -> tuple[str, str]:
    """Divide "EEG Fpz-Cz=C3-A2" at its first equals sign."""
    from sleeptools.errors import UsageError

    name, equals, source = (part.strip() for part in text.partition("="))
    if not (name and equals and source):
        raise UsageError(f'--channel {text!r}: expected NAME=SIGNAL, as in "EEG Fpz-Cz=C3-A2"')
    return name, source
