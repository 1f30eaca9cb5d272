"""Section on the epochs that are most worth a second look: those the model is least sure of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sleeptools.evaluation.uncertain_epochs import LISTED_SHARE, share_of_errors
from sleeptools.report.blocks import Block, Collapsible, Table, Text
from sleeptools.report.numbers import metric_text
from sleeptools.report.page import Page

LISTED: Final = 25
"""Largest number of epochs in the table."""


def uncertain_epochs_section(page: Page) -> Iterator[Block]:
    """List the least certain epochs, and say how many of the errors are among them."""
    table = page.evaluation.table("review")
    if not len(table):
        return
    errors = metric_text("accuracy", share_of_errors(page.evaluation.ranking))
    yield Text(
        f"The {100 * LISTED_SHARE:.0f} % of the epochs ({len(table):,}) in which the model is "
        f"least sure hold {errors} % of its errors."
    )
    rows = [
        (
            r["recording"],
            r["epoch"],
            clock_text(r["onset"]),
            r["predicted"],
            f"{r['probability']:.2f}",
            r["second"],
            f"{r['margin']:.3f}",
            r["scored"],
        )
        for r in table.head(LISTED).to_dicts()
    ]
    head = (
        page.night_noun.capitalize(),
        "Epoch",
        "At",
        "Predicted",
        "Probability",
        "Second",
        "Margin",
        "Scored",
    )
    caption = f"The {len(rows)} least sure epochs, h:min:s from its start"
    yield Collapsible("The least sure epochs", Table("review", head, rows, caption))


def clock_text(seconds: float) -> str:
    """Write a time as h:min:s."""
    rounded = round(seconds)
    return f"{rounded // 3600}:{rounded // 60 % 60:02d}:{rounded % 60:02d}"
