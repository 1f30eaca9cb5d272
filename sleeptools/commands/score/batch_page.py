"""The page of a folder of scores: every night's statistics in one table, and its hypnogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import formats
from sleeptools.commands.score.expected_agreement import CARD
from sleeptools.commands.score.folder import SCORES_VERSION, SHIPS, failed_nights, read_scores
from sleeptools.formats import hypnodensity
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, UNSCORED
from sleeptools.report import html, markup
from sleeptools.report.blocks import Block, Collapsible, Figure, Table, Text
from sleeptools.report.html import PURPOSE, Section, banner
from sleeptools.report.hypnogram_figure import plot
from sleeptools.report.numbers import count_text

MOST_NIGHTS: Final = 200
"""Largest number of hypnograms; more would make the page slow."""
COLUMNS: Final = {
    "tib_min": "TIB, min",
    "tst_min": "TST, min",
    "se_percent": "SE, %",
    "sol_min": "SOL, min",
    "rem_latency_from_sleep_onset_min": "REM latency, min",
    "waso_min": "WASO, min",
    **{f"{name}_min": f"{name}, min" for name in (*MOUSE_STAGES[:-1], *HUMAN_STAGES)},
}
"""Columns of sleep.csv that the page has room for, and their headings."""


def batch_html(folder: Path) -> str:
    """Make the page of a folder of scores.

    Raises
    ------
    DataError
        If a file is missing or changed, or an earlier version wrote the folder.
    """
    facts, hypnograms = read_scores(folder, oldest=SCORES_VERSION)
    rows: Mapping[str, Any] = facts["recordings"]
    sections = [
        Section("nights", "Nights", tuple(_table(rows))),
        Section("hypnograms", "Hypnograms", tuple(_figures(hypnograms))),
    ]
    failed = failed_nights(facts)
    simulated = [name for name, row in rows.items() if row.get("simulated")]
    banners = []
    if failed:
        reasons = [f"{name}: {why.removeprefix(f'{name}: ')}" for name, why in failed.items()]
        banners.append(banner(f"NOT SCORED: {len(failed)}", "; ".join(reasons)))
    if simulated:
        banners.append(banner("SIMULATED DATA", f"Generated signals: {', '.join(simulated)}."))
    for warning in dict.fromkeys(w for row in rows.values() for w in row["warnings"]):
        nights = [name for name, row in rows.items() if warning in row["warnings"]]
        banners.append(banner("WARNING", f"{', '.join(nights)}: {warning}"))
    title = f"Scored nights: {folder.name}"
    header = [
        markup.element("h1", markup.escape(title)),
        markup.paragraph(f"{_count(rows, failed)}, scored by {_model(facts)}", class_="lead"),
        *banners,
        markup.paragraph(PURPOSE, class_="purpose"),
    ]
    body = [html.section_html(section, 1, "h2") for section in sections]
    return html.page_html(title, markup.join(header), body, markup.paragraph(PURPOSE))


def _model(facts: Mapping[str, Any]) -> str:
    """Name the model as the user did, and what kind of network it is."""
    kind = str(facts.get("model"))
    shipped = facts.get(SHIPS)
    card = facts.get(CARD, {}).get("summary", "")
    name = f"{shipped} ({kind})" if shipped and shipped != kind else kind
    return f"{name}: {card}" if card else name


def _count(rows: Mapping[str, Any], failed: Mapping[str, str]) -> str:
    scored = count_text(len(rows), "night")
    return f"{scored} of {len(rows) + len(failed)}" if failed else scored


def _table(rows: Mapping[str, Any]) -> Iterator[Block]:
    columns = [c for c in COLUMNS if any(c in row["sleep"] for row in rows.values())]
    cells = [[name, *(_cell(row["sleep"].get(c)) for c in columns)] for name, row in rows.items()]
    caption = "Sleep statistics; sleep.csv has all, and why some are unknown"
    if "tib_min" in columns and any(row["sleep"].get("tib_min") is None for row in rows.values()):
        caption += ": scoring again with the times of lights off and on fills in TIB, SE and SOL"
    yield Table("sleep", ["recording", *(COLUMNS[c] for c in columns)], cells, caption)


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "unknown"


def _figures(hypnograms: Mapping[str, Path]) -> Iterator[Block]:
    for number, (name, path) in enumerate(hypnograms.items()):
        if number == MOST_NIGHTS:
            yield Text(f"{len(hypnograms) - MOST_NIGHTS} more nights are not drawn here.")
            return
        hypnogram = formats.read_hypnogram(path)
        if not np.any(hypnogram.stages != UNSCORED):
            yield Text("No epoch has a signal.", bold=name)
            continue
        density = hypnodensity.read_density(path) if path.suffix == ".csv" else None
        night = plot(hypnogram, density, name).svg
        caption = f"{name}." if number == 0 else ""
        figure = Figure(f"hypnogram-{name}", night, f"Hypnogram {name}", caption, zoom=True)
        yield Collapsible(name, figure) if number else figure
