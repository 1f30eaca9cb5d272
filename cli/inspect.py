"""`sleeptools inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import emit_json, emit_table, printable, talk
from ._options import as_options

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
    epoch_from_onsets: Annotated[
        bool,
        typer.Option(
            "--epoch-from-onsets", help="Let stages without duration last to the next one."
        ),
    ] = False,
    scorer: Annotated[
        str | None, typer.Option(help="Whose rows to read, where a file has several scorers'.")
    ] = None,
    ignore_bad_annotations: Annotated[
        bool,
        typer.Option(
            "--ignore-bad-annotations", help="Pass over malformed annotations of an EDF file."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a list of files.")] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Say what the code of an error means, and exit."),
    ] = None,
) -> None:
    """Show what recordings and hypnograms hold.

    Signals with their rates, units and mapping to the montage; stages with their counts.
    Exits with 65 if a file is damaged; the others are shown all the same.
    """
    from sleeptools.commands.inspect import StagesRefusedError, inspect_all
    from sleeptools.errors import DataError, UsageError

    if explain is not None:
        from sleeptools.store.codes import explain_code

        typer.echo(explain_code(explain))
        return
    if not paths:
        raise UsageError(
            "inspect: no file is given", hint="sleeptools inspect raw/", code="USE-LINE"
        )
    descriptions, errors = inspect_all(
        paths,
        preset,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        epoch_from_onsets=epoch_from_onsets,
        scorer=scorer,
        ignore_bad_annotations=ignore_bad_annotations,
        log=talk,
    )
    if as_json:
        emit_json(descriptions)
    else:
        for facts in descriptions:
            _show(facts)
    count = len(descriptions) + sum(not isinstance(e, StagesRefusedError) for e in errors)
    if errors and count == 1:
        raise errors[0]
    if errors:
        raise DataError(f"{len(errors)} of {count} files cannot be read", code=errors[0].code)


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
        emit_table("Montage", ["channel", "made of"], rows)
    for problem in facts["problems"]:
        typer.echo(f"problem: {printable(as_options(problem))}")
    if facts["stages"]:
        rows = [[name, count] for name, count in facts["stages"].items()]
        emit_table("Epochs per stage", ["stage", "epochs"], rows)
