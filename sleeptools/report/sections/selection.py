"""Section on what choosing the training pass on the test fold gains."""

from __future__ import annotations

from collections.abc import Iterator

from sleeptools.report.blocks import Block, Table
from sleeptools.report.numbers import METRIC_LABELS, interval_text, metric_text
from sleeptools.report.page import Page
from sleeptools.runs.folds import NAMED


def selection_section(page: Page) -> Iterator[Block]:
    """Show the difference of the protocols, and the passes compared within each training."""
    yield from _protocol_gain(page)
    yield from _pass_selection(page)


def _protocol_gain(page: Page) -> Iterator[Block]:
    gain = page.evaluation.table("gain")
    if not len(gain):
        return
    rows = []
    for row in gain.to_dicts():
        metric = row["metric"]
        if row["stage"] is None and metric in METRIC_LABELS:
            text = interval_text(metric, row["value"], row["low"], row["high"], signed=True)
            rows.append((METRIC_LABELS[metric], text))
    caption = (
        "best-on-test (optimistic) less leak-free, per cent but for kappa; 95 % intervals over "
        f"{page.subject_noun}s. Two things differ: what chose the pass, and how many train"
    )
    yield Table("gain", ("Metric", "Difference"), rows, caption, narrow=True)


def _pass_selection(page: Page) -> Iterator[Block]:
    table = page.evaluation.table("selection")
    if not len(table):
        return
    rows: list[tuple[object, ...]] = []
    for protocol in dict.fromkeys(table["protocol"]):
        for metric in dict.fromkeys(table["metric"]):
            trainings = table.filter(protocol=protocol, metric=metric)
            columns = ("best", "chosen", "last", "optimism", "against_last")
            cells = (metric_text(metric, trainings[c].mean()) for c in columns)  # type: ignore[arg-type]
            rows.append((METRIC_LABELS[metric], NAMED[protocol], len(trainings), *cells))
    head = (
        "Metric",
        "Protocol",
        "Trainings",
        "Best pass",
        "Chosen pass",
        "Last pass",
        "Best less chosen",
        "Best less last",
    )
    caption = (
        "Within one training: the test fold at the pass that is best there, at the pass that was "
        "kept, and at the last; means over trainings, per cent but for kappa"
    )
    yield Table("selection", head, rows, caption, texts=2)
