"""`sleeptools evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import emit_json, emit_table, talk

if TYPE_CHECKING:
    from sleeptools.evaluate import Evaluation

DEFAULT = Path("runs/mmasleepnet")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: sleeptools evaluate runs/mmasleepnet --json")(evaluate)


def evaluate(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; runs/mmasleepnet if left out.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a run that lacks folds, and say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a list of runs.")] = False,
) -> None:
    """Compute the metrics of runs.

    From their saved predictions; writes metrics.parquet and metrics.csv into each run.
    """
    from sleeptools.evaluate import evaluate as library

    found = [library(run, partial=partial) for run in runs or [DEFAULT]]
    if as_json:
        emit_json([e.as_json() for e in found])
        return
    for evaluation in found:
        _show(evaluation)


def _show(found: Evaluation) -> None:
    from sleeptools import metrics

    facts = found.as_json()
    simulated = " on simulated data" if facts["simulated"] else ""
    title = f"{facts['run']}: {facts['model']}{simulated}"
    protocols = list(found.protocols)
    rows = [
        [name.replace("_", " "), *(found.pooled(p)[name] for p in protocols)]
        for name in metrics.OVERALL
    ]
    emit_table(f"{title}, pooled over folds", ["metric", *protocols], rows)
    f1 = [metrics.f1(found.matrix(p)) for p in protocols]
    rows = [[stage, *(float(v[i]) for v in f1)] for i, stage in enumerate(found.stages)]
    emit_table("F1 per stage", ["stage", *protocols], rows)
    for p in protocols:
        matrix = found.matrix(p).tolist()
        rows = [[stage, *matrix[i]] for i, stage in enumerate(found.stages)]
        emit_table(f"Confusion, {p} (rows: scored)", ["scored", *found.stages], rows)
    columns = ["protocol", "seed", "fold", "subject", "nights", "epochs", "accuracy", "kappa"]
    columns += ["macro_f1"]
    rows = [list(r) for r in found.subjects.select(columns).iter_rows()]
    emit_table("Subjects", [c.replace("_", " ") for c in columns], rows)
    for line in (found.leakage, *found.notes):
        talk(line)
