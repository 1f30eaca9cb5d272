"""Sections on sleep itself: statistics per night, agreement of scorers, the day of a mouse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation.sleep_statistics import DEFINITIONS
from sleeptools.recording.hypnogram import GENERATOR_SCORER
from sleeptools.report.blocks import Block, BulletList, Collapsible, Figure, Table, Text
from sleeptools.report.numbers import (
    DASH,
    METRIC_LABELS,
    interval_text,
    metric_text,
    number_text,
    rounded_interval,
)
from sleeptools.report.page import Page
from sleeptools.report.plots.sleep import AgreementPanel, plot_bland_altman, plot_day
from sleeptools.runs.folds import NAMED

if TYPE_CHECKING:
    import polars as pl

TITLES: Final = {
    "tib": "Time in bed",
    "spt": "Sleep period",
    "tst": "Total sleep time",
    "se": "Sleep efficiency",
    "sme": "Sleep maintenance",
    "sol": "Sleep onset latency",
    "rem_latency_from_sleep_onset": "REM latency from sleep onset",
    "rem_latency_from_lights_off": "REM latency from lights off",
    "waso": "Wake after sleep onset",
    "transitions": "Transitions",
}
SHORT_TITLES: Final = {
    "tst": "TST",
    "se": "SE",
    "sol": "SOL",
    "rem_latency_from_sleep_onset": "REM latency",
    "waso": "WASO",
}
"""Statistics of the table of nights, with its column headings."""
DRAWN: Final = (
    ("tst", None),
    ("se", None),
    ("sol", None),
    ("waso", None),
    ("rem_latency_from_sleep_onset", None),
    ("minutes", "N3"),
    ("minutes", "REM"),
    ("minutes", "Wake"),
    ("minutes", "NREM"),
    ("transitions", None),
)
"""Statistics and stages to draw; the first `MOST_PANELS` of those that were measured are drawn."""
MOST_PANELS: Final = 6
FEWEST_NIGHTS: Final = 3  # of a panel


def sleep_section(page: Page) -> Iterator[Block]:
    """Compare the sleep statistics of prediction and scoring."""
    import polars as pl

    agreement = page.evaluation.table("agreement").filter(protocol=page.protocol)
    if not len(agreement):
        return
    measured = page.evaluation.table("sleep").filter(protocol=page.protocol)
    keys = ["recording", "statistic", "stage"]
    nights = measured.group_by(keys, maintain_order=True).agg(pl.col("truth", "predicted").mean())
    panels = list(_panels(agreement, nights))
    if panels:
        caption = (
            f"{NAMED[page.protocol]}: a dot is a {page.night_noun}; the line is the bias, dashed "
            "the limits of agreement (1.96 SD), shaded their 95 % intervals, "
            f"over {page.subject_noun}s."
        )
        plot = plot_bland_altman(panels[:MOST_PANELS])
        yield Figure("bland-altman", plot, "Bland-Altman plots", caption)
    yield _agreement(page, agreement)
    yield Collapsible(f"Sleep statistics of every {page.night_noun}", _nights(page, nights))
    statistics = (name for name in dict.fromkeys(agreement["statistic"]) if name in DEFINITIONS)
    definitions = [f"{_title(name)}: {_definition(page, name)}" for name in statistics]
    yield Collapsible("How each is defined", BulletList(definitions))


def _definition(page: Page, statistic: str) -> str:
    of_people, _, of_mice = DEFINITIONS[statistic].partition("; in mice, ")
    return of_mice if of_mice and page.species == "mouse" else of_people


def _title(statistic: str, stage: str | None = None) -> str:
    title = TITLES.get(statistic, statistic.replace("_", " ").capitalize())
    return f"{title} {stage}" if stage else title


def _panels(agreement: pl.DataFrame, nights: pl.DataFrame) -> Iterator[AgreementPanel]:
    rows = {(r["statistic"], r["stage"]): r for r in agreement.to_dicts()}
    for statistic, stage in DRAWN:
        row = rows.get((statistic, stage))
        if row is None or row["nights"] < FEWEST_NIGHTS or row["bias"] is None:
            continue
        values = nights.filter(statistic=statistic)
        values = values.filter(stage=stage) if stage else values
        factor = _factor(row["unit"])
        bounds = (_bounds(row, k, factor) for k in ("bias", "lower", "upper"))
        truth, predicted = (factor * _numbers(values[c]) for c in ("truth", "predicted"))
        unit = "" if stage else _unit(row["unit"])  # "Minutes REM" says it
        yield AgreementPanel(_title(statistic, stage), unit, truth, predicted, *bounds)


def _numbers(values: pl.Series) -> Any:
    return values.cast(float).fill_null(float("nan")).to_numpy()


def _bounds(row: Mapping[str, Any], name: str, factor: float) -> tuple[float, float, float]:
    numbers = (row[k] for k in (name, f"{name}_low", f"{name}_high"))
    value, low, high = (float("nan") if v is None else factor * v for v in numbers)
    return value, low, high


def _factor(unit: str) -> float:
    """Show fractions in per cent."""
    return 100.0 if unit == "fraction" else 1.0


def _unit(unit: str) -> str:
    return {"fraction": "%", "count": ""}.get(unit, unit)


def _agreement(page: Page, agreement: pl.DataFrame) -> Table:
    """Show bias and limits of agreement of every statistic."""
    rows = []
    for row in agreement.to_dicts():
        factor = _factor(row["unit"])
        bounds = (_bounds(row, k, factor) for k in ("bias", "lower", "upper"))
        changes = ["bias"] * bool(row["proportional"]) + ["spread"] * bool(row["heteroscedastic"])
        rows.append(
            (
                _title(row["statistic"], row["stage"]),
                _unit(row["unit"]),
                row["nights"],
                row["undefined"],
                *(rounded_interval(*numbers, decimals=1) for numbers in bounds),
                ", ".join(changes) or "no",
            )
        )
    head = (
        "Statistic",
        "Unit",
        f"{page.night_noun.capitalize()}s",
        "Undefined",
        "Bias",
        "Lower limit",
        "Upper limit",
        "Changes with size",
    )
    caption = (
        f"{NAMED[page.protocol]}: predicted less scored, with 95 % intervals over "
        f"{page.subject_noun}s; "
        f"undefined where lights-off is not known, or a {page.night_noun} has no such sleep; bias "
        "or spread may change with the size of what is measured"
    )
    return Table("sleep-agreement", head, rows, caption, texts=2)


def _nights(page: Page, nights: pl.DataFrame) -> Table:
    """Show the scored and the predicted value of every statistic of every night."""
    stages = page.run.stages
    columns = [(name, None) for name in SHORT_TITLES] + [("minutes", stage) for stage in stages]
    values = {(r["recording"], r["statistic"], r["stage"]): r for r in nights.to_dicts()}
    rows = []
    for recording in dict.fromkeys(nights["recording"]):
        cells = (_night_cell(values.get((recording, *key), {}), key[0]) for key in columns)
        rows.append((recording, *cells))
    head = (
        page.night_noun.capitalize(),
        *SHORT_TITLES.values(),
        *(f"min {stage}" for stage in stages),
    )
    return Table("sleep", head, rows, "Scored / predicted, in min; SE in per cent")


def _night_cell(row: Mapping[str, Any], statistic: str) -> str:
    factor = 100 if statistic == "se" else 1
    values = (row.get(side) for side in ("truth", "predicted"))
    return " / ".join(DASH if v is None else f"{factor * v:.0f}" for v in values)


def scorers_section(page: Page) -> Iterator[Block]:
    """Compare model and scorers two by two, where several scored."""
    table = page.evaluation.table("scorers")
    if not len(table):
        return
    rows = []
    for protocol in page.evaluation.protocols:
        pairs = table.filter(protocol=protocol)
        for pair in dict.fromkeys(pairs["pair"]):
            by_metric = {r["metric"]: r for r in pairs.filter(pair=pair).to_dicts()}
            first = next(iter(by_metric.values()))
            cells = (
                interval_text(k, r["value"], r["low"], r["high"]) for k, r in by_metric.items()
            )
            named = pair.replace(GENERATOR_SCORER, "true stages")
            counts = number_text(first["subjects"]), number_text(first["epochs"])
            rows.append((named, NAMED[protocol], *counts, *cells))
    labels = (METRIC_LABELS[name] for name in dict.fromkeys(table["metric"]))
    head = ("Pair", "Protocol", f"{page.subject_noun.capitalize()}s", "Epochs", *labels)
    caption = "On the test epochs that all of them scored; per cent but for kappa; 95 % intervals"
    yield Table("scorers", head, rows, caption, texts=2)
    yield Text(
        "The model has learned from one of the scorers; that it agrees with this one as well as a "
        "second scorer does, does not make it better than experts.",
        kind="muted",
    )


def day_section(page: Page) -> Iterator[Block]:
    """Draw the minutes of a mouse's stages over the day, and show their correlation."""
    import polars as pl

    if not len(page.evaluation.table("day")):
        return
    bins = page.evaluation.table("day").filter(protocol=page.protocol)
    mean = bins.group_by("hour", "stage").agg(pl.col("truth", "predicted").mean()).sort("hour")
    hours = mean["hour"].unique(maintain_order=True).to_numpy()
    stages = page.run.stages
    truth, predicted = (
        np.stack([mean.filter(stage=s)[side].to_numpy() for s in stages], axis=1)
        for side in ("truth", "predicted")
    )
    correlations = page.evaluation.table("day_correlation").filter(protocol=page.protocol)
    by_stage = {row["stage"]: row["r"] for row in correlations.to_dicts()}
    r = [by_stage.get(stage) for stage in stages]
    caption = (
        f"Minutes per 2-h bin from the start of the recording, mean over "
        f"{bins['recording'].n_unique()} recordings; r within recordings, then averaged."
    )
    if len(hours) > 1:  # a recording of one bin has no course
        yield Figure("day", plot_day(hours, truth, predicted, stages, r), "Day", caption)
    rows = [
        (
            row["stage"] or "all together",
            row["recordings"],
            metric_text("kappa", row["r"]),
            metric_text("kappa", row["r_sd"]),
        )
        for row in correlations.to_dicts()
    ]
    if rows:
        head = ("Stage", "Recordings", "Mean r", "SD over recordings")
        yield Table("day", head, rows, "Pearson's r of scored and predicted minutes", narrow=True)
