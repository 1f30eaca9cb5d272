"""Section on calibration: whether a probability of 80 % is right in 80 % of the epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sleeptools.evaluation.calibration import RELIABILITY_BINS
from sleeptools.report.blocks import Block, Figure, Table, Text
from sleeptools.report.numbers import rounded_interval
from sleeptools.report.page import Page
from sleeptools.report.plots.calibration import LEAST_EPOCHS, ReliabilityBins, plot_reliability
from sleeptools.runs.folds import NAMED

VARIANTS: Final = {"raw": "as predicted", "scaled": "with a fitted temperature"}
MEASURES: Final = {"nll": "Log loss, nats per epoch", "ece": "Calibration error (ECE)"}


def calibration_section(page: Page) -> Iterator[Block]:
    """Draw the reliability diagram, and show log loss and calibration error."""
    table = page.evaluation.table("reliability").filter(protocol=page.protocol)
    if not len(table):
        return
    bins = {}
    for variant in dict.fromkeys(table["variant"]):
        confidence, accuracy = np.full((2, RELIABILITY_BINS), np.nan)
        count = np.zeros(RELIABILITY_BINS, np.int64)
        for row in table.filter(variant=variant).to_dicts():
            i = round(row["from"] * RELIABILITY_BINS)
            confidence[i], accuracy[i], count[i] = row["probability"], row["right"], row["epochs"]
        bins[VARIANTS.get(variant, variant)] = ReliabilityBins(confidence, accuracy, count)
    caption = (
        f"{NAMED[page.protocol]}: above the dotted line the model is less sure than it could be, "
        f"below it is too sure. Bins of fewer than {LEAST_EPOCHS} epochs are not drawn."
    )
    yield Figure("reliability", plot_reliability(bins), "Reliability diagram", caption)
    rows: list[tuple[object, ...]] = []
    for row in page.evaluation.table("calibration").to_dicts():
        value = rounded_interval(row["value"], row["low"], row["high"], decimals=3)
        name, variant = MEASURES.get(row["measure"], row["measure"]), VARIANTS[row["variant"]]
        rows.append((name, NAMED[row["protocol"]], variant, value))
    head = ("Measure", "Protocol", "Probabilities", "Value")
    yield Table(
        "calibration", head, rows, f"Calibration; 95 % intervals over {page.subject_noun}s", texts=3
    )
    yield Text(
        "The temperature of a fold is fitted on its validation epochs alone; where a protocol has "
        "none, there is none.",
        kind="muted",
    )
