"""Figures of scores: confusion matrices, bars of variants and of folds, curves over the passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sleeptools.evaluation.metrics import Counts
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.report.blocks import Figure
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NO_RUN,
    OURS,
    PRINTED,
    ItemColumn,
    ItemRow,
    ItemTable,
)
from sleeptools.report.items.matching import match_results, match_variants
from sleeptools.report.items.printed_numbers import printed_number, scaled
from sleeptools.report.items.results import (
    ScoreColumn,
    figure_only,
    our_row,
    printed_row,
    single_source,
    stage_scores_table,
)
from sleeptools.report.items.run_source import RunSource, mean, standard_error
from sleeptools.report.plots.bars import plot_bars
from sleeptools.report.plots.curves import PassCurve, plot_passes
from sleeptools.report.plots.matrices import plot_margin_matrices, plot_matrices

Result = Mapping[str, Any]
FIRST_SEED: Final = "Of several seeds, the first is drawn."


# --- matrices -------------------------------------------------------------------------------------


def dataset_matrices(request: ItemRequest) -> ItemContent:
    """Draw the pooled matrix of one model on each data set, a panel each."""
    sources = match_results(request.runs, request.results, request.name)
    panels = {
        str(row["dataset"]): sources[row["id"]].matrices("pooled")[""]
        if row["id"] in sources
        else None
        for row in request.results
    }
    verdicts = [
        source.verdict_text(row) for row in request.results if (source := sources.get(row["id"]))
    ]
    return _matrices(request, panels, HUMAN_STAGES, "Data set", [*sources.values()], verdicts)


def fold_matrices(request: ItemRequest) -> ItemContent:
    """Draw the matrix of each fold, a panel each, in a row."""
    source, result = single_source(request)
    matrices = source.matrices("fold") if source else {}
    panels: dict[str, Counts | None] = {f"Fold {name}": m for name, m in matrices.items()}
    panels = panels or dict.fromkeys(f"Fold {i}" for i in range(1, 6))
    sources = [source] if source else []
    verdicts = [source.verdict_text(result)] if source and result else []
    return _matrices(request, panels, MOUSE_STAGES, "Fold", sources, verdicts)


def pooled_matrix(request: ItemRequest) -> ItemContent:
    """Draw the pooled matrix of one run."""
    source, result = single_source(request)
    panels = {source.name if source else "Ours": source.matrices("pooled")[""] if source else None}
    stages = source.stages if source else MOUSE_STAGES
    sources = [source] if source else []
    verdicts = [source.verdict_text(result)] if source and result else []
    return _matrices(request, panels, stages, "Run", sources, verdicts)


def _matrices(
    request: ItemRequest,
    panels: Mapping[str, Counts | None],
    stages: Sequence[str],
    noun: str,
    sources: Sequence[RunSource],
    verdicts: Sequence[str],
) -> ItemContent:
    """Give the figure, and the counts as a table; only the print's line where there is no run."""
    rows: list[ItemRow] = []
    by_title = dict(zip([t for t, m in panels.items() if m is not None], sources, strict=False))
    for title, matrix in panels.items():
        if matrix is None:
            remark = NO_RUN if request.runs else "printed, not at hand"
            rows.append(ItemRow((title, ""), OURS if request.runs else PRINTED, remark=remark))
            continue
        source = by_title.get(title, sources[0])
        for stage, line in zip(stages, matrix.tolist(), strict=True):
            rows.append(ItemRow((title, stage), source.origin, tuple(line), source.name))
    columns = tuple(ItemColumn(stage, "Predicted") for stage in stages)
    caption = "Epochs by true and predicted stage"
    table = ItemTable("", caption, (noun, "True"), columns, tuple(rows))
    figures = []
    if sources:
        caption = (
            "Share of the true stage's epochs, and their number. Rows are the true stage; which "
            "axis is which in the print is not said."
        )
        figures = [Figure(request.name, plot_matrices(panels, stages), "Matrices", caption)]
    return ItemContent([table], figures, [FIRST_SEED] if sources else [], verdicts)


