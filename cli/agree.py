"""`sleeptools agree`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import (
    EpochFromOnsets,
    IgnoreBadAnnotations,
    Scorer,
    batch_progress,
    cell,
    emit_json,
    emit_rows,
    plural,
    printable,
    talk,
)

if TYPE_CHECKING:
    from sleeptools.commands.agree import Comparison

LONGEST_LIST = 20  # notes of nights; the page has all of them


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "agree",
        epilog="Example: sleeptools agree scorer1/ scorer2/ scores/ --out agreement",
    )(command)


def command(
    scorings: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SCORING...",
            help="Two or more scorings of any format: files, folders of nights, folders of scores. "
            "The first is the reference.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write: a page, tables, a consensus of each night."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="In place of SCORING: a column for each scoring, a row of files for each night.",
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(help="The recording, or a folder of them, whose start places the scorings."),
    ] = None,
    same_start: Annotated[
        bool,
        typer.Option(
            "--same-start",
            help="Let scorings without a clock begin with the recording that the others are of.",
        ),
    ] = False,
    stages: Annotated[
        str,
        typer.Option(
            metavar="GROUPS",
            help="Stages that count as one: 4 (wake, light, deep, REM), 3 (wake, NREM, REM), 2, or "
            "for example W,Light=N1+N2,N3,REM.",
        ),
    ] = "",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name of a scoring, in their order; given for each of them."),
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help="What numbers mean, for example yasa, where a scoring has numbers; or for one of "
            "them SCORING=NAME."
        ),
    ] = None,
    epoch_seconds: Annotated[
        float | None, typer.Option(help="Length of an epoch where a file does not tell it, s.")
    ] = None,
    scorer: Scorer = None,
    epoch_from_onsets: EpochFromOnsets = False,
    ignore_bad_annotations: IgnoreBadAnnotations = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare scorings of the same nights, of any formats.

    Kappa, F1 and PABAK with 95 % intervals over nights, minutes of each stage, where and when they
    differ, and a consensus. Nights are matched by name, epochs by the clock; a scoring that is
    shifted by whole epochs is told of, and not moved.
    """
    from sleeptools.commands.agree import (
        AgreeOptions,
        agree_files,
        agreement_json,
        raise_failures,
    )

    options = AgreeOptions(
        stages=stages,
        same_start=same_start,
        names=tuple(names or ()),
        scheme=tuple(scheme or ()),
        epoch_seconds=epoch_seconds,
        scorer=scorer,
        epoch_from_onsets=epoch_from_onsets,
        ignore_bad_annotations=ignore_bad_annotations,
    )
    with batch_progress("comparing") as on_progress:
        comparison = agree_files(
            scorings or [], out, on_progress, pairs=pairs, recording=recording, options=options
        )
    if as_json:
        emit_json(agreement_json(comparison))
    else:
        _show(comparison)
    for note in comparison.agreement.notes:
        talk(f"note: {note}")
    if out is not None:
        talk(f"{out}: agreement.html is the page, NIGHT-consensus.edf the consensus")
    raise_failures(comparison, out)


def _show(comparison: Comparison) -> None:
    """Print the agreement of each pair, over all stages and of each."""
    from sleeptools.evaluation.agreement import POOLED

    agreement = comparison.agreement
    epochs = plural(int(agreement.confusions[0].sum()), "epoch")
    nights = plural(len(agreement.nights), "night")
    typer.echo(printable(f"{nights}, {epochs} that all scored; intervals over nights"))
    table = agreement.metrics().filter(level=POOLED)
    rows = []
    for pair in agreement.pairs:
        for stage in (None, *agreement.names):
            chosen = [r for r in table.filter(pair=pair).to_dicts() if r["stage"] == stage]
            values = {row["metric"]: row for row in chosen}
            f1 = values.get("f1") or values["macro_f1"]
            numbers = [_interval(row) for row in (values["kappa"], f1)]
            pabak = cell(values["pabak"]["value"])
            rows.append([pair if stage is None else "", stage or "all", *numbers, pabak])
    emit_rows(["pair", "stage", "kappa", "F1", "PABAK"], rows, folding=("pair", "stage"))


def _interval(row: dict[str, float | None]) -> str:
    low, high = row["low"], row["high"]
    value = cell(row["value"])
    return value if low is None or high is None else f"{value} [{low:.3f}, {high:.3f}]"
