"""Sections with the numbers of a run: summary, metrics, confusion matrix, stages, subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sleeptools.evaluation.comparison import judge_comparability
from sleeptools.evaluation.metrics import PER_STAGE
from sleeptools.evaluation.selection import protocol_difference
from sleeptools.evaluation.subject_metrics import SUBJECT_MEAN, SUBJECT_MEDIAN, find_interval
from sleeptools.report.blocks import (
    Block,
    BulletList,
    Collapsible,
    Figure,
    SideBySide,
    Table,
    Text,
    Tiles,
)
from sleeptools.report.numbers import (
    HEADLINE_METRICS,
    METRIC_LABELS,
    count_text,
    interval_text,
    is_missing,
    metric_label,
    metric_text,
    number_text,
)
from sleeptools.report.page import Page
from sleeptools.report.plots.metrics import plot_subjects
from sleeptools.report.svg import confusion_svg
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL, HELD_OUT, LEAK_FREE, NAMED

if TYPE_CHECKING:
    import polars as pl

PROTOCOL_TEXTS: Final = {
    LEAK_FREE: "leak-free: the pass is chosen on validation {noun}s taken from the training "
    "{noun}s; the test fold is read once.",
    BEST_ON_TEST: "best-on-test: the pass is chosen on the scored test fold, as the papers' "
    "code does; optimistic, for comparison with the publication only.",
    EXTERNAL: "external test: a model that was trained on other data, tested on everybody of "
    "this set; nothing is trained or chosen here.",
    HELD_OUT: "held out: the final model, its last pass, tested on {noun}s that no training of "
    "this run has seen.",
}


def _protocol_text(page: Page, protocol: str) -> str:
    """Say how a protocol chose the pass, in this run."""
    text = PROTOCOL_TEXTS[protocol].format(noun=page.subject_noun)
    unchosen = page.run.unchosen(protocol)
    if not unchosen or protocol == HELD_OUT:
        return text
    if len(unchosen) == page.designs[protocol].folds:
        return (
            f"{protocol}: nothing chooses the pass, the last is kept; the test fold is read once."
        )
    folds = ", ".join(map(str, unchosen))
    return f"{text} In fold {folds} there is none, and the last pass is kept."


def summary_section(page: Page) -> Iterator[Block]:
    """Show the headline and what limits it, then whether printed results can be compared."""
    evaluation, design = page.evaluation, page.designs[page.protocol]
    pooled = evaluation.pooled[page.protocol].overall_metrics()
    subjects = evaluation.table("subjects").filter(protocol=page.protocol)
    tiles = []
    for name in HEADLINE_METRICS:
        values = average_seeds(subjects, [name])[name].drop_nulls()
        _, low, high = find_interval(evaluation.intervals[page.protocol], name)
        value = metric_text(name, pooled[name], within=(low, high))
        median = metric_text(name, values.median(), within=(low, high))  # type: ignore[arg-type]
        median = f"median {page.subject_noun} {median}"
        interval = ""
        if not is_missing(low):
            ends = (metric_text(name, end, within=(low, high)) for end in (low, high))
            interval = f"95 % interval {' to '.join(ends)}; "
        tiles.append((metric_label(name), value, interval + median))
    data = (
        f"on {count_text(design.subjects, page.subject_noun)}, "
        f"{count_text(design.epochs, 'scored epoch')}, {count_text(design.folds, 'fold')}"
        f"{', simulated data' if design.simulated else ''};"
    )
    optimistic = page.protocol == BEST_ON_TEST
    yield Text(data, bold=page.run.model, tag=NAMED[page.protocol], warn=optimistic)
    yield Tiles(tiles)
    if evaluation.ceiling:
        yield Text(evaluation.ceiling)
    yield Text(f"Leakage check: {evaluation.leakage}.")
    yield _verdict(page)


def _verdict(page: Page) -> Block:
    """Say whether our result and the printed one can be compared."""
    verdict = judge_comparability(page.evaluation)
    if not verdict.printed:
        return Text("Nothing printed is known for data of this kind: no comparison is made.")
    if not verdict.differences:
        return Text(f"{verdict.text[0].upper()}{verdict.text[1:]}.")
    unknown = [f"not known: {', '.join(verdict.unknown)}"] if verdict.unknown else []
    title = f"Not directly comparable with the printed {verdict.printed}"
    title += (
        f", ours {NAMED[verdict.protocol]}: {count_text(len(verdict.differences), 'difference')}"
    )
    return Collapsible(title, BulletList([*verdict.differences, *unknown]), printed=True)


def metrics_section(page: Page) -> Iterator[Block]:
    """Show all metrics per protocol, and the difference of the protocols."""
    evaluation = page.evaluation
    difference = protocol_difference(page.run, evaluation.pooled)
    tables = [evaluation.intervals[protocol] for protocol in evaluation.protocols]
    head = ["Metric", *(NAMED[protocol] for protocol in evaluation.protocols)]
    rows = [
        [metric_label(k), *(interval_text(k, *find_interval(table, k)) for table in tables)]
        + ([metric_text(k, difference[k], signed=True)] if difference else [])
        for k in METRIC_LABELS
    ]
    head += ["best-on-test (optimistic) less leak-free"] if difference else []
    count = len({seed for pooled in evaluation.pooled.values() for seed in pooled.seeds})
    seeds = f"mean of {count} seeds" if count > 1 else "one seed"
    strong = frozenset(i for i, k in enumerate(METRIC_LABELS) if k in HEADLINE_METRICS)
    caption = (
        f"Test epochs of all folds pooled; {seeds}; "
        f"95 % intervals by bootstrap over {page.subject_noun}s"
    )
    yield Table("metrics", head, rows, caption, strong)
    yield _subject_means(page)
    yield BulletList([_protocol_text(page, protocol) for protocol in evaluation.protocols])
    if page.species == "human":
        yield Text(
            "Two quantities go by the name G-mean: the geometric mean of the recalls, which Table "
            "3 of the MMASleepNet paper reports, and Eq. 17 of that paper, which comes out higher.",
            kind="muted",
        )


def _subject_means(page: Page) -> Table:
    """Show the mean of the subjects with its interval, and the seeds' spread apart from it."""
    import polars as pl

    rows = []
    several = any(len(pooled.seeds) > 1 for pooled in page.evaluation.pooled.values())
    for protocol, table in page.evaluation.intervals.items():
        for k in HEADLINE_METRICS:
            mean = find_interval(table, k, level=SUBJECT_MEAN)
            median = find_interval(table, k, level=SUBJECT_MEDIAN)
            pooled = table.filter(level="pooled", metric=k).filter(pl.col("stage").is_null())
            spread = pooled["seed_sd"][0] if len(pooled) else None
            rows.append(
                (
                    metric_label(k),
                    NAMED[protocol],
                    interval_text(k, *mean),
                    metric_text(k, median.value, within=(median.low, median.high)),
                    *([metric_text(k, spread)] if several else []),
                )
            )
    noun = page.subject_noun
    head = ["Metric", "Protocol", f"Mean of the {noun}s", "Median"]
    head += ["SD over seeds, pooled"] * several
    caption = f"Of the {noun}s, each as one; 95 % intervals" + "; seeds apart" * several
    return Table("means", head, rows, caption, texts=2)


