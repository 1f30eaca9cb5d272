"""Section on all runs of a page: side by side, and compared two by two on their subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sleeptools.evaluation.evaluation import compare_evaluations
from sleeptools.evaluation.subject_metrics import find_interval
from sleeptools.report.blocks import Block, Figure, Table, Text
from sleeptools.report.numbers import (
    HEADLINE_METRICS,
    METRIC_LABELS,
    interval_text,
    metric_text,
    p_text,
)
from sleeptools.report.page import Page
from sleeptools.report.plots.overview import plot_runs
from sleeptools.runs.folds import BEST_ON_TEST, NAMED


def overview_section(pages: Sequence[Page]) -> Iterator[Block]:
    """Show all runs of the page in one table and one figure, and compare them."""
    results = [(page, protocol) for page in pages for protocol in page.evaluation.protocols]
    rows = [_row(page, protocol) for page, protocol in results]
    noun = common_noun(pages)
    head = (
        "Run",
        "Model",
        "Protocol",
        "Simulated",
        f"{noun.capitalize()}s",
        *(METRIC_LABELS[name] for name in HEADLINE_METRICS),
    )
    caption = "Pooled test epochs, mean over seeds; per cent but for kappa"
    yield Table("runs", head, rows, caption, texts=4)
    kappas = {
        f"{page.run.name}, {NAMED[protocol]}": find_interval(
            page.evaluation.intervals[protocol], "kappa"
        )
        for page, protocol in results
    }
    optimistic = frozenset(name for name in kappas if BEST_ON_TEST in name)
    plot = plot_runs(kappas, title="Cohen's kappa", optimistic=optimistic)
    caption = (
        f"Kappa of every run with its 95 % interval over {noun}s; hollow: the pass was chosen on "
        f"the scored test fold. Intervals of two runs on the same {noun}s may overlap where the "
        "paired difference below is clear."
    )
    yield Figure("runs", plot, "Kappa of every run", caption)
    yield from _paired(pages)


def _row(page: Page, protocol: str) -> tuple[object, ...]:
    simulated = page.run.simulated
    return (
        page.run.name,
        page.run.model,
        NAMED[protocol],
        "unknown" if simulated is None else "yes" if simulated else "no",
        page.designs[protocol].subjects,
        *(_pooled(page, protocol, name) for name in HEADLINE_METRICS),
    )


def _pooled(page: Page, protocol: str, name: str) -> str:
    value, low, high = find_interval(page.evaluation.intervals[protocol], name)
    return metric_text(name, value, within=(low, high))


def common_noun(pages: Sequence[Page]) -> str:
    """Name the subjects of all runs: "animal" where all are mice."""
    nouns = {page.subject_noun for page in pages}
    return nouns.pop() if len(nouns) == 1 else "subject"


def _paired(pages: Sequence[Page]) -> Iterator[Block]:
    """Compare the runs two by two on the subjects that both tested, under the same protocol."""
    noun = common_noun(pages)
    if len({page.run.name for page in pages}) < len(pages):
        yield Text("Runs of the same name are not compared with each other.")
        return
    table = compare_evaluations([page.evaluation for page in pages])
    rows = [
        (
            f"{r['second']} less {r['first']}",
            r["protocol"],
            METRIC_LABELS[r["metric"]],
            r["subjects"],
            interval_text(r["metric"], r["value"], r["low"], r["high"], signed=True),
            f"{r['better']} / {r['worse']}",
            p_text(r["p_holm"]),
            "yes" if r["same_epochs"] else "NO",
        )
        for r in table.to_dicts()
    ]
    if not rows:
        yield Text(f"No two of the runs have a {noun} in common: they are not compared.")
        return
    head = (
        "Runs",
        "Protocol",
        "Metric",
        f"{noun.capitalize()}s",
        "Mean difference",
        "Better / worse",
        "p (Holm)",
        "Same epochs",
    )
    caption = (
        f"Paired differences of the {noun}s that both runs tested, per cent but for kappa, with "
        "95 % intervals; Wilcoxon's p, adjusted for all rows"
    )
    yield Table("paired", head, rows, caption, texts=3)
