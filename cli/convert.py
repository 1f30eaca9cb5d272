"""`sleeptools convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import (
    AllowTruncated,
    IgnoreChannels,
    IgnoreUnmatched,
    Jobs,
    batch_progress,
    plural,
    talk,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert", epilog="Example: sleeptools convert sleep-edf raw recordings")(command)


def command(
    dataset: Annotated[str, typer.Argument(help="Data set, for example sleep-edf.")],
    raw: Annotated[Path, typer.Argument(help="Folder of raw files; only read.")],
    recordings: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("recordings"),
    allow_truncated: AllowTruncated = False,
    subset: Annotated[
        str | None,
        typer.Option(help="Only these: 20, 78 or telemetry of sleep-edf; I, II or III of isruc."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="What the files of data set edf are called; RAW/edf.toml if left out."),
    ] = None,
    ignore_unmatched: IgnoreUnmatched = False,
    ignore_channels: IgnoreChannels = None,
    jobs: Jobs = 1,
) -> None:
    """Convert raw files to recordings.

    Every signal stays at its own rate; the hypnogram is put on the epoch grid and cut to the
    signals.
    """
    from sleeptools import store
    from sleeptools.commands.convert import convert, fitting_presets
    from sleeptools.errors import quoted
    from sleeptools.preprocessing import presets
    from sleeptools.recording.recording import RECORDINGS_KIND

    with batch_progress("converting") as on_progress:
        convert(
            dataset,
            raw,
            recordings,
            on_progress,
            allow_truncated=allow_truncated,
            subset=subset,
            settings=config,
            ignore_unmatched=ignore_unmatched,
            ignore_channels=ignore_channels or (),
            log=talk,
            jobs=jobs,
        )
    missing = store.read_manifest(recordings, RECORDINGS_KIND)["absent"]
    if missing:
        talk(
            f"not in {raw}, though the data set lists them: {plural(len(missing), 'recording')}, "
            f"such as {missing[0]}"
        )
    fitting = [dataset] if dataset in presets.names() else fitting_presets(recordings)
    if fitting:
        preset, *further = fitting
        line = f"sleeptools preprocess {preset} {quoted(recordings)}"
        line += f" (or {', '.join(further)})" if further else ""
    else:
        line = "a preset, which says what the epochs are: docs/edf.md has one to copy, and "
        line += "'sleeptools list presets' lists those of the package, none of which fits"
    talk(f"{recordings}: done; next: {line}")