def confusion_section(page: Page) -> Iterator[Block]:
    """Draw the pooled confusion matrix of every protocol."""
    figures = []
    for protocol, pooled in page.evaluation.pooled.items():
        title = f"Confusion matrix, {NAMED[protocol]}"
        drawing = confusion_svg(pooled.summed, page.run.stages, title)
        caption = f"{NAMED[protocol]}: per cent of the epochs scored as the row's stage, and count"
        if len(pooled.seeds) > 1:
            caption += f", summed over {len(pooled.seeds)} seeds"
        figures.append(Figure(f"confusion-{protocol}", drawing, title, caption))
    yield SideBySide(figures)


def stages_section(page: Page) -> Iterator[Block]:
    """Show F1, precision, recall, specificity and number of epochs of each stage."""
    head = ("Stage", "F1", "Precision", "Recall", "Specificity", "Epochs")
    for protocol, pooled in page.evaluation.pooled.items():
        table, support = page.evaluation.intervals[protocol], pooled.support
        rows = [
            (
                stage,
                *(interval_text(k, *find_interval(table, k, stage=stage)) for k in PER_STAGE),
                number_text(int(support[i])),
            )
            for i, stage in enumerate(page.run.stages)
        ]
        caption = f"{NAMED[protocol]}: one stage against the rest, per cent, 95 % intervals"
        if len(pooled.seeds) > 1:
            caption += f"; mean of {len(pooled.seeds)} seeds, epochs of one"
        yield Table(f"stages-{protocol}", head, rows, caption)


