"""Section on all runs of a page: side by side, and compared two by two on their subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sleeptools.evaluation import subject_metrics
from sleeptools.report import plots
from sleeptools.report.blocks import Block, Figure, Table, Text
from sleeptools.report.numbers import HEADLINE, LABELS, interval_text, metric_text, p_text
from sleeptools.report.page import Page
from sleeptools.runs.folds import BEST_ON_TEST, NAMED


def overview(pages: Sequence[Page]) -> Iterator[Block]:
    """All runs of the page in one table and one figure."""
    told = [(page, protocol) for page in pages for protocol in page.found.protocols]
    rows = [
        (
            p.found.run.name,
            p.found.run.model,
            NAMED[protocol],
            _known(p.found.run.simulated),
            p.ours[protocol].subjects,
            *(metric_text(k, p.found.pooled(protocol)[k]) for k in HEADLINE),
        )
        for p, protocol in told
    ]
    head = ("Run", "Model", "Protocol", "Simulated", "Subjects", *(LABELS[k] for k in HEADLINE))
    caption = "Pooled test epochs, mean over seeds; per cent but for kappa"
    yield Table("runs", head, rows, caption, texts=4)
    values = {
        f"{p.found.run.name}, {NAMED[protocol]}": p.found.interval(protocol, "kappa")[:3]
        for p, protocol in told
    }
    optimistic = frozenset(name for name in values if BEST_ON_TEST in name)
    plot = plots.models(values, title="Cohen's kappa", optimistic=optimistic)
    caption = (
        "Kappa of every run with its 95 % interval over subjects; hollow: the pass was chosen on "
        "the scored test fold. Intervals of two runs on the same subjects may overlap where the "
        "paired difference below is clear."
    )
    yield Figure("runs", plot, "Kappa of every run", caption)
    yield from _paired(pages)


def _paired(pages: Sequence[Page]) -> Iterator[Block]:
    """Compare the runs two by two on the subjects that both have, under the same protocol."""
    kept = [
        subject_metrics.Result(p.found.run.name, protocol, cube)
        for p in pages
        for protocol, cube in p.found.cubes.items()
        if protocol == p.protocol
    ]
    if len({result.run for result in kept}) < len(kept):
        yield Text("Runs of the same name are not compared with each other.")
        return
    table = subject_metrics.compare(kept)
    rows = [
        (
            f"{r['second']} less {r['first']}",
            r["protocol"],
            LABELS[r["metric"]],
            r["subjects"],
            interval_text(r["metric"], r["value"], r["low"], r["high"], signed=True),
            f"{r['better']} / {r['worse']}",
            p_text(r["p_holm"]),
            "yes" if r["same_epochs"] else "NO",
        )
        for r in table.to_dicts()
    ]
    if not rows:
        yield Text("No two of the runs have a subject in common: they are not compared.")
        return
    head = (
        "Runs",
        "Protocol",
        "Metric",
        "Subjects",
        "Mean difference",
        "Better / worse",
        "p (Holm)",
        "Same epochs",
    )
    caption = (
        "Paired differences of the subjects that both runs tested, per cent but for kappa, with "
        "95 % intervals; Wilcoxon's p, adjusted for all rows"
    )
    yield Table("paired", head, rows, caption, texts=3)


def _known(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"
