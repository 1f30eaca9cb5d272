"""`sleeptools evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import emit_json, emit_table, printable, talk

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
    from sleeptools.evaluate import compute

    found = [compute(run, partial=partial) for run in runs or [DEFAULT]]
    for evaluation in found:
        _write(evaluation, needed=not as_json)
    if as_json:
        emit_json([e.as_json() for e in found])
        return
    for evaluation in found:
        _show(evaluation)


def _write(found: Evaluation, *, needed: bool) -> None:
    """Write the tables; where the numbers are printed whole, a run that is read-only will do."""
    from sleeptools import evaluation
    from sleeptools.errors import OutputError

    try:
        evaluation.write(found)
    except OutputError as e:
        if needed:
            raise
        talk(f"not written: {e}")


def _show(found: Evaluation) -> None:
    from sleeptools.folds import NAMED

    run, simulated = found.run, ", simulated data" if found.run.simulated else ""
    typer.echo(printable(f"{run.name} (model {run.model}{simulated})"))
    protocols = {p: NAMED.get(p, p) for p in found.protocols}
    _pooled(found, protocols)
    f1 = [found.per_stage(p)["f1"] for p in protocols]
    rows = [
        [
            stage,
            *(float(v[i]) for v in f1),
            *(int(found.support(p)[i]) for p in list(protocols)[:1]),
        ]
        for i, stage in enumerate(found.stages)
    ]
    emit_table("F1 per stage", ["stage", *protocols.values(), "epochs"], rows)
    for p, name in protocols.items():
        seeds = f"\nsummed over {found.seeds(p)} seeds" if found.seeds(p) > 1 else ""
        matrix = found.matrix(p).tolist()
        rows = [[stage, *matrix[i]] for i, stage in enumerate(found.stages)]
        emit_table(f"Confusion, {name}{seeds}", ["scored", *found.stages], rows)
    _subjects(found, protocols)
    for line in (found.leakage, *found.notes):
        talk(line)


def _pooled(found: Evaluation, protocols: dict[str, str]) -> None:
    from sleeptools import metrics

    pooled, gained = [found.pooled(p) for p in protocols], found.difference()
    head = ["metric", *protocols.values(), *(["difference"] if gained else [])]
    rows = [
        [name.replace("_", " "), *(v[name] for v in pooled), *([gained[name]] if gained else [])]
        for name in metrics.OVERALL
    ]
    seeds = max(found.seeds(p) for p in protocols)
    emit_table(f"Pooled over folds{f', mean of {seeds} seeds' if seeds > 1 else ''}", head, rows)


def _subjects(found: Evaluation, protocols: dict[str, str]) -> None:
    columns = ["protocol", "seed", "fold", "subject", "nights", "epochs", "accuracy", "kappa"]
    columns += ["macro_f1", "stages"]
    rows = [
        [
            protocols[p],
            seed,
            "all" if fold is None else fold,
            *rest,
            f"{stages} of {len(found.stages)}",
        ]
        for p, seed, fold, *rest, stages in found.subjects.select(columns).iter_rows()
    ]
    columns = [c.replace("_", " ") for c in columns]
    emit_table("Subjects (macro f1: mean over so many stages)", columns, rows)
