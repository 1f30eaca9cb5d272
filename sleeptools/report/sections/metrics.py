"""Sections with the numbers of a run: summary, metrics, confusion matrix, stages, subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sleeptools.evaluation import comparison, metrics
from sleeptools.report import plots, svg
from sleeptools.report.blocks import Beside, Block, Figure, Items, Table, Text, Tiles
from sleeptools.report.numbers import (
    HEADLINE,
    LABELS,
    count_text,
    interval_text,
    metric_label,
    metric_text,
)
from sleeptools.report.page import Page
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL, LEAK_FREE, NAMED

if TYPE_CHECKING:
    import polars as pl

PROTOCOLS: Final = {
    LEAK_FREE: "leak-free: the pass is chosen on validation subjects taken from the training "
    "subjects; the test fold is read once.",
    BEST_ON_TEST: "best-on-test: the pass is chosen on the scored test fold, as the papers' "
    "code does; optimistic, for comparison with the publication only.",
    EXTERNAL: "external test: a model that was trained on other data, tested on everybody of "
    "this set; nothing is trained or chosen here.",
}


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


def summary(page: Page) -> Iterator[Block]:
    """Say first whether it can be set beside the printed results, then show the headline."""
    found, ours = page.found, page.ours[page.protocol]
    yield from _verdict(page)
    values, subjects = found.pooled(page.protocol), found.subjects
    tiles = []
    for name in HEADLINE:
        each = _over_seeds(subjects.filter(protocol=page.protocol), [name])[name].drop_nulls()
        median = f"median {page.who} {metric_text(name, each.median())}"  # type: ignore[arg-type]
        _, low, high = found.interval(page.protocol, name)[:3]
        ends = ""
        if low == low:  # noqa: PLR0124 - not NaN
            ends = f"95 % interval {metric_text(name, low)} to {metric_text(name, high)}; "
        tiles.append((metric_label(name), metric_text(name, values[name]), ends + median))
    about = (
        f"on {count_text(ours.subjects, 'subject')}, {count_text(ours.epochs, 'scored epoch')}, "
        f"{count_text(ours.folds, 'fold')}{', simulated data' if ours.simulated else ''};"
    )
    optimistic = page.protocol == BEST_ON_TEST
    yield Text(about, bold=found.run.model, tag=NAMED[page.protocol], warn=optimistic)
    yield Tiles(tiles)
    yield Text(f"Leakage check: {found.leakage}.")


def _verdict(page: Page) -> Iterator[Block]:
    """Say whether ours and the printed number can be compared."""
    found = comparison.verdict(page.found)
    if not found.printed:
        said = "Nothing printed is known for data of this kind: no comparison is made."
        yield Text(said, kind="verdict")
    elif found.comparable:
        said = f"Comparable with the printed {found.printed}: data, folds and selection agree."
        yield Text(said, kind="verdict")
    else:
        mine = NAMED[found.protocol]
        said = f"Not directly comparable with the printed {found.printed}; ours {mine}:"
        yield Text(said, kind="verdict")
        yield Items(found.differences)


def results(page: Page) -> Iterator[Block]:
    """All metrics per protocol, and their difference."""
    found = page.found
    gained = found.difference()
    head = ["Metric", *(NAMED[p] for p in found.protocols)]
    rows = [
        [metric_label(k), *(interval_text(k, *found.interval(p, k)[:3]) for p in found.protocols)]
        + ([metric_text(k, gained[k], signed=True)] if gained else [])
        for k in LABELS
    ]
    head += ["best-on-test (optimistic) less leak-free"] if gained else []
    seeds = len({seed for _, seed in found.confusions})
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    strong = frozenset(i for i, k in enumerate(LABELS) if k in HEADLINE)
    caption = f"Test epochs of all folds pooled; {of}; 95 % intervals by bootstrap over {page.who}s"
    yield Table("metrics", head, rows, caption, strong)
    yield _means(page)
    yield Items([_about(page, p) for p in found.protocols])
    yield Text(
        "Two quantities go by the name G-mean: the geometric mean of the recalls, which Table 3 of "
        "the MMASleepNet paper reports, and Eq. 17 of that paper, which comes out higher.",
        kind="muted",
    )


def _means(page: Page) -> Table:
    """Show the mean of the subjects with its interval, and the seeds' spread apart from it."""
    import polars as pl

    found = page.found
    rows = []
    for protocol in found.protocols:
        table = found.intervals[protocol]
        for k in HEADLINE:
            mean = found.interval(protocol, k, level="subject mean")[:3]
            median = found.interval(protocol, k, level="subject median")[0]
            own = table.filter(level="pooled", metric=k).filter(pl.col("stage").is_null())
            spread = own["seed_sd"][0] if len(own) else None
            rows.append(
                (
                    metric_label(k),
                    NAMED[protocol],
                    interval_text(k, *mean),
                    metric_text(k, median),
                    metric_text(k, spread),
                )
            )
    head = ("Metric", "Protocol", f"Mean of the {page.who}s", "Median", "SD over seeds, pooled")
    caption = f"Of the {page.who}s, each as one; 95 % intervals; seeds apart"
    return Table("means", head, rows, caption, texts=2)


