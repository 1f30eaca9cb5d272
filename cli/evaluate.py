"""`sleeptools evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import emit_json, talk

if TYPE_CHECKING:
    from sleeptools.commands.evaluate import Evaluation

DEFAULT_RUN = Path("runs/mmasleepnet")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "evaluate",
        epilog="Example: sleeptools evaluate runs/mmasleepnet --json; sleeptools evaluate "
        "runs/mmasleepnet/final --on isruc/epochs --out runs/to-isruc",
    )(command)


def command(
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
            "--allow-shared-subject-ids",
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
    from sleeptools.commands.evaluate import (
        compare_evaluations,
        evaluate,
        evaluation_json,
        score_external,
    )
    from sleeptools.errors import UsageError, quoted

    folders = runs or [DEFAULT_RUN]
    if on is not None:
        if len(folders) != 1 or not runs:
            raise UsageError(
                "--on tests one model: give its folder, for example RUN/final", code="USE-TOGETHER"
            )
        options: dict[str, Any] = {
            "match_channels_by_order": match_channels_by_order,
            "allow_shared_subject_ids": allow_shared_subject_ids,
            "log": talk,
        }
        folders = [score_external(folders[0], on, out or Path("runs/external"), **options)]
    elif out or match_channels_by_order or allow_shared_subject_ids:
        raise UsageError(
            "--out, --match-channels-by-order and --allow-shared-subject-ids go with --on EPOCHS",
            code="USE-TOGETHER",
        )
    log = _not_written if as_json else None  # which prints all numbers: a read-only run will do
    evaluations = [evaluate(run, partial=partial, on_read_only=log) for run in folders]
    table = compare_evaluations(evaluations) if len(evaluations) > 1 else None
    if as_json:
        rows = [] if table is None else table.to_dicts()
        emit_json(
            [
                evaluation_json(evaluation)
                | {"comparison": [row for row in rows if _compares(row, evaluation)]}
                for evaluation in evaluations
            ]
        )
        return
    from ._evaluation import show_comparison, show_evaluation

    for evaluation in evaluations:
        show_evaluation(evaluation)
    if table is not None:
        show_comparison(table)
    talk(f"next: sleeptools report {' '.join(map(quoted, folders))}")


def _compares(row: dict[str, Any], evaluation: Evaluation) -> bool:
    """Tell whether a row of the comparison is about this run."""
    return evaluation.run.name in {row["first"], row["second"]}


def _not_written(reason: str) -> None:
    talk(f"not written: {reason}")