def margin_matrix(request: ItemRequest) -> ItemContent:
    """Draw the pooled matrix with margins, ours beside the printed one."""
    source, result = single_source(request)
    stages = source.stages if source else MOUSE_STAGES
    printed = _printed_matrix(result, stages) if result else None
    panels: dict[str, Counts] = {}
    if source is not None:
        panels[f"Ours: {source.name}"] = source.matrices("pooled")[""]
    if printed is not None:
        panels["Printed"] = printed
    rows = []
    for title, matrix in panels.items():
        ours = source is not None and title.startswith("Ours")
        origin, name = (source.origin, source.name) if ours and source else (PRINTED, "")
        rows += list(_margin_rows(matrix, stages, origin, name))
    if printed is None:
        rows.append(ItemRow((stages[0],), PRINTED, remark="nothing is printed of it"))
    columns = tuple(ItemColumn(name, "True") for name in (*stages, "SUM"))
    columns += tuple(ItemColumn(name, "Share of all, %") for name in stages)
    columns += tuple(ItemColumn(f"{name}, %", "Of the row") for name in ("right", "wrong"))
    caption = (
        "Windows by predicted (rows) and true stage, with sums; the last lines are the columns'"
    )
    table = ItemTable("", caption, ("Predicted",), columns, tuple(rows))
    figures = []
    if panels:
        text = (
            "In a cell the number of windows and its share of all; in a margin the sum, and which "
            "share of it is right (green) and wrong (orange)."
        )
        plot = plot_margin_matrices(panels, stages)
        figures = [Figure(request.name, plot, "Matrix with margins", text)]
    verdicts = [source.verdict_text(result)] if source and result else []
    return ItemContent([table], figures, [FIRST_SEED] if source else [], verdicts)


def _printed_matrix(result: Result, stages: Sequence[str]) -> Counts | None:
    """Give the printed matrix (stages, stages), rows truth; None where none is printed."""
    cells = [
        [printed_number(str(result["id"]), f"predicted {p}", t) for p in stages] for t in stages
    ]
    if any(cell is None for row in cells for cell in row):
        return None
    return np.asarray(cells, np.float64).astype(np.int64)


def _margin_rows(
    matrix: Counts, stages: Sequence[str], origin: str, name: str
) -> Iterator[ItemRow]:
    """Give the rows of a matrix with margins, as the print has them: a row a predicted stage."""
    turned, total = np.asarray(matrix).T, max(int(np.sum(matrix)), 1)
    right = np.diag(turned)
    for i, stage in enumerate(stages):
        sums = int(turned[i].sum())
        share = 100 * int(right[i]) / sums if sums else float("nan")
        shares = (100 * turned[i] / total).tolist()
        values = (*map(int, turned[i]), sums, *shares, share, 100 - share)
        yield ItemRow((stage,), origin, values, name)
    sums, gaps = turned.sum(0), (None,) * len(stages)
    accuracy = 100 * int(right.sum()) / total
    yield ItemRow(("SUM",), origin, (*map(int, sums), total, *gaps, accuracy, 100 - accuracy), name)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (100 * right / sums).tolist()
    for label, shares in (("right, %", recall), ("wrong, %", [100 - r for r in recall])):
        yield ItemRow((label,), origin, (*shares, None, *gaps, None, None), name)


