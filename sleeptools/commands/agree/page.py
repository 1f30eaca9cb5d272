"""The page of a comparison of scorings: agreement first, then where and when they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.commands.agree.compare import SIMULATED_NIGHT, Comparison
from sleeptools.commands.agree.sleep_blocks import sleep_blocks
from sleeptools.evaluation.agreement import (
    NIGHT_MEAN,
    POOLED,
    NightAgreement,
    ScoringAgreement,
    pairs_of,
)
from sleeptools.evaluation.bootstrap import FEW_SUBJECTS
from sleeptools.report import html, markup
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
from sleeptools.report.html import PURPOSE, Section, banner
from sleeptools.report.numbers import count_text, interval_number, interval_text
from sleeptools.report.plots.agreement import plot_hours
from sleeptools.report.scorings_svg import scorings_svg
from sleeptools.report.svg import confusion_svg

if TYPE_CHECKING:
    import polars as pl

MOST_NIGHTS: Final = 100  # drawn; more would make the page slow
MOST_EPOCHS: Final = 200  # listed; differing.csv has all
MOST_NOTES: Final = 30
OVERALL: Final = {
    "kappa": "Cohen's kappa",
    "accuracy": "Agreement, %",
    "macro_f1": "Macro-F1, %",
    "pabak": "PABAK",
}
BY_STAGE: Final = {
    "kappa": "Kappa",
    "f1": "F1, %",
    "pabak": "PABAK",
    "precision": "Precision, %",
    "recall": "Recall, %",
}


def agreement_html(comparison: Comparison) -> str:
    """Make the page of a comparison."""
    agreement = comparison.agreement
    sections = [
        Section("agreement", "Agreement", tuple(_agreement(agreement))),
        Section("stages", "Stage by stage", tuple(_by_stage(agreement))),
        Section("sleep", "Sleep statistics", tuple(sleep_blocks(agreement))),
        Section("hours", "Over the night", tuple(_hours(agreement))),
        Section("differing", "Where all differ", tuple(_differing(agreement))),
        Section("nights", "Nights", tuple(_nights(agreement))),
        Section("how", "How they were compared", tuple(_how(comparison))),
    ]
    title = f"Agreement of {', '.join(agreement.scorings)}"
    epochs = int(agreement.confusions[0].sum())
    header = [
        markup.element("h1", markup.escape(title)),
        markup.paragraph(
            f"{count_text(len(agreement.nights), 'night')}, {count_text(epochs, 'epoch')} that all "
            f"scored; {agreement.scorings[0]} is the reference",
            class_="lead",
        ),
        *(banner(head, text) for head, text in _banners(comparison)),
        markup.paragraph(PURPOSE, class_="purpose"),
    ]
    body = [html.section_html(section, 1, "h2") for section in sections if section.blocks]
    footer = markup.paragraph(f"{PURPOSE} Written by sleeptools.")
    return html.page_html(title, markup.join(header), body, footer)


def _banners(comparison: Comparison) -> Iterator[tuple[str, str]]:
    nights = comparison.agreement.nights
    if simulated := [night.night for night in nights if SIMULATED_NIGHT in night.notes]:
        yield "SIMULATED DATA", f"Generated signals, not from sleepers: {_listing(simulated)}."
    shifted = [
        f"{night.night}: {shift.text(comparison.agreement.scorings[j])}"
        for night in comparison.agreement.nights
        for shift, (_, j) in zip(
            night.shifts, pairs_of(len(comparison.agreement.scorings)), strict=True
        )
        if shift.epochs and not shift.is_doubtful
    ]
    if shifted:
        yield (
            "SHIFTED",
            f"{_listing(shifted)}. The numbers below are of the scorings as they lie: nothing was "
            "shifted.",
        )
    if comparison.failures:
        failed = [f"{name}: {error}" for name, error in comparison.failures.items()]
        yield "NOT COMPARED", _listing(failed)
    for note in comparison.agreement.notes:
        yield "NOTE", note


def _listing(texts: Sequence[str], count: int = 8) -> str:
    rest_text = f"; and {len(texts) - count} more" if len(texts) > count else ""
    return "; ".join(texts[:count]) + rest_text


# --- agreement ------------------------------------------------------------------------------------


def _agreement(agreement: ScoringAgreement) -> Iterator[Block]:
    table = agreement.metrics()
    first = _row_values(table, agreement.pairs[0], None)
    yield Tiles(
        [
            ("Cohen's kappa", _number("kappa", first["kappa"]), agreement.pairs[0]),
            ("agreement", _number("accuracy", first["accuracy"]) + " %", "epochs alike"),
            ("macro-F1", _number("macro_f1", first["macro_f1"]) + " %", "mean over stages"),
            ("nights", str(len(agreement.nights)), f"{len(agreement.scorings)} scorings"),
        ]
    )
    rows = [
        (pair, *(_cell(name, values[name]) for name in OVERALL))
        for pair in agreement.pairs
        for values in [_row_values(table, pair, None)]
    ]
    caption = (
        "Two by two, on the epochs that all scored, pooled over the nights; 95 % intervals over "
        "nights, where there are two or more"
    )
    yield Table("pairs", ["Pair", *OVERALL.values()], rows, caption)
    if 1 < len(agreement.nights) < FEW_SUBJECTS:
        yield Text(f"Fewer than {FEW_SUBJECTS} nights: the intervals are too narrow.", kind="muted")
    if len(agreement.nights) > 1:
        means = [
            (pair, *(_cell(name, values[name]) for name in OVERALL))
            for pair in agreement.pairs
            for values in [_row_values(table, pair, None, NIGHT_MEAN)]
        ]
        head = ["Pair", *OVERALL.values()]
        mean = Table(
            "pairs-by-night", head, means, "Mean of the nights, each of which counts alike"
        )
        yield Collapsible("Mean of the nights", mean)


Bounds = tuple[float | None, float | None, float | None]


def _row_values(
    table: pl.DataFrame, pair: str, stage: str | None, level: str = POOLED
) -> Mapping[str, Bounds]:
    import polars as pl

    is_stage = pl.col("stage").eq_missing(pl.lit(stage, pl.String))
    rows = table.filter(is_stage, pair=pair, level=level).to_dicts()
    return {row["metric"]: (row["value"], row["low"], row["high"]) for row in rows}


def _cell(metric: str, bounds: Bounds) -> str:
    if metric == "pabak":
        return interval_number(*bounds, ".3f")
    return interval_text(metric, *bounds)


def _stage_cell(metric: str, bounds: Bounds) -> str:
    """Write a metric of a stage; the two that say which way they differ have no interval here."""
    return _number(metric, bounds) if metric in ("precision", "recall") else _cell(metric, bounds)


def _number(metric: str, bounds: Bounds) -> str:
    return interval_text(metric, bounds[0], None, None)


def _by_stage(agreement: ScoringAgreement) -> Iterator[Block]:
    table = agreement.metrics()
    figures, tables = [], []
    for (i, j), pair, matrix in zip(
        pairs_of(len(agreement.scorings)), agreement.pairs, agreement.confusions, strict=True
    ):
        sides = agreement.scorings[i], agreement.scorings[j]
        drawing = confusion_svg(matrix, agreement.names, f"Confusion matrix, {pair}", sides)
        figures.append(Figure(f"confusion-{pair}", drawing, f"Confusion {pair}", pair))
        rows = [
            (stage, f"{count:,}", *(_stage_cell(name, values[name]) for name in BY_STAGE))
            for stage, count in zip(agreement.names, matrix.sum(1), strict=True)
            for values in [_row_values(table, pair, stage)]
        ]
        caption = f"{pair}: each stage against all others; epochs are those of {sides[0]}"
        head = ["Stage", "Epochs", *BY_STAGE.values()]
        tables.append(Table(f"stages-{pair}", head, rows, caption))
    yield SideBySide(figures)
    yield tables[0]
    yield from (Collapsible(entry.caption.partition(":")[0], entry) for entry in tables[1:])


# --- where, when ----------------------------------------------------------------------------------


def _hours(agreement: ScoringAgreement) -> Iterator[Block]:
    table = agreement.hours()
    shares = {}
    for pair in agreement.pairs:
        rows = table.filter(pair=pair)
        shares[pair] = ((rows["hour"] + 1).to_list(), rows["accuracy"].to_list())
    caption = "Share of epochs alike in each hour from the first epoch that all scored"
    yield Figure("hours", plot_hours(shares), "Agreement over the night", caption)
    cells = [
        (
            row["pair"],
            row["hour"] + 1,
            row["nights"],
            row["epochs"],
            interval_text("accuracy", row["accuracy"], None, None),
            interval_text("kappa", row["kappa"], None, None),
        )
        for row in table.to_dicts()
    ]
    head = ["Pair", "Hour", "Nights", "Epochs", "Agreement, %", "Kappa"]
    yield Collapsible("Hour by hour", Table("hours", head, cells, "Agreement by hour"))


def _differing(agreement: ScoringAgreement) -> Iterator[Block]:
    table = agreement.differing()
    total = int(agreement.confusions[0].sum())
    of_two = len(agreement.scorings) == 2  # noqa: PLR2004
    noun = "both differ" if of_two else "no two agree"
    yield Text(f"In {len(table):,} of {total:,} epochs {noun}; differing.csv lists all of them.")
    rows = [
        [row["night"], row["epoch"], row["time"] or f"{row['onset']:g} s"]
        + [row[name] for name in agreement.scorings]
        for row in table.head(MOST_EPOCHS).to_dicts()
    ]
    if rows:
        head = ["Night", "Epoch", "Time", *agreement.scorings]
        caption = "Epochs, counted from 0 on the common grid"
        if len(table) > MOST_EPOCHS:
            caption += f"; the first {MOST_EPOCHS} of them"
        listed = Table("differing", head, rows, caption, texts=len(head))
        yield Collapsible("Epoch by epoch", listed)


def _nights(agreement: ScoringAgreement) -> Iterator[Block]:
    rows = [
        (
            row["night"],
            row["pair"],
            f"{row['epochs']:,}",
            row["differ"],
            interval_text("kappa", row["kappa"], None, None),
            interval_text("accuracy", row["accuracy"], None, None),
            _shift_cell(row),
        )
        for row in agreement.by_night().to_dicts()
    ]
    head = ["Night", "Pair", "Epochs", "Differ", "Kappa", "Agreement, %", "Shift: kappa"]
    caption = "Shift: by how many epochs the first of a pair would have to be laid later"
    yield Table("nights", head, rows, caption, texts=2)
    for number, night in enumerate(agreement.nights[:MOST_NIGHTS]):
        drawing = scorings_svg(night.night, night.aligned)
        caption = f"{night.night}." if number == 0 else ""
        label = f"Scorings of {night.night}"
        figure = Figure(f"scorings-{night.night}", drawing, label, caption, zoom=True)
        yield Collapsible(night.night, figure) if number else figure
    if len(agreement.nights) > MOST_NIGHTS:
        yield Text(f"{len(agreement.nights) - MOST_NIGHTS} more nights are not drawn here.")


def _shift_cell(row: Mapping[str, Any]) -> str:
    if not row["shift"]:
        return "none"
    doubt = ", by chance?" if row["doubtful"] else ""
    return f"{row['shift']:+d}: {row['shifted_kappa']:.3f}{doubt}"


def _how(comparison: Comparison) -> Iterator[Block]:
    agreement = comparison.agreement
    notes: dict[str, list[str]] = {}
    for night in agreement.nights:
        for note in night.notes:
            notes.setdefault(note, []).append(night.night)
    texts = [f"{_listing(nights)}: {note}" for note, nights in notes.items()]
    if texts:
        yield BulletList(texts[:MOST_NOTES])
    counts = _consensus_counts(agreement.nights)
    yield Text(
        f"The consensus has the stage that most scorings give: all agree in "
        f"{counts['unanimous']:,} epochs, a majority in {counts['majority']:,}. Ties go to the "
        f"stage with the highest sum of probabilities ({counts['by_probability']:,} epochs), "
        "where a scoring without any counts as certain, and else to the stage of the scoring "
        f"named first ({counts['by_order']:,}).",
        bold="Consensus.",
    )
    rows = [
        (night, *(str(path.name) for path in paths)) for night, paths in comparison.files.items()
    ]
    if rows:
        files = Table(
            "files", ["Night", *agreement.scorings], rows, "Files", texts=1 + len(rows[0])
        )
        yield Collapsible("Files", files)
    yield Text(
        "F1, precision and recall take the second of a pair as the reference; kappa and PABAK "
        "((k po - 1) / (k - 1) with k stages) are the same either way.",
        kind="muted",
    )


def _consensus_counts(nights: Sequence[NightAgreement]) -> dict[str, int]:
    names = ("unanimous", "majority", "by_probability", "by_order")
    return {n: int(np.sum([getattr(night.consensus, n) for night in nights])) for n in names}
