"""Sections on trust: calibration, review list, and what choosing on the test fold gains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sleeptools.evaluation import uncertain_epochs
from sleeptools.evaluation.calibration import RELIABILITY_BINS
from sleeptools.report import plots
from sleeptools.report.blocks import Block, Figure, Folded, Table, Text
from sleeptools.report.numbers import LABELS, interval_text, metric_text
from sleeptools.report.page import Page
from sleeptools.runs.folds import NAMED

VARIANTS: Final = {"raw": "as predicted", "scaled": "with a fitted temperature"}
MEASURES: Final = {"nll": "Log loss, nats per epoch", "ece": "Calibration error (ECE)"}
SHOWN: Final = 25
"""Epochs of the review list shown."""


def calibration(page: Page) -> Iterator[Block]:
    """Show whether a probability of 80 % is right in 80 % of the epochs."""
    found = page.found.reliability.filter(protocol=page.protocol)
    if not len(found):
        return
    bins = {}
    for variant in dict.fromkeys(found["variant"]):
        sure, right = np.full((2, RELIABILITY_BINS), np.nan)
        count = np.zeros(RELIABILITY_BINS, np.int64)
        for row in found.filter(variant=variant).to_dicts():
            i = round(row["from"] * RELIABILITY_BINS)
            sure[i], right[i], count[i] = row["probability"], row["right"], row["epochs"]
        bins[VARIANTS.get(variant, variant)] = plots.Bins(sure, right, count)
    caption = (
        f"{NAMED[page.protocol]}: above the dotted line the model is less sure than it could be, "
        "below it is too sure."
    )
    yield Figure("reliability", plots.reliability(bins), "Reliability diagram", caption)
    rows: list[tuple[object, ...]] = []
    for row in page.found.calibration.to_dicts():
        cells = (row["value"], row["low"], row["high"])
        value, low, high = ("–" if v is None else f"{v:.3f}" for v in cells)  # noqa: RUF001
        name, variant = MEASURES.get(row["measure"], row["measure"]), VARIANTS[row["variant"]]
        rows.append((name, NAMED[row["protocol"]], variant, value, f"{low} to {high}"))
    head = ("Measure", "Protocol", "Probabilities", "Value", "95 % interval")
    yield Table("calibration", head, rows, "Calibration; intervals over subjects", texts=3)
    yield Text(
        "The temperature of a fold is fitted on its validation epochs alone; where a protocol has "
        "none, there is none.",
        kind="muted",
    )


def second_look(page: Page) -> Iterator[Block]:
    """List the epochs most worth a human's second look."""
    table = page.found.review
    if not len(table):
        return
    held = page.found.errors_found()
    yield Text(
        f"The {uncertain_epochs.SHARE:.0%} of the epochs ({len(table):,}) in which the model is "
        f"least sure hold {metric_text('accuracy', held)} % of its errors. The command evaluate "
        "writes the whole "
        "list."
    )
    rows = [
        (
            r["recording"],
            r["epoch"],
            clock(r["onset"]),
            r["predicted"],
            f"{r['probability']:.2f}",
            r["second"],
            f"{r['margin']:.3f}",
            r["scored"],
        )
        for r in table.head(SHOWN).to_dicts()
    ]
    head = ("Recording", "Epoch", "At", "Predicted", "Probability", "Second", "Margin", "Scored")
    caption = f"The {len(rows)} least sure epochs, h:min:s from the start of the recording"
    yield Folded("The least sure epochs", Table("review", head, rows, caption))


def clock(seconds: float) -> str:
    """Write a time as h:min:s."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def optimism(page: Page) -> Iterator[Block]:
    """Show what choosing the pass on the test fold gains, apart from what else differs."""
    found = page.found.selection
    gain = page.found.gain
    rows: list[tuple[object, ...]] = []
    if len(gain):
        for r in gain.to_dicts():
            k = r["metric"]
            if r["stage"] is None and k in LABELS:
                told = interval_text(k, r["value"], r["low"], r["high"], signed=True)
                rows.append((LABELS[k], told))
        caption = (
            "best-on-test (optimistic) less leak-free, per cent but for kappa; 95 % intervals over "
            "subjects. Two things differ: what chose the pass, and how many subjects train"
        )
        yield Table("gain", ("Metric", "Difference"), rows, caption, narrow=True)
    if not len(found):
        return
    rows = []
    for protocol in dict.fromkeys(found["protocol"]):
        for metric in dict.fromkeys(found["metric"]):
            mine = found.filter(protocol=protocol, metric=metric)
            sides = (mine[c].mean() for c in ("best", "chosen", "last", "optimism", "against_last"))
            cells = (metric_text(metric, v) for v in sides)  # type: ignore[arg-type]
            rows.append((LABELS[metric], NAMED[protocol], len(mine), *cells))
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
