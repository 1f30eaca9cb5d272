"""`sleeptools review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "review", epilog="Example: sleeptools review night.edf --scores scores --out review.html"
    )(command)


def command(
    recording: Annotated[Path, typer.Argument(help="The night, of any known format.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("review.html"),
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="Folder that `score` wrote, or a scoring of any known format; left out, the one "
            "that edf.toml names, the recording's own, or none.",
        ),
    ] = None,
    edits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Exported review to go on with.")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channel",
            metavar="SIGNAL",
            help='Signal to show, for example "C4-A1"; repeated, they lie in that order. Left out: '
            "those that the model used, EOG and EMG.",
        ),
    ] = None,
    gains: Annotated[
        list[str] | None,
        typer.Option(
            "--gain",
            metavar="NAME=VALUE",
            help="What half a lane stands for, of a channel or a modality: eeg=75 (uV).",
        ),
    ] = None,
    scorer: Annotated[str, typer.Option(help="Who corrects; the page asks if left out.")] = "",
    species: Annotated[
        str | None,
        typer.Option(
            help="human or mouse: whose stages, where no scoring says it; left out, as edf.toml "
            "has it, or human."
        ),
    ] = None,
    epoch_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=60, help="Length of an epoch where no scoring says it, s."),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="What the numbers or letters of a scoring mean.")
    ] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of voltages whose file names none, for example uV.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a page that is of something else."),
    ] = False,
) -> None:
    """Look at a night and correct it, on one offline page.

    The page shows the signals and the stages proposed, takes a key for each epoch (H lists them),
    and exports CSV and BIDS events that the other commands read; nothing leaves the browser.
    """
    from sleeptools.commands.review import ReviewOptions, review

    options = ReviewOptions(
        scores,
        edits,
        tuple(channels or ()),
        dict(_gain(text) for text in gains or ()),
        scorer,
        species,
        epoch_seconds,
        scheme,
        assume_unit,
        force,
    )
    review(recording, out, options, log=lambda text: talk(f"note: {text}"))
    talk(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


def _gain(text: str) -> tuple[str, float]:
    from sleeptools.errors import UsageError

    name, _, value = text.rpartition("=")
    try:
        if not name.strip():
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        raise UsageError(f"--gain {text!r}: expected NAME=VALUE, as in eeg=75") from None
