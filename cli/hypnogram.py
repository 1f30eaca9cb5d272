"""`sleeptools hypnogram`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import EpochFromOnsets, IgnoreBadAnnotations, Scorer, plural, talk
from ._times import parse_time

if TYPE_CHECKING:
    from sleeptools.recording.hypnogram import Hypnogram


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "hypnogram", epilog="Example: sleeptools hypnogram SC4001EC-Hypnogram.edf sub-01_events.tsv"
    )(command)


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Hypnogram of any known format, or a folder of scores."),
    ],
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
    epoch_from_onsets: EpochFromOnsets = False,
    scorer: Scorer = None,
    ignore_bad_annotations: IgnoreBadAnnotations = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--at",
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
    from sleeptools.commands.hypnogram import convert_hypnogram, convert_scores
    from sleeptools.errors import UsageError

    if source.is_dir():
        from sleeptools.store import refuse_own

        refuse_own(source, ("scores",), "scores or a file with a scoring")
        if to is None or scheme or epoch_seconds or start or recording or scorer:
            raise UsageError(
                f"{source}: a folder of scores takes --to and --force, and no other option",
                hint=f"for example --to bids, and for OUT a folder: {target}",
            )
        for file, hypnogram, notes in convert_scores(source, target, to=to, force=force):
            _tell(file, hypnogram, notes)
        return
    written, notes = convert_hypnogram(
        source,
        target,
        to=to,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        epoch_from_onsets=epoch_from_onsets,
        scorer=scorer,
        ignore_bad_annotations=ignore_bad_annotations,
        start=None if start is None else parse_time(start, "--at"),
        recording=recording,
        force=force,
    )
    _tell(target, written, notes)


def _tell(target: Path, written: Hypnogram, notes: list[str]) -> None:
    """Say what was written, and what the format could not represent."""
    counts = ", ".join(f"{name} {count}" for name, count in written.counts().items() if count)
    epochs = plural(len(written), "epoch")
    talk(f"{target}: {epochs} of {written.epoch_seconds:g} s from {written.onset:g} s on: {counts}")
    for note in notes:
        talk(f"note: {note}")
