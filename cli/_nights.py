"""The nights of a folder on a terminal: a row each, the totals, and what is wrong with its cure."""

from __future__ import annotations

import itertools
import re
from typing import Any

import typer

from ._console import emit_rows, listing, plural, printable
from ._options import as_options

LONGEST_LIST = 20  # problems or notes; --json has all of them
UNSCORED = ("unknown", "movement", "unannotated")


def show_folder(facts: dict[str, Any]) -> None:
    """Print what `inspect_folder` says of a folder."""
    nights = facts["nights"]
    typer.echo(_headline(facts))
    if layout := _layout(nights):
        typer.echo(f"signals{_of_most(nights)}: {printable(layout)}")
    stages = [s for s in facts["totals"]["stages"] if s not in UNSCORED]
    rows = [_row(night, stages) for night in nights]
    if len(nights) > 1:
        rows.append(_total_row(facts["totals"], stages))
    noun = "night" if facts["data_set"] else "file"
    columns = [noun, "signals", "scoring", "ch", *stages, "?", "quality", "!"]
    emit_rows(columns, rows, folding=(noun, "quality"))
    problems = [(n["recording"], p["text"], p["cure"]) for n in nights for p in n["problems"]]
    _show_texts("problem", problems, facts["path"])
    _show_texts("note", [(n["recording"], n["notes"], "") for n in nights if n["notes"]], "")
    for path in facts["unmatched"]:
        typer.echo(f"belongs to no night: {printable(path)}")
    if facts["absent"]:
        typer.echo(
            f"the data set lists {plural(len(facts['absent']), 'recording')} that are not here: "
            f"{listing(facts['absent'])}"
        )


def _headline(facts: dict[str, Any]) -> str:
    totals, nights = facts["totals"], facts["nights"]
    name = facts["data_set"] or "no data set"
    count = plural(totals["nights"], "night" if facts["data_set"] else "file")
    if facts["data_set"] and totals["subjects"]:  # scores are of no known subjects
        count += f" of {plural(totals['subjects'], 'subject')}"
    bad = totals["nights"] - totals["readable"]
    texts = [
        f"{printable(facts['path'])}: {name}",
        count,
        f"{totals['hours']:.1f} h",
        plural(totals["scored_epochs"], "scored epoch"),
        "simulated" if nights and all(n["simulated"] for n in nights) else "",
        f"{bad} cannot be used" if bad else "",
    ]
    return ", ".join(filter(None, texts))


def _signals(night: dict[str, Any]) -> str:
    return ", ".join(f"{s['label']} {s['sample_rate']:g} Hz" for s in night["signals"])


def _layout(nights: list[dict[str, Any]]) -> str:
    """Write the signals that most nights have."""
    layouts = [text for night in nights if (text := _signals(night))]
    return max(layouts, key=layouts.count, default="")


def _of_most(nights: list[dict[str, Any]]) -> str:
    layouts = {_signals(night) for night in nights if night["signals"]}
    return " of most" if len(layouts) > 1 else ""


def _row(night: dict[str, Any], stages: list[str]) -> list[Any]:
    scored = night["stages"]
    counts = [scored.get(s) if scored else None for s in stages]
    unscored = sum(scored.get(reason, 0) for reason in UNSCORED) if scored else None
    return [
        night["recording"],
        _to_minutes(night["spans"]["signals"]),
        _to_minutes(night["spans"]["scoring"]),
        len(night["signals"]),
        *counts,
        unscored,
        _quality(night),
        len(night["problems"]),
    ]


def _to_minutes(span: str) -> str:
    return re.sub(r"(\d\d:\d\d):\d\d", r"\1", span)


def _total_row(totals: dict[str, Any], stages: list[str]) -> list[Any]:
    unscored = sum(totals["stages"].get(reason, 0) for reason in UNSCORED)
    counts = [totals["stages"][s] for s in stages]
    hours = f"{totals['hours']:.1f} h"
    return ["total", hours, "", None, *counts, unscored, "", totals["with_problems"]]


def _quality(night: dict[str, Any]) -> str:
    """Say in how many epochs the worst channel is flat, railed, ...; "ok" if none is."""
    if not night["signals"]:
        return ""
    kinds = night["signals"][0]["quality"]
    worst = {kind: max(s["quality"][kind] for s in night["signals"]) for kind in kinds}
    return ", ".join(f"{n} {kind}" for kind, n in worst.items() if n) or "ok"


def _show_texts(noun: str, texts: list[tuple[str, str, str]], folder: str) -> None:
    """Print texts with the nights that each is about; a text of many nights once, cures as well."""
    nights: dict[tuple[str, str], list[str]] = {}
    for name, text, cure in texts:
        plain = text
        for prefix in (f"{folder}/{name}", name, name.rsplit("/", 1)[-1]):
            plain = plain.removeprefix(f"{prefix}: ")
        nights.setdefault((plain, cure), []).append(name)
    shown = list(nights.items())[:LONGEST_LIST]
    for cure, group in itertools.groupby(shown, key=lambda entry: entry[0][1]):
        for (text, _), names in group:
            typer.echo(f"{noun}: {printable(listing(names))}: {printable(as_options(text))}")
        if cure:
            typer.echo(f"  cure: {printable(as_options(cure))}")
    if len(nights) > LONGEST_LIST:
        typer.echo(f"{noun}s: {len(nights) - LONGEST_LIST} more; --json has all of them")
