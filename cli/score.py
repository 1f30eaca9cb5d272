"""`sleeptools score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ._console import IgnoreChannels, batch_progress, plural, talk

if TYPE_CHECKING:
    from sleeptools.native import Precision


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "score",
        epilog="Example: sleeptools score runs/mmasleepnet/final night1.edf night2.edf "
        "--out scores",
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
    recordings: Annotated[list[Path], typer.Argument(help="Recordings of any known format.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
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
) -> None:
    """Score new recordings with a trained model.

    Writes an EDF+ hypnogram and the probability of each stage for every recording. What was done
    to the signals that the model was trained on is done to these.
    """
    from sleeptools.commands.score import score

    with batch_progress("scoring") as on_progress:
        score(
            model if model == "default" else Path(model),
            recordings,
            out,
            on_progress,
            assume_unit=assume_unit,
            ignore_channels=ignore_channels or (),
            precision=cast("Precision", precision),
            threads=threads,
            log=talk,
        )
    talk(f"{out}: {plural(len(recordings), 'recording')} scored")
