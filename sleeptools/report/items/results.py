"""Tables of results: a line for each printed result or stage, a column for each score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NO_RUN,
    NOT_AT_HAND,
    OURS,
    PRINTED,
    ItemColumn,
    ItemRow,
    ItemTable,
    Value,
)
from sleeptools.report.items.matching import match_results, taken_twice
from sleeptools.report.items.printed_numbers import printed_number, scaled
from sleeptools.report.items.run_source import RunSource

Result = Mapping[str, Any]


@dataclass(frozen=True)
class ScoreColumn:
    """A column of one score.

    Parameters
    ----------
    column
        Heading and form.
    metric
        Name of the metric, one of ours.
    stage
        Its stage; None for a score over all.
    factor
        From a fraction of 1 to the unit of the column.
    printed
        Name that the printed number has, where it is another.
    complement
        Whether it is 1 less the metric.
    """

    column: ItemColumn
    metric: str
    stage: str | None = None
    factor: float = 100.0
    printed: str = ""
    complement: bool = False

    def shown(self, value: float | None) -> float | None:
        """Write a fraction in the unit of the column."""
        if value is None:
            return None
        return scaled(1 - value if self.complement else value, self.factor)

    def of_print(self, result: str, **about: Any) -> float | None:
        """Look the number up in print."""
        return self.shown(printed_number(result, self.printed or self.metric, self.stage, **about))


HUMAN_SCORES = (
    *(ScoreColumn(ItemColumn(name, "F1"), "f1", name) for name in HUMAN_STAGES),
    *(
        ScoreColumn(ItemColumn(heading, "Overall"), metric)
        for heading, metric in (
            ("ACC", "accuracy"),
            ("MF1", "macro_f1"),
            ("kappa", "kappa"),
            ("MGm", "g_mean_recalls"),
        )
    ),
)
"""Table 3 of MMASleepNet's paper; per cent, kappa too."""
ACCURACY = (ScoreColumn(ItemColumn("Accuracy"), "accuracy"),)
RIVAL_SCORES = (
    *(
        ScoreColumn(ItemColumn(heading, stage, ".1f"), metric, stage)
        for stage in MOUSE_STAGES
        for heading, metric in (("recall", "recall"), ("precision", "precision"))
    ),
    *(
        ScoreColumn(ItemColumn(heading, "Overall", ".1f"), metric, None, 100.0, heading.lower())
        for heading, metric in (
            ("recall", "slumbernet_recall"),
            ("precision", "slumbernet_precision"),
            ("accuracy", "accuracy"),
            ("F1", "slumbernet_f1"),
        )
    ),
    ScoreColumn(ItemColumn("kappa", "Overall"), "kappa", None, 1.0),
)
"""Table 2 of SlumberNet's paper; per cent but for kappa."""


def results_table(
    request: ItemRequest,
    *,
    labels: Mapping[str, Callable[[Result], str]],
    columns: Sequence[ScoreColumn],
    caption: str,
    aggregate: str = "pooled",
    best: bool = False,
    order: Callable[[Result], object] | None = None,
) -> ItemContent:
    """Show the printed results, ours above each.

    Parameters
    ----------
    labels
        Heading of a label column to the function that gives a result's label.
    aggregate
        Over what ours is taken where the print does not say: "pooled" or "mean of folds".
    """
    results = sorted(request.results, key=order) if order else list(request.results)  # type: ignore[arg-type]
    sources = match_results(request.runs, results, request.name)
    rows: list[ItemRow] = []
    for result in results:
        names = tuple(label(result) for label in labels.values())
        source = sources.get(result["id"])
        if source is not None:
            rows.append(our_row(names, source, result, columns, aggregate))
        elif request.runs and result["model"]:
            rows.append(ItemRow(names, OURS, remark=NO_RUN))
        rows.append(printed_row(names, [c.of_print(result["id"]) for c in columns]))
    heads = tuple(c.column for c in columns)
    return ItemContent([ItemTable("", caption, tuple(labels), heads, tuple(rows), best=best)])


