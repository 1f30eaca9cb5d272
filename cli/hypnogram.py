"""`sleeptools hypnogram`."""

from __future__ import annotations

from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import plural, talk

if TYPE_CHECKING:
    from sleeptools.commands.hypnogram import At


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools hypnogram SC4001EC-Hypnogram.edf sub-01_events.tsv")(
        hypnogram
    )


def hypnogram(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Hypnogram of any known format.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    to: Annotated[
        str | None,
        typer.Option(help="accusleepy, bids, edf, luna, usleep or yasa; else by OUT's ending."),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="What the numbers or letters of IN mean, for example yasa.")
    ] = None,
    epoch_seconds: Annotated[
        float | None, typer.Option(help="Length of an epoch where IN does not tell it, s.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="START",
            help="Where IN's first epoch begins: seconds from the recording's start, or a clock "
            "time (22:30:00) or day and time (2016-01-15T22:30:00).",
        ),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="The recording, whose start places clock times.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a scoring in another format.

    Stages are matched by name; what OUT's format cannot carry is said on stderr.
    """
    from sleeptools.commands.hypnogram import exchange

    begin = None if at is None else _at(at)
    found, notes = exchange(
        source,
        target,
        to=to,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        at=begin,
        recording=recording,
        force=force,
    )
    counts = ", ".join(f"{name} {count}" for name, count in found.counts().items() if count)
    epochs = plural(len(found), "epoch")
    talk(f"{target}: {epochs} of {found.epoch_seconds:g} s from {found.onset:g} s on: {counts}")
    for note in notes:
        talk(f"note: {note}")


def _at(text: str) -> At:
    """Read seconds, a clock time, or a day and time."""
    from sleeptools.errors import UsageError

    for read in (_seconds, time.fromisoformat, datetime.fromisoformat):
        try:
            found = read(text)
        except ValueError:
            continue
        if isinstance(found, float) or found.tzinfo is None:
            return found
    raise UsageError(
        f"--at {text!r} is no time", hint="seconds, hh:mm:ss, or yyyy-mm-ddThh:mm:ss without zone"
    )


def _seconds(text: str) -> float:
    import math

    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
