"""`sleeptools inspect`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import (
    EpochFromOnsets,
    IgnoreBadAnnotations,
    IgnoreChannels,
    Jobs,
    Scorer,
    batch_progress,
    emit_json,
    emit_table,
    printable,
    talk,
)
from ._nights import show_folder
from ._options import as_options

if TYPE_CHECKING:
    from sleeptools.errors import SleeptoolsError

QUALITY = ("not finite", "out of range", "railed", "flat", "clipped", "mains")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect", epilog="Example: sleeptools inspect raw/SC4001E0-PSG.edf --json")(
        command
    )


def command(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, hypnograms, or folders of them.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset whose montage the signals are mapped to; one that fits if none."),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="What the numbers of a hypnogram mean, for example yasa.")
    ] = None,
    epoch_seconds: Annotated[
        float | None, typer.Option(help="Length of an epoch where a hypnogram does not tell it, s.")
    ] = None,
    epoch_from_onsets: EpochFromOnsets = False,
    scorer: Scorer = None,
    ignore_bad_annotations: IgnoreBadAnnotations = False,
    ignore_channels: IgnoreChannels = None,
    details: Annotated[
        bool, typer.Option("--details", help="Describe every file of a folder by itself.")
    ] = False,
    cross_check: Annotated[
        bool,
        typer.Option("--cross-check", help="Read EDF and BDF files with pyedflib, too; compare."),
    ] = False,
    draft: Annotated[
        bool,
        typer.Option("--draft", help="Print an edf.toml for a folder of EDF files, with comments."),
    ] = False,
    jobs: Jobs = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, a list of files and folders.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Say what the code of an error means, and exit."),
    ] = None,
) -> None:
    """Show what recordings and hypnograms hold, and which nights a folder has.

    Of a file: signals with their rates, units and mapping to the montage; stages with their counts.
    Of a folder: a row for each night, as its data set reads it, and what is wrong with its cure.
    Exits with 65 if a file is damaged, or if two readers read other data from it; the others are
    shown all the same.
    """
    from sleeptools.commands.inspect import inspect_all
    from sleeptools.errors import UsageError, quoted

    if explain is not None:
        from sleeptools.store.codes import explain_code

        typer.echo(explain_code(explain))
        return
    if not paths:
        raise UsageError(
            "inspect: no file is given", hint="sleeptools inspect raw/", code="USE-LINE"
        )
    if draft:
        further: dict[str, object] = {
            "--json": as_json,
            "--details": details,
            "--cross-check": cross_check,
            "--preset": preset,
            "--scheme": scheme,
            "--epoch-seconds": epoch_seconds,
            "--epoch-from-onsets": epoch_from_onsets,
            "--scorer": scorer,
            "--ignore-bad-annotations": ignore_bad_annotations,
        }
        _draft(paths, ignore_channels or [], [name for name, value in further.items() if value])
        return
    folders = not (details or cross_check) and any(path.is_dir() for path in paths)
    with batch_progress("inspecting") if folders else nullcontext(None) as on_progress:
        descriptions, errors = inspect_all(
            paths,
            preset,
            on_progress or (lambda _: None),
            details=details,
            cross_check=cross_check,
            ignore_channels=ignore_channels or (),
            jobs=jobs,
            log=talk,
            scheme=scheme,
            epoch_seconds=epoch_seconds,
            epoch_from_onsets=epoch_from_onsets,
            scorer=scorer,
            ignore_bad_annotations=ignore_bad_annotations,
        )
    if as_json:
        emit_json([_with_options(facts) for facts in descriptions])
    else:
        for facts in descriptions:
            if facts["kind"] == "folder":
                show_folder(facts)
            elif facts["kind"] != "unreadable":
                _show(facts)
    for facts in descriptions:
        drafts = facts["kind"] == "folder" and facts["data_set"] is None
        if drafts and any(night["signals"] for night in facts["nights"]):
            talk(
                f"hint: {facts['path']} is no data set: 'sleeptools inspect "
                f"{quoted(facts['path'])} --draft' drafts the edf.toml that makes it one"
            )
    if errors:
        _raise(descriptions, errors)


def _draft(paths: list[Path], ignore_channels: list[str], further: list[str]) -> None:
    from sleeptools.commands.inspect import draft_settings
    from sleeptools.errors import UsageError

    if len(paths) != 1 or paths[0].is_file():
        raise UsageError(
            "--draft is for one folder", hint="sleeptools inspect raw --draft > draft.toml"
        )
    if further:
        raise UsageError(
            f"--draft goes without {further[0]}", hint="it finds out itself how scorings are read"
        )
    typer.echo(draft_settings(paths[0], ignore_channels), nl=False)


def _with_options(facts: dict[str, Any]) -> dict[str, Any]:
    """Write the settings in the error of a file that cannot be read as options."""
    if facts["kind"] != "unreadable":
        return facts
    error = {key: text and as_options(text) for key, text in facts["error"].items()}
    return facts | {"error": error}


def _raise(descriptions: list[dict[str, Any]], errors: list[SleeptoolsError]) -> None:
    """Raise what failed: the error itself if nothing else was looked at, or else their number."""
    from sleeptools.commands.inspect import FaultyFileError
    from sleeptools.errors import DataError, OutOfMemoryError

    folders = [d for d in descriptions if d["kind"] == "folder"]
    nights = [n for d in folders for n in d["nights"]]
    files = sum(d["kind"] not in ("folder", "unreadable") for d in descriptions)
    unread = sum(not n["readable"] for n in nights)
    lost = len(errors) - unread - sum(isinstance(e, FaultyFileError) for e in errors)
    count = files + len(nights) + max(0, lost)
    if count == 1:
        raise errors[0]
    short = next((e for e in errors if isinstance(e, OutOfMemoryError)), None)
    noun = "nights" if folders and not files and all(d["data_set"] for d in folders) else "files"
    message = f"{len(errors)} of {count} {noun} cannot be read"
    raise (
        OutOfMemoryError(f"{message}: {short}", code=short.code)
        if short
        else DataError(message, code=errors[0].code)
    )


def _show(facts: dict[str, Any]) -> None:
    simulated = ", simulated" if facts["simulated"] else ""
    start = f", starts {facts['start']}" if facts["start"] else ""
    typer.echo(
        f"{printable(facts['path'])}: {facts['format']} {facts['kind']}{simulated}, "
        f"{facts['seconds'] / 3600:.2f} h, {facts['epochs']} epochs of "
        f"{facts['epoch_seconds']:g} s{start}"
    )
    if facts["notes"]:
        typer.echo(f"notes: {printable(facts['notes'])}")
    if facts["signals"]:
        keys = ["label", "modality", "sample_rate", "unit", "minimum", "maximum", "samples"]
        columns = ["signal", "modality", "rate (Hz)", "unit", "minimum", "maximum", "samples"]
        emit_table("Signals", columns, [[s[k] for k in keys] for s in facts["signals"]])
        counted = {kind: any(s["quality"][kind] for s in facts["signals"]) for kind in QUALITY}
        kinds = [kind for kind, present in counted.items() if present]
        if kinds:
            rows = [[s["label"], *(s["quality"][k] for k in kinds)] for s in facts["signals"]]
            emit_table("Epochs by signal quality", ["signal", *kinds], rows)
        rows = [[channel, match or "none"] for channel, match in facts["montage"].items()]
        if rows:
            emit_table("Montage", ["channel", "made of"], rows)
        else:
            typer.echo("montage: of no preset; 'sleeptools score default' takes any usual EEG lead")
    for problem in facts["problems"]:
        typer.echo(f"problem: {printable(as_options(problem))}")
    if facts["stages"]:
        rows = [[name, count] for name, count in facts["stages"].items()]
        emit_table("Epochs per stage", ["stage", "epochs"], rows)
    if "cross_check" in facts:
        _show_cross_check(facts["cross_check"])


def _show_cross_check(facts: dict[str, Any] | None) -> None:
    if facts is None:
        typer.echo("cross-check: not of this format")
    elif facts["refused"]:
        typer.echo(f"cross-check: {facts['reader']} refuses it: {printable(facts['refused'])}")
    elif facts["agree"]:
        typer.echo(f"cross-check: both readers agree, ours and {facts['reader']}, on")
        typer.echo(f"  {', '.join(facts['compared'])}")
    else:
        typer.echo(f"cross-check: compared with {facts['reader']}: {', '.join(facts['compared'])}")
        for d in facts["differences"]:
            kind = "difference" if d["in_data"] else "difference in texts"
            line = f"{kind}: {d['what']}: {d['ours']} here, {d['theirs']} there"
            typer.echo(printable(line))