def confusions(page: Page) -> Iterator[Block]:
    """Draw the pooled confusion matrix of every protocol."""
    drawn = []
    for protocol in page.found.protocols:
        title = f"Confusion matrix, {NAMED[protocol]}"
        drawing = svg.confusion(page.found.matrix(protocol), page.found.stages, title)
        caption = f"{NAMED[protocol]}: per cent of the epochs scored as the row's stage, and count"
        if page.found.seeds(protocol) > 1:
            caption += f", summed over {page.found.seeds(protocol)} seeds"
        drawn.append(Figure(f"confusion-{protocol}", drawing, title, caption))
    yield Beside(drawn)


def stages(page: Page) -> Iterator[Block]:
    """Per stage: F1, precision, recall, specificity and support."""
    head = ("Stage", "F1", "Precision", "Recall", "Specificity", "Epochs")
    for protocol in page.found.protocols:
        found, support = page.found, page.found.support(protocol)
        several = found.seeds(protocol) > 1
        rows = [
            (
                name,
                *(
                    interval_text(k, *found.interval(protocol, k, stage=name)[:3])
                    for k in metrics.PER_STAGE
                ),
                f"{support[i]:,}",
            )
            for i, name in enumerate(found.stages)
        ]
        caption = f"{NAMED[protocol]}: one stage against the rest, per cent, 95 % intervals"
        caption += f"; mean of {page.found.seeds(protocol)} seeds, epochs of one" * several
        yield Table(f"stages-{protocol}", head, rows, caption)


def subjects(page: Page) -> Iterator[Block]:
    """Show a dot and a row per subject, their mean and median; and a row per fold."""
    import polars as pl

    total, who = len(page.found.stages), page.who
    columns = (*HEADLINE[:3], *(f"f1_{name}" for name in page.found.stages))
    named = dict(
        zip(
            columns,
            (*(LABELS[k] for k in HEADLINE[:3]), *(f"F1 {n}" for n in page.found.stages)),
            strict=True,
        )
    )
    head = (who.capitalize(), "Fold", "Nights", "Epochs", "Stages", *named.values())
    mine = page.found.subjects.filter(protocol=page.protocol)
    several = mine["seed"].n_unique() > 1
    mean = _over_seeds(mine, columns)
    values = {label: mean[c].fill_null(float("nan")).to_list() for c, label in named.items()}
    title = f"{NAMED[page.protocol]}, fraction of 1; one dot per {who}, the bar the median"
    dots = plots.dots(values, stages=page.found.stages, title=title)
    caption = f"How much one {who} differs from another: {count_text(len(mean), who)}."
    yield Figure("subjects", dots, f"A dot per {who}", caption)
    rows = [_subject(row, columns, total) for row in mean.sort("subject").to_dicts()]
    for name, of in (("Mean", pl.Series.mean), ("Median", pl.Series.median)):
        middle = {c: of(mean[c].drop_nulls()) for c in columns}
        rows.append((name, "", "", "", "", *(metric_text(c, middle[c]) for c in columns)))  # type: ignore[arg-type]
    caption = f"{NAMED[page.protocol]}: each {who} tested in one fold, per cent but for kappa; "
    caption += f"means over the stages that the {who} has"
    caption += ", mean of seeds" * several
    yield Table("subjects", head, rows, caption, frozenset({len(rows) - 2, len(rows) - 1}))
    yield from _folds(page)


def _folds(page: Page) -> Iterator[Block]:
    """One row per fold and protocol: its test epochs pooled, mean of the seeds."""
    import polars as pl

    shown = [*HEADLINE[:3], "epochs"]
    table = page.found.table.filter(
        (pl.col("level") == "fold") & pl.col("seed").is_not_null() & pl.col("stage").is_null()
    ).filter(pl.col("metric").is_in(shown))
    each = table.group_by("protocol", "fold", "metric").agg(pl.col("value").mean())
    for protocol in page.found.protocols:
        wide = (
            each.filter(protocol=protocol)
            .pivot("metric", index="fold", values="value")
            .sort("fold")
        )
        tested = page.found.subjects.filter(protocol=protocol)
        rows = []
        for row in wide.to_dicts():
            names = sorted(set(tested.filter(fold=row["fold"])["subject"]))
            listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
            rows.append(
                (
                    row["fold"],
                    listed,
                    f"{row['epochs']:,.0f}",
                    *(metric_text(k, row[k]) for k in HEADLINE[:3]),
                )
            )
        head = ("Fold", "Tested", "Epochs", *(LABELS[k] for k in HEADLINE[:3]))
        caption = f"{NAMED[protocol]}: every fold's test epochs pooled, per cent but for kappa"
        yield Table(f"folds-{protocol}", head, rows, caption, texts=2)


def _over_seeds(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Average each subject over the seeds; null where there is no number."""
    import polars as pl

    keys = ["subject", "fold", "nights", "epochs", "stages"]
    return table.group_by(keys, maintain_order=True).agg(pl.col(columns).drop_nans().mean())


def _subject(row: dict[str, Any], columns: Sequence[str], stages: int) -> tuple[object, ...]:
    shown = (metric_text(c, row[c]) for c in columns)
    there = f"{row['stages']} of {stages}"
    return (
        row["subject"],
        "all" if row["fold"] is None else row["fold"],
        row["nights"],
        f"{row['epochs']:,}",
        there,
        *shown,
    )