def our_row(
    labels: tuple[str, ...],
    source: RunSource,
    result: Result,
    columns: Sequence[ScoreColumn],
    aggregate: str,
) -> ItemRow:
    """Give our line of a result, with the verdict."""
    stated = result["aggregate"]
    over = stated if stated not in (None, "", "unknown") else aggregate
    values = [c.shown(source.score(over, c.metric, c.stage)) for c in columns]
    comparable, why = source.verdict(result)
    return ItemRow(labels, source.origin, tuple(values), source.name, "", comparable, why)


def printed_row(labels: tuple[str, ...], values: Sequence[Value], origin: str = PRINTED) -> ItemRow:
    """Give a printed line, or say that its numbers are not at hand."""
    if all(value is None for value in values):
        return ItemRow(labels, origin, remark=NOT_AT_HAND)
    return ItemRow(labels, origin, tuple(values))


# --- a line for each stage ------------------------------------------------------------------------

STAGE_SCORES = tuple(
    (ItemColumn(heading, "", ".4f"), metric, complement)
    for heading, metric, complement in (
        ("Precision", "precision", False),
        ("1 - Precision", "precision", True),
        ("Recall", "recall", False),
        ("1 - Recall", "recall", True),
        ("F1", "f1", False),
    )
)
"""Figures 5 and 7 of the mouse report, as fractions."""


def stage_scores_table(
    request: ItemRequest, *, caption: str, stages: Sequence[str] = MOUSE_STAGES
) -> ItemContent:
    """Show the scores of each stage of one model, pooled, ours above the printed ones.

    Parameters
    ----------
    stages
        Stages where there is no run.
    """
    source, result = single_source(request)
    stages = source.stages if source else stages
    return ItemContent(
        [
            ItemTable(
                "",
                caption,
                ("Stage",),
                tuple(column for column, _, _ in STAGE_SCORES),
                tuple(_stage_rows(stages, source, result)),
            )
        ]
    )


def _stage_rows(
    stages: Sequence[str], source: RunSource | None, result: Result | None
) -> Iterator[ItemRow]:
    for stage in stages:
        label = (STAGE_NAMES.get(stage, stage),)
        columns = [
            ScoreColumn(column, metric, stage, 1.0, complement=complement)
            for column, metric, complement in STAGE_SCORES
        ]
        if source is not None:
            values = tuple(c.shown(source.score("pooled", c.metric, stage)) for c in columns)
            comparable, why = source.verdict(result) if result else ("", "")
            yield ItemRow(label, source.origin, values, source.name, "", comparable, why)
        yield printed_row(label, [c.of_print(result["id"]) if result else None for c in columns])


STAGE_NAMES = {"Wake": "Awake"}
"""Stages as the mouse report calls them."""


def single_source(request: ItemRequest) -> tuple[RunSource | None, Result | None]:
    """Give the only run of an item of one model, and the printed result beside it.

    Raises
    ------
    UsageError
        If there are several runs.
    """
    if len(request.runs) > 1:
        raise taken_twice(request.runs[0].name, request.runs[1].name, request.item["place"])
    source = request.runs[0] if request.runs else None
    if source is not None and request.results:
        (sources,) = [match_results([source], request.results, request.name)]
        return source, next(r for r in request.results if r["id"] in sources)
    return source, request.results[0] if request.results else None


def figure_only(request: ItemRequest, note: str) -> ItemContent:
    """Say of a figure that nothing of ours is there to draw, nor a printed number at hand."""
    row = ItemRow((str(request.item["place"]),), PRINTED, remark=NOT_AT_HAND)
    caption = str(request.item["shows"])
    columns = (ItemColumn("Numbers"),)
    return ItemContent([ItemTable("", caption, ("Figure",), columns, (row,))], notes=[note])
