"""`sleeptools evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import emit_json, talk

if TYPE_CHECKING:
    from sleeptools.commands.evaluate import Evaluation

DEFAULT = Path("runs/mmasleepnet")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: sleeptools evaluate runs/mmasleepnet --json; sleeptools evaluate "
        "runs/mmasleepnet/final --on isruc/epochs --out runs/to-isruc"
    )(evaluate)


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or with --on a model; runs/mmasleepnet if left out."),
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option(
            metavar="EPOCHS", help="External test: score these epochs with the model RUNS names."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --on: run folder to write; runs/external if left out."),
    ] = None,
    match_channels_by_order: Annotated[
        bool,
        typer.Option(
            "--match-channels-by-order",
            help="With --on: take channels of the same kinds under other labels, in their order.",
        ),
    ] = False,
    allow_shared_subject_ids: Annotated[
        bool,
        typer.Option(
            "--allow_shared_subject_ids",
            help="With --on: subjects named as the model's are other people.",
        ),
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a run that lacks folds, and say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a list of runs.")] = False,
) -> None:
    """Compute the metrics of runs, and compare several.

    From their saved predictions, with 95 % intervals over subjects; writes metrics.parquet,
    metrics.csv, review.csv and the folder evaluation into each run. With --on, a model is tested
    on epochs of another data set first.
    """
    from sleeptools.commands.evaluate import compare, compute, score_external
    from sleeptools.errors import UsageError

    folders = runs or [DEFAULT]
    if on is not None:
        if len(folders) != 1 or not runs:
            raise UsageError("--on tests one model: give its folder, for example RUN/final")
        how: dict[str, Any] = {
            "match_channels_by_order": match_channels_by_order,
            "allow_shared_subject_ids": allow_shared_subject_ids,
            "log": talk,
        }
        folders = [score_external(folders[0], on, out or Path("runs/external"), **how)]
    elif out or match_channels_by_order or allow_shared_subject_ids:
        raise UsageError(
            "--out, --match-channels-by-order and --allow-shared-subject-ids go with --on EPOCHS"
        )
    found = [compute(run, partial=partial) for run in folders]
    for evaluation in found:
        _write(evaluation, needed=not as_json)
    together = compare(found) if len(found) > 1 else None
    if as_json:
        several = [] if together is None else together.to_dicts()
        mine = [[r for r in several if one.run.name in {r["first"], r["second"]}] for one in found]
        emit_json([e.as_json() | {"comparison": m} for e, m in zip(found, mine, strict=True)])
        return
    from . import _evaluation

    for evaluation in found:
        _evaluation.show(evaluation)
    if together is not None:
        _evaluation.compared(together)


def _write(found: Evaluation, *, needed: bool) -> None:
    """Write the tables; where the numbers are printed whole, a run that is read-only will do."""
    from sleeptools.errors import OutputError
    from sleeptools.evaluation import evaluation

    try:
        evaluation.write(found)
    except OutputError as e:
        if needed:
            raise
        talk(f"not written: {e}")
