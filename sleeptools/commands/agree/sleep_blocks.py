"""Sleep statistics of scorings side by side: bias and limits of agreement, drawn and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sleeptools.evaluation.agreement import ScoringAgreement, pairs_of
from sleeptools.evaluation.sleep_statistics import DEFINITIONS
from sleeptools.report.blocks import Block, BulletList, Collapsible, Figure, Table, Text
from sleeptools.report.numbers import interval_number
from sleeptools.report.plots.sleep import AgreementPanel, plot_bland_altman
from sleeptools.report.sections.sleep import DRAWN, FEWEST_NIGHTS, MOST_PANELS, TITLES

if TYPE_CHECKING:
    import polars as pl


def sleep_blocks(agreement: ScoringAgreement) -> Iterator[Block]:
    """Compare the sleep statistics of each pair: the first in full, the others to be opened."""
    table, measured = agreement.bland_altman(), agreement.sleep()
    for (i, j), pair in zip(pairs_of(len(agreement.scorings)), agreement.pairs, strict=True):
        sides = agreement.scorings[i], agreement.scorings[j]
        rows = table.filter(pair=pair).to_dicts()
        panels = list(_panels(rows, measured.filter(pair=pair)))
        blocks: list[Block] = []
        if panels:
            caption = (
                f"{pair}: a dot is a night; the line is the bias, dashed the limits of agreement "
                "(1.96 SD), shaded their 95 % intervals, over nights."
            )
            plot = plot_bland_altman(panels[:MOST_PANELS], sides)
            blocks.append(Figure(f"bland-altman-{pair}", plot, f"Bland-Altman, {pair}", caption))
        blocks.append(_bias_table(pair, sides, rows))
        if pair == agreement.pairs[0]:
            yield from blocks
        else:
            yield from (Collapsible(f"{pair}: {_kind(block)}", block) for block in blocks)
    yield Text(
        "Both scorings are measured on the epochs that all scored. What needs the times of lights "
        "off and on is left out.",
        kind="muted",
    )
    names = [name for name in DEFINITIONS if name in {*table["statistic"]}]
    definitions = [f"{TITLES.get(name, name.capitalize())}: {DEFINITIONS[name]}" for name in names]
    yield Collapsible("How each is defined", BulletList(definitions))


def _kind(block: Block) -> str:
    return "bias and limits, drawn" if isinstance(block, Figure) else "bias and limits"


def _panels(rows: Sequence[Mapping[str, Any]], measured: pl.DataFrame) -> Iterator[AgreementPanel]:
    by_key = {(row["statistic"], row["stage"]): row for row in rows}
    for statistic, stage in DRAWN:
        row = by_key.get((statistic, stage))
        if row is None or row["nights"] < FEWEST_NIGHTS or row["bias"] is None:
            continue
        nights = measured.filter(statistic=statistic)
        nights = nights.filter(stage=stage) if stage else nights
        factor = 100.0 if row["unit"] == "fraction" else 1.0
        values = (
            factor * nights[side].cast(float).fill_null(float("nan")).to_numpy()
            for side in ("reference", "other")
        )
        first, second = values
        bounds = (_bounds(row, name, factor) for name in ("bias", "lower", "upper"))
        unit = "" if stage else _unit(row["unit"])
        yield AgreementPanel(_title(statistic, stage), unit, first, second, *bounds)


def _bounds(row: Mapping[str, Any], name: str, factor: float) -> tuple[float, float, float]:
    numbers = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    value, low, high = (float("nan") if v is None else factor * v for v in numbers)
    return value, low, high


def _title(statistic: str, stage: str | None) -> str:
    title = TITLES.get(statistic, statistic.capitalize())
    return f"{title} {stage}" if stage else title


def _unit(unit: str) -> str:
    return {"fraction": "%", "count": ""}.get(unit, unit)


def _bias_table(pair: str, sides: tuple[str, str], rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for row in rows:
        factor = 100.0 if row["unit"] == "fraction" else 1.0
        bounds = (_bounds(row, name, factor) for name in ("bias", "lower", "upper"))
        cells.append(
            (
                _title(row["statistic"], row["stage"]),
                _unit(row["unit"]),
                row["nights"],
                *(interval_number(*numbers, ".1f") for numbers in bounds),
            )
        )
    head = ["Statistic", "Unit", "Nights", "Bias", "Lower limit", "Upper limit"]
    caption = f"{sides[1]} less {sides[0]}, with 95 % intervals over nights"
    return Table(f"bland-altman-{pair}", head, cells, caption, texts=2)
