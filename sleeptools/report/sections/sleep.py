"""Sections on sleep itself: statistics per night, agreement of scorers, the day of a mouse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation import sleep_statistics
from sleeptools.report import plots
from sleeptools.report.blocks import Block, Figure, Folded, Items, Table, Text
from sleeptools.report.numbers import LABELS, interval_text, metric_text
from sleeptools.report.page import Page
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
SHORT: Final = {
    "tst": "TST",
    "se": "SE",
    "sol": "SOL",
    "rem_latency_from_sleep_onset": "REM latency",
    "waso": "WASO",
}
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
"""Statistics that are drawn, as many of the first as fit."""
PANELS: Final = 6
FEWEST: Final = 3  # nights of a panel
UNDEFINED: Final = "–"  # noqa: RUF001 - a dash for "none"


def statistics(page: Page) -> Iterator[Block]:
    """Compare the sleep statistics of prediction and scoring."""
    import polars as pl

    summed = page.found.agreement.filter(protocol=page.protocol)
    if not len(summed):
        return
    measured = page.found.sleep.filter(protocol=page.protocol)
    keys = ["statistic", "stage"]
    nights = measured.group_by(["recording", *keys], maintain_order=True).agg(
        pl.col("truth", "predicted").mean()
    )
    panels = list(_panels(summed, nights))
    if panels:
        caption = (
            f"{NAMED[page.protocol]}: a dot is a night; the line is the bias, dashed the limits of "
            "agreement (1.96 SD), shaded their 95 % intervals, over subjects."
        )
        plot = plots.bland_altman(panels[:PANELS])
        yield Figure("bland-altman", plot, "Bland-Altman plots", caption)
    yield _agreement(page, summed)
    yield Folded("Every night's sleep statistics", _nights(page, nights))
    yield Folded("How each is defined", Items([f"{_title(k)}: {v}" for k, v in _defined(summed)]))


def _defined(summed: pl.DataFrame) -> list[tuple[str, str]]:
    known = dict.fromkeys(summed["statistic"])
    return [
        (name, sleep_statistics.MEANING[name]) for name in known if name in sleep_statistics.MEANING
    ]


def _title(name: str, stage: str | None = None) -> str:
    plain = TITLES.get(name, name.replace("_", " ").capitalize())
    return f"{plain} {stage}" if stage else plain


def _panels(summed: pl.DataFrame, nights: pl.DataFrame) -> Iterator[plots.Agreement]:
    rows = {(r["statistic"], r["stage"]): r for r in summed.to_dicts()}
    for name, stage in DRAWN:
        row = rows.get((name, stage))
        if row is None or row["nights"] < FEWEST or row["bias"] is None:
            continue
        own = nights.filter(statistic=name)
        own = own.filter(stage=stage) if stage else own
        factor = _factor(row["unit"])
        bounds = (_bounds(row, k, factor) for k in ("bias", "lower", "upper"))
        truth, predicted = (factor * _numbers(own[c]) for c in ("truth", "predicted"))
        unit = "" if stage else _unit(row["unit"])  # "Minutes REM" says it
        yield plots.Agreement(_title(name, stage), unit, truth, predicted, *bounds)


def _numbers(values: pl.Series) -> Any:
    return values.cast(float).fill_null(float("nan")).to_numpy()


def _bounds(row: Mapping[str, Any], name: str, factor: float) -> tuple[float, float, float]:
    found = (row[k] for k in (name, f"{name}_low", f"{name}_high"))
    value, low, high = (float("nan") if v is None else factor * v for v in found)
    return value, low, high


def _factor(unit: str) -> float:
    """Show fractions in per cent."""
    return 100.0 if unit == "fraction" else 1.0


def _unit(unit: str) -> str:
    return {"fraction": "%", "count": ""}.get(unit, unit)


def _agreement(page: Page, summed: pl.DataFrame) -> Table:
    rows = []
    for row in summed.to_dicts():
        factor = _factor(row["unit"])
        bias, lower, upper = (_bounds(row, k, factor) for k in ("bias", "lower", "upper"))
        also = ["bias"] * bool(row["proportional"])
        also += ["spread"] * bool(row["heteroscedastic"])
        rows.append(
            (
                _title(row["statistic"], row["stage"]),
                _unit(row["unit"]),
                row["nights"],
                row["undefined"],
                _plain(bias),
                _plain(lower),
                _plain(upper),
                ", ".join(also) or "no",
            )
        )
    head = (
        "Statistic",
        "Unit",
        "Nights",
        "Undefined",
        "Bias",
        "Lower limit",
        "Upper limit",
        "Changes with size",
    )
    caption = (
        f"{NAMED[page.protocol]}: predicted less scored, with 95 % intervals over subjects; "
        "undefined where lights-off is not known, or a night has no such sleep; bias or spread may "
        "change with the size of what is measured"
    )
    return Table("sleep-agreement", head, rows, caption, texts=2)


def _plain(bounds: tuple[float, float, float]) -> str:
    value, low, high = bounds
    if np.isnan(value):
        return UNDEFINED
    return f"{value:.1f}" + (f" [{low:.1f}, {high:.1f}]" if np.isfinite([low, high]).all() else "")


def _nights(page: Page, nights: pl.DataFrame) -> Table:
    """Scored and predicted value of every statistic of every night."""
    columns = [(n, None) for n in SHORT] + [("minutes", s) for s in page.found.stages]
    known = {(r["recording"], r["statistic"], r["stage"]): r for r in nights.to_dicts()}
    rows = []
    for recording in dict.fromkeys(nights["recording"]):
        cells = []
        for name, stage in columns:
            row = known.get((recording, name, stage), {})
            factor = 100 if name == "se" else 1
            values = [row.get(side) for side in ("truth", "predicted")]
            told = [UNDEFINED if v is None else f"{factor * v:.0f}" for v in values]
            cells.append(" / ".join(told))
        rows.append((recording, *cells))
    head = ("Night", *SHORT.values(), *(f"min {s}" for s in page.found.stages))
    return Table("sleep", head, rows, "Scored / predicted, in min; SE in per cent")


def scorers(page: Page) -> Iterator[Block]:
    """Set model and scorers beside each other, where several scored."""
    found = page.found.scorers
    if not len(found):
        return
    rows = []
    for protocol in page.found.protocols:
        mine = found.filter(protocol=protocol)
        for pair in dict.fromkeys(mine["pair"]):
            of = {r["metric"]: r for r in mine.filter(pair=pair).to_dicts()}
            some = next(iter(of.values()))
            cells = (interval_text(k, of[k]["value"], of[k]["low"], of[k]["high"]) for k in of)
            rows.append((pair, NAMED[protocol], some["subjects"], f"{some['epochs']:,}", *cells))
    names = list(dict.fromkeys(found["metric"]))
    head = ("Pair", "Protocol", "Subjects", "Epochs", *(LABELS[n] for n in names))
    caption = "On the test epochs that all of them scored; per cent but for kappa; 95 % intervals"
    yield Table("scorers", head, rows, caption, texts=2)
    yield Text(
        "The model has learned from one of the scorers; that it agrees with this one as well as a "
        "second scorer does, does not make it better than experts.",
        kind="muted",
    )


def day(page: Page) -> Iterator[Block]:
    """Draw the minutes of a mouse's stages over the day, and their correlation."""
    import polars as pl

    found = page.found.day
    if not len(found):
        return
    mine = found.filter(protocol=page.protocol)
    mean = mine.group_by("hour", "stage").agg(pl.col("truth", "predicted").mean()).sort("hour")
    hours = mean["hour"].unique(maintain_order=True).to_numpy()
    stages = page.found.stages
    truth, predicted = (
        np.stack([mean.filter(stage=s)[side].to_numpy() for s in stages], axis=1)
        for side in ("truth", "predicted")
    )
    known = page.found.day_correlation.filter(protocol=page.protocol)
    r = {row["stage"]: row for row in known.to_dicts()}
    each = np.array([r.get(s, {}).get("r") or np.nan for s in stages])
    caption = (
        f"Minutes per 2-h bin from the start of the recording, mean over "
        f"{mine['recording'].n_unique()} recordings; r within recordings, then averaged."
    )
    yield Figure("day", plots.per_bin(hours, truth, predicted, stages, each), "Day", caption)
    rows = [
        (
            row["stage"] or "all together",
            row["recordings"],
            metric_text("kappa", row["r"]),
            metric_text("kappa", row["r_sd"]),
        )
        for row in known.to_dicts()
    ]
    head = ("Stage", "Recordings", "Mean r", "SD over recordings")
    yield Table("day", head, rows, "Pearson's r of scored and predicted minutes", narrow=True)