def subjects_section(page: Page) -> Iterator[Block]:
    """Show a dot and a row per subject, their mean and median; and a row per fold."""
    import polars as pl

    stages, noun = page.run.stages, page.subject_noun
    columns = {k: METRIC_LABELS[k] for k in HEADLINE_METRICS[:3]}
    columns |= {f"f1_{name}": f"F1 {name}" for name in stages}
    subjects = page.evaluation.table("subjects").filter(protocol=page.protocol)
    means = average_seeds(subjects, list(columns))
    values = {name: means[c].fill_null(float("nan")).to_list() for c, name in columns.items()}
    title = f"{NAMED[page.protocol]}, fraction of 1; one dot per {noun}, the bar the median"
    dots = plot_subjects(values, stages=stages, title=title)
    caption = f"How much one {noun} differs from another: {count_text(len(means), noun)}."
    yield Figure("subjects", dots, f"A dot per {noun}", caption)
    head = (
        noun.capitalize(),
        "Fold",
        f"{page.night_noun.capitalize()}s",
        "Epochs",
        "Stages",
        *columns.values(),
    )
    rows = [_subject(row, list(columns), len(stages)) for row in means.sort("subject").to_dicts()]
    for name, average in (("Mean", pl.Series.mean), ("Median", pl.Series.median)):
        cells = (metric_text(c, average(means[c].drop_nulls())) for c in columns)  # type: ignore[arg-type]
        rows.append((name, "", "", "", "", *cells))
    caption = f"{NAMED[page.protocol]}: each {noun} tested in one fold, per cent but for kappa; "
    caption += f"means over the stages that the {noun} has"
    caption += ", mean of seeds" * (subjects["seed"].n_unique() > 1)
    yield Table("subjects", head, rows, caption, frozenset({len(rows) - 2, len(rows) - 1}))
    yield from _folds(page)


def _folds(page: Page) -> Iterator[Block]:
    """Show a row per fold and protocol: its test epochs pooled, mean of the seeds."""
    import polars as pl

    table = page.evaluation.table("metrics").filter(
        pl.col("level") == "fold",
        pl.col("seed").is_not_null(),
        pl.col("stage").is_null(),
        pl.col("metric").is_in([*HEADLINE_METRICS[:3], "epochs"]),
    )
    means = table.group_by("protocol", "fold", "metric").agg(pl.col("value").mean())
    for protocol in page.evaluation.protocols:
        by_metric = means.filter(protocol=protocol)
        by_fold = by_metric.pivot("metric", index="fold", values="value").sort("fold")
        tested = page.evaluation.table("subjects").filter(protocol=protocol)
        rows = []
        for row in by_fold.to_dicts():
            names = sorted(set(tested.filter(fold=row["fold"])["subject"]))
            subjects = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
            numbers = (metric_text(k, row[k]) for k in HEADLINE_METRICS[:3])
            rows.append((row["fold"], subjects, number_text(int(row["epochs"])), *numbers))
        head = ("Fold", "Tested", "Epochs", *(METRIC_LABELS[k] for k in HEADLINE_METRICS[:3]))
        caption = f"{NAMED[protocol]}: every fold's test epochs pooled, per cent but for kappa"
        yield Table(f"folds-{protocol}", head, rows, caption, texts=2)


def average_seeds(subjects: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Average each subject over the seeds; null where there is no number."""
    import polars as pl

    keys = ["subject", "fold", "nights", "epochs", "stages"]
    return subjects.group_by(keys, maintain_order=True).agg(pl.col(columns).drop_nans().mean())


def _subject(row: dict[str, Any], columns: Sequence[str], stages: int) -> tuple[object, ...]:
    return (
        row["subject"],
        "all" if row["fold"] is None else row["fold"],
        row["nights"],
        number_text(row["epochs"]),
        f"{row['stages']} of {stages}",
        *(metric_text(c, row[c]) for c in columns),
    )
