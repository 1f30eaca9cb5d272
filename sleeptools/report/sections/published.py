"""Section on the publications: our results beside those printed for the nearest data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sleeptools.evaluation import comparison
from sleeptools.report.blocks import Block, BulletList, Table, Text
from sleeptools.report.numbers import HEADLINE_METRICS, METRIC_LABELS, metric_text
from sleeptools.report.page import Page

SHORT_LABELS: Final = METRIC_LABELS | {"kappa": "Kappa", "g_mean_recalls": "G-mean"}


def published_section(page: Page) -> Iterator[Block]:
    """Show our results beside the printed ones, with the protocols of both."""
    lines = comparison.result_lines(page.evaluation)
    printed = comparison.published_rows(page.evaluation)
    if not printed:
        yield Text("No printed result for data of this kind is known to sleeptools.")
    labels = (SHORT_LABELS[k] for k in HEADLINE_METRICS)
    head = ("Result", "Data", "Folds", "Divided", "Pass chosen on", *labels)
    rows: list[tuple[object, ...]] = [
        (
            line.label,
            line.data,
            line.folds,
            line.split,
            line.selection,
            *(_cell(line, k) for k in HEADLINE_METRICS),
        )
        for line in lines
    ]
    caption = "Ours (shaded) beside what was printed; per cent but for kappa"
    yield Table("published", head, rows, caption, _ours(lines), texts=5)
    yield _stages(page, lines)
    yield BulletList(comparison.source_lines(printed))
    if "N1" in page.run.stages:
        yield Text(comparison.scorer_agreement_text())


def _stages(page: Page, lines: list[comparison.ResultLine]) -> Table:
    """Show F1 per stage of the results for which it is known."""
    names = [f"f1_{name}" for name in page.run.stages]
    lines = [line for line in lines if any(line.values.get(name) is not None for name in names)]
    rows = [(n.label, n.selection, *(_cell(n, name) for name in names)) for n in lines]
    head = ("Result", "Pass chosen on", *page.run.stages)
    caption = "F1 per stage, per cent"
    return Table("published-stages", head, rows, caption, _ours(lines), texts=2)


def _cell(line: comparison.ResultLine, name: str) -> str:
    """Write a printed number as it is printed, and ours with the decimals of its interval."""
    within = line.intervals.get(name, (None, None))
    return metric_text(name, line.values.get(name), within=within)


def _ours(lines: list[comparison.ResultLine]) -> frozenset[int]:
    return frozenset(i for i, line in enumerate(lines) if line.ours)
