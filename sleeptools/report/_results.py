"""Sections with the numbers of a run: summary, metrics, confusion matrix, stages, subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sleeptools import comparison, figures, folds, metrics
from sleeptools import markup as m
from sleeptools.folds import NAMED
from sleeptools.markup import Markup
from sleeptools.report._page import HEADLINE, LABELS, Page, count, show, unit

if TYPE_CHECKING:
    import polars as pl

PROTOCOLS: Final = {
    folds.LEAK_FREE: "leak-free: the pass is chosen on validation subjects taken from the training "
    "subjects; the test fold is read once.",
    folds.BEST_ON_TEST: "best-on-test: the pass is chosen on the scored test fold, as the papers' "
    "code does; optimistic, for comparison with the publication only.",
}


def _tagged(protocol: str) -> Markup:
    kind = "tag" if protocol == folds.BEST_ON_TEST else "tag good"
    return m.element("span", m.text(NAMED[protocol]), class_=kind)


def _about(page: Page, protocol: str) -> str:
    """Say how a protocol chose the pass, in this run."""
    last = page.found.run.unchosen(protocol)
    if not last:
        return PROTOCOLS[protocol]
    if len(last) == page.ours[protocol].folds:
        return (
            f"{protocol}: nothing chooses the pass, the last is kept; the test fold is read once."
        )
    where = ", ".join(map(str, last))
    return f"{PROTOCOLS[protocol]} In fold {where} there is none, and the last pass is kept."


def summary(page: Page) -> Iterator[Markup]:
    """Show the headline, and say whether it can be set beside the printed one."""
    found, ours = page.found, page.ours[page.protocol]
    values, subjects = found.pooled(page.protocol), found.subjects
    tiles = []
    for name in HEADLINE:
        each = _over_seeds(subjects.filter(protocol=page.protocol), [name])[name].drop_nulls()
        median = m.element("small", m.text(f"median subject {show(name, each.median())}"))  # type: ignore[arg-type]
        shown = m.element("dd", m.text(show(name, values[name])), median)
        tiles.append(m.element("div", m.element("dt", m.text(unit(name))), shown, class_="tile"))
    yield m.element(
        "p", m.element("strong", m.text(found.run.model)), m.text(
            f" on {count(ours.subjects, 'subject')}, {count(ours.epochs, 'scored epoch')}, "
            f"{count(ours.folds, 'fold')}"
            f"{', simulated data' if ours.simulated else ''}; "
        ), _tagged(page.protocol),
    )  # fmt: skip
    yield m.element("dl", *tiles, class_="tiles")
    yield m.paragraph(f"Leakage check: {found.leakage}.")
    yield from _verdict(page)


def _verdict(page: Page) -> Iterator[Markup]:
    """Say whether ours and the printed number can be compared."""
    found = comparison.verdict(page.found)
    if not found.printed:
        yield m.paragraph("Nothing printed is known for data of this kind: no comparison is made.")
    elif found.comparable:
        yield m.paragraph(
            f"Comparable with the printed {found.printed}: data, folds and selection agree."
        )
    else:
        mine = NAMED[found.protocol]
        yield m.paragraph(f"Not directly comparable with the printed {found.printed}; ours {mine}:")
        yield m.items(found.differences)


def results(page: Page) -> Iterator[Markup]:
    """All metrics per protocol, and their difference."""
    found = page.found
    pooled, gained = {p: found.pooled(p) for p in found.protocols}, found.difference()
    head = ["Metric", *(NAMED[p] for p in pooled)]
    rows = [
        [unit(k), *(show(k, v[k]) for v in pooled.values())]
        + ([show(k, gained[k], signed=True)] if gained else [])
        for k in LABELS
    ]
    head += ["best-on-test (optimistic) less leak-free"] if gained else []
    seeds = len({seed for _, seed in found.confusions})
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    strong = frozenset(i for i, k in enumerate(LABELS) if k in HEADLINE)
    yield m.table(head, rows, caption=f"Test epochs of all folds pooled; {of}", strong=strong)
    yield m.items(_about(page, p) for p in found.protocols)
    yield m.paragraph(
        "Two quantities go by the name G-mean: the geometric mean of the recalls, which Table 3 of "
        "the MMASleepNet paper reports, and Eq. 17 of that paper, which comes out higher. No "
        "intervals are given: the epochs of a night are not independent of each other.",
        class_="muted",
    )


def confusions(page: Page) -> Iterator[Markup]:
    """Draw the pooled confusion matrix of every protocol."""
    drawn = []
    for protocol in page.found.protocols:
        title = f"Confusion matrix, {NAMED[protocol]}"
        drawing = figures.confusion(page.found.matrix(protocol), page.found.stages, title)
        caption = f"{NAMED[protocol]}: per cent of the epochs scored as the row's stage, and count"
        if page.found.seeds(protocol) > 1:
            caption += f", summed over {page.found.seeds(protocol)} seeds"
        drawn.append(m.figure(drawing, caption=caption, label=title))
    yield m.element("div", *drawn, class_="matrices")


def stages(page: Page) -> Iterator[Markup]:
    """Per stage: F1, precision, recall, specificity and support."""
    head = ("Stage", "F1", "Precision", "Recall", "Specificity", "Epochs")
    for protocol in page.found.protocols:
        each, support = page.found.per_stage(protocol), page.found.support(protocol)
        several = page.found.seeds(protocol) > 1
        rows = [
            (name, *(show(k, float(each[k][i])) for k in metrics.PER_STAGE), f"{support[i]:,}")
            for i, name in enumerate(page.found.stages)
        ]
        caption = f"{NAMED[protocol]}: one stage against the rest, per cent"
        caption += f"; mean of {page.found.seeds(protocol)} seeds, epochs of one" * several
        yield m.table(head, rows, caption=caption)


def subjects(page: Page) -> Iterator[Markup]:
    """One row per subject, then their mean and median."""
    import polars as pl

    total = len(page.found.stages)
    columns = (*HEADLINE[:3], *(f"f1_{name}" for name in page.found.stages))
    head = ("Subject", "Fold", "Nights", "Epochs", "Stages", *(LABELS[k] for k in HEADLINE[:3]),
            *(f"F1 {name}" for name in page.found.stages))  # fmt: skip
    mine = page.found.subjects.filter(protocol=page.protocol)
    several = mine["seed"].n_unique() > 1
    mean = _over_seeds(mine, columns)
    rows = [_subject(row, columns, total) for row in mean.sort("subject").to_dicts()]
    for name, of in (("Mean", pl.Series.mean), ("Median", pl.Series.median)):
        values = {c: of(mean[c].drop_nulls()) for c in columns}
        rows.append((name, "", "", "", "", *(show(c, values[c]) for c in columns)))  # type: ignore[arg-type]
    caption = f"{NAMED[page.protocol]}: each subject tested in one fold, per cent but for kappa; "
    caption += "means over the stages that the subject has"
    caption += ", mean of seeds" * several
    last = frozenset({len(rows) - 2, len(rows) - 1})
    yield m.table(head, rows, caption=caption, strong=last)


def _over_seeds(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Average each subject over the seeds; null where there is no number."""
    import polars as pl

    keys = ["subject", "fold", "nights", "epochs", "stages"]
    return table.group_by(keys, maintain_order=True).agg(pl.col(columns).drop_nans().mean())


def _subject(row: dict[str, Any], columns: Sequence[str], stages: int) -> tuple[object, ...]:
    shown = (show(c, row[c]) for c in columns)
    there = f"{row['stages']} of {stages}"
    return (row["subject"], row["fold"], row["nights"], f"{row['epochs']:,}", there, *shown)