def stage_scores_and_matrix(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show scores by stage and the matrix of a model of which the paper shows neither."""
    scores, matrix = stage_scores_table(request, caption=caption), margin_matrix(request)
    (table,) = matrix.tables
    named = ItemTable("matrix", table.caption, table.labels, table.columns, table.rows)
    return ItemContent([*scores.tables, named], matrix.figures, matrix.notes, matrix.verdicts)


# --- bars -----------------------------------------------------------------------------------------

OVERALL: Final = tuple(
    ScoreColumn(ItemColumn(heading), metric)
    for heading, metric in (
        ("ACC", "accuracy"),
        ("MF1", "macro_f1"),
        ("kappa", "kappa"),
        ("MGm", "g_mean_recalls"),
    )
)


def variant_bars(
    request: ItemRequest,
    *,
    variants: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    full: str,
    caption: str,
) -> ItemContent:
    """Draw the scores of variants of a model: a group of bars a score, one bar a variant.

    Parameters
    ----------
    variants, defaults
        As in `match_variants`.
    full
        The variant that is the model of the printed results.
    """
    sources = match_variants(request.runs, variants, defaults, request.name)
    results = {str(row["dataset"]): row for row in request.results}
    dataset = _dataset(sources, request) if sources else next(iter(results))
    result = results[dataset]
    rows: list[ItemRow] = []
    for name in variants:
        if name in sources:
            rows.append(_variant_row(name, sources[name], result if name == full else None))
        elif request.runs:
            rows.append(ItemRow((name,), OURS, remark=NO_RUN))
        printed = [c.of_print(result["id"]) if name == full else None for c in OVERALL]
        rows.append(printed_row((name,), printed))
    table = ItemTable("", caption, ("Variant",), _heads(OVERALL), tuple(rows))
    bars: dict[str, list[float | None]] = {
        name: [c.shown(sources[name].score("pooled", c.metric)) for c in OVERALL]
        for name in variants
        if name in sources
    }
    plot = plot_bars({"": bars}, [c.column.heading for c in OVERALL], unit="per cent", cut=True)
    text = f"{caption}; the axis is cut to the range."
    figures = [Figure(request.name, plot, caption, text)] if bars else []
    notes = [
        f"The printed numbers of {full} are those of {result['place']} on {dataset}, if it is the "
        "same run; the paper has the others in a figure only."
    ]
    return ItemContent([table], figures, notes)


def _variant_row(name: str, source: RunSource, result: Result | None) -> ItemRow:
    """Give our line of a variant, with a verdict where the full model's results are printed."""
    if result is not None:
        return our_row((name,), source, result, OVERALL, "pooled")
    values = tuple(c.shown(source.score("pooled", c.metric)) for c in OVERALL)
    return ItemRow((name,), source.origin, values, source.name)


def _dataset(sources: Mapping[str, RunSource], request: ItemRequest) -> str:
    """Tell on which of the printed data sets the runs were made, the first of them."""
    first = next(iter(sources.values()))
    matched = match_results([first], request.results, request.name)
    return str(next(r["dataset"] for r in request.results if r["id"] in matched))


FOLD_SCORES: Final = tuple(
    ScoreColumn(ItemColumn(heading, "", ".4f"), metric, None, 1.0)
    for heading, metric in (
        ("precision", "slumbernet_precision"),
        ("recall", "slumbernet_recall"),
        ("F1", "slumbernet_f1"),
        ("accuracy", "accuracy"),
        ("kappa", "kappa"),
        ("explained variance", "explained_variance"),
        ("log loss", "one_hot_log_loss"),
    )
)
"""What the methods of SlumberNet's paper list; fractions."""


def fold_bars(request: ItemRequest, *, caption: str) -> ItemContent:
    """Draw the overall scores of each fold: a group of bars a score, one bar a fold."""
    source, result = single_source(request)
    if source is None:
        row = ItemRow(("1",), PRINTED, remark="printed, not at hand")
        return ItemContent([ItemTable("", caption, ("Fold",), _heads(FOLD_SCORES), (row,))])
    columns = [source.scores("fold", c.metric) for c in FOLD_SCORES]
    rows = [
        ItemRow((name,), source.origin, tuple(c[name] for c in columns), source.name)
        for name in columns[0]
    ]
    for label, function in (("Mean", mean), ("SEM", standard_error)):
        values = tuple(function([*column.values()]) for column in columns)
        rows.append(ItemRow((label,), source.origin, values, source.name))
    drawn = [i for i, c in enumerate(FOLD_SCORES) if c.metric != "one_hot_log_loss"]
    panels = {"": {f"Fold {n}": [columns[i][n] for i in drawn] for n in columns[0]}}
    groups = [FOLD_SCORES[i].column.heading for i in drawn]
    plot = plot_bars(panels, groups, unit="fraction", cut=True)
    figure = Figure(request.name, plot, caption, f"{caption}. The axis is cut to the range.")
    notes = ["Log loss takes the predicted stages as certain, as SlumberNet's program does."]
    table = ItemTable("", caption, ("Fold",), _heads(FOLD_SCORES), tuple(rows))
    verdicts = [source.verdict_text(result)] if result else []
    return ItemContent([table], [figure], notes, verdicts)


def _heads(columns: Sequence[ScoreColumn]) -> tuple[ItemColumn, ...]:
    return tuple(c.column for c in columns)


# --- curves ---------------------------------------------------------------------------------------


def fold_curves(request: ItemRequest, *, caption: str) -> ItemContent:
    """Draw accuracy and loss of each fold over the passes, training and validation."""
    source, result = single_source(request)
    if source is None:
        return figure_only(request, "It is drawn from the training logs of a run.")
    accuracy = [
        *_curves(source, "train_accuracy", "training", dashed=False),
        *_curves(source, "val_accuracy", "validation", dashed=True),
        *_curves(source, "test_accuracy", "test", dashed=True),
    ]
    panels = {
        "Accuracy, % (dashed: not trained on)": [
            PassCurve(c.label, c.series, c.passes, [100 * v for v in c.values], c.dashed)
            for c in accuracy
        ],
        "Training loss": list(_curves(source, "loss", "training", dashed=False)),
    }
    figure = Figure(request.name, plot_passes(panels), caption, f"{caption}, a colour a fold.")
    notes = ["The loss of validation epochs is not logged; the curve is that of training."]
    if not any(c.dashed for c in accuracy):
        notes.append("No accuracy on validation or test epochs was logged in this training.")
    verdicts = [source.verdict_text(result)] if result else []
    return ItemContent([_pass_table(source, caption)], [figure], notes, verdicts)


def training_accuracy_curve(request: ItemRequest, *, caption: str) -> ItemContent:
    """Draw the accuracy on the training set over the passes of one training."""
    source, _ = single_source(request)
    if source is None:
        return figure_only(request, "It is drawn from the training log of a run.")
    curves = list(_curves(source, "train_accuracy", "training", dashed=False))[:1]
    drawn = [PassCurve("", 0, c.passes, [100 * v for v in c.values]) for c in curves]
    plot = plot_passes({"Accuracy on the training set, %": drawn})
    figure = Figure(request.name, plot, caption, f"{caption}: the first fold of {source.name}.")
    return ItemContent([_pass_table(source, caption)], [figure])


def _curves(source: RunSource, column: str, name: str, *, dashed: bool) -> Iterator[PassCurve]:
    logs = source.logs.drop_nulls(column)
    for fold in sorted(logs["fold"].unique()):
        of_fold = logs.filter(fold=fold).sort("pass")
        values = of_fold[column].to_list()
        label = "" if dashed or name != "training" else f"fold {fold + 1}"
        yield PassCurve(label, fold, of_fold["pass"].to_list(), values, dashed)


PASS_COLUMNS: Final = {
    "training accuracy, %": ("train_accuracy", 100.0, ".2f"),
    "validation accuracy, %": ("val_accuracy", 100.0, ".2f"),
    "test accuracy, %": ("test_accuracy", 100.0, ".2f"),
    "training loss": ("loss", 1.0, ".4f"),
}


def _pass_table(source: RunSource, caption: str) -> ItemTable:
    """Give what was logged after each pass."""
    rows = [
        ItemRow(
            (str(row["fold"] + 1), str(row["pass"])),
            source.origin,
            tuple(scaled(row[name], factor) for name, factor, _ in PASS_COLUMNS.values()),
            source.name,
        )
        for row in source.logs.sort("fold", "pass").to_dicts()
    ]
    columns = tuple(ItemColumn(heading, "", form) for heading, (_, _, form) in PASS_COLUMNS.items())
    return ItemTable("", f"{caption}, by pass", ("Fold", "Pass"), columns, tuple(rows))
