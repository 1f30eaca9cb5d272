"""Section on the subjects that no training has seen: each one's metrics, and those printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sleeptools.evaluation.comparison import judge_protocol
from sleeptools.evaluation.metrics import COMPARED
from sleeptools.evaluation.published import nearest_results, published_values
from sleeptools.report.blocks import Block, BulletList, Collapsible, Table, Text
from sleeptools.report.numbers import METRIC_LABELS, metric_text, number_text
from sleeptools.report.page import Page
from sleeptools.report.sections.metrics import average_seeds
from sleeptools.runs.folds import HELD_OUT


def held_out_section(page: Page) -> Iterator[Block]:
    """Show a row for each unseen subject, their mean, and what is printed of such."""
    if HELD_OUT not in page.designs:
        return
    noun, stages = page.subject_noun, page.run.stages
    columns = [*COMPARED, *(f"f1_{name}" for name in stages)]
    subjects = page.evaluation.table("subjects").filter(protocol=HELD_OUT)
    means = average_seeds(subjects, columns)
    rows: list[tuple[object, ...]] = [
        (f"ours, {row['subject']}", number_text(row["epochs"]), *_cells(row, columns))
        for row in means.sort("subject").to_dicts()
    ]
    average: dict[str, Any] = {c: means[c].drop_nulls().mean() for c in columns}
    total = number_text(int(means["epochs"].sum()))
    rows.append((f"ours, mean of {noun}s", total, *_cells(average, columns)))
    ours = len(rows)
    rows += _printed(page, columns)
    yield Text(
        f"The final model has learnt from none of these {noun}s, and no fold has; they are tested "
        "once, after its last pass."
    )
    labels = (METRIC_LABELS.get(c, c.replace("f1_", "F1 ")) for c in columns)
    caption = f"Each unseen {noun} by itself (shaded) beside those printed; per cent but for kappa"
    head = (noun.capitalize(), "Epochs", *labels)
    yield Table("held-out", head, rows, caption, frozenset(range(ours)))
    verdict = judge_protocol(page.evaluation, HELD_OUT)
    if verdict.printed and (verdict.differences or verdict.unknown):
        unknown = [f"not known: {', '.join(verdict.unknown)}"] * bool(verdict.unknown)
        title = f"Not directly comparable with the printed {verdict.printed}"
        yield Collapsible(title, BulletList([*verdict.differences, *unknown]), printed=True)


def _cells(row: dict[str, Any], columns: list[str]) -> Iterator[str]:
    return (metric_text(c, row.get(c)) for c in columns)


def _printed(page: Page, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """Give what was printed of unseen subjects: a row for each of them, and one for their mean."""
    import polars as pl

    results = nearest_results(page.designs[HELD_OUT]).filter(pl.col("members") == HELD_OUT)
    name = pl.concat_str("metric", pl.concat_str(pl.lit("_"), "stage"), ignore_nulls=True)
    for result in results.to_dicts():
        of_each = published_values().filter(
            pl.col("id") == result["id"],
            pl.col("subject").is_not_null(),
            pl.col("statistic").is_null(),
        )
        for (subject,), values in of_each.group_by(["subject"], maintain_order=True):
            named = values.with_columns(name.alias("name"))
            numbers = dict(zip(named["name"], named["value"], strict=True))
            label = f"{result['printed_model']}, {subject}".replace("mouse", "animal")
            yield (label, "", *_cells(numbers, columns))
        mean = f"{result['printed_model']}, mean of {page.subject_noun}s"
        yield (mean, "", *_cells(result, columns))
