"""`sleeptools list`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import emit_json, emit_rows, emit_table, talk

MODEL = ["name", "parameters", "MACs (M)", "input", "stages", "engine"]
PRESET = ["name", "species", "stages", "epoch (s)", "rate (Hz)", "channels"]
RECIPES = ["name", "paper", "recipes, with the parameters of each"]


class Drawer(StrEnum):
    """What can be listed."""

    MODELS = "models"
    DATASETS = "datasets"
    PRESETS = "presets"
    PUBLISHED = "published"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: sleeptools list models --json")(command)


def command(
    drawer: Annotated[
        Drawer, typer.Argument(metavar="what", help="models, datasets, presets or published.")
    ],
    of: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER|ITEM",
            help="models: list the trained ones below this folder. published: every number of this "
            "table or figure.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models, data sets, presets, or the tables and figures of the papers.

    With a folder, the trained models below it; with a table or figure, its numbers.
    """
    from sleeptools.commands.list import list_drawer, list_published

    if drawer is Drawer.PUBLISHED:
        _show_published(list_published(of), of, as_json=as_json)
        return
    entries = list_drawer(drawer.value, None if of is None else Path(of))
    if as_json:
        emit_json(entries)
    elif drawer is Drawer.MODELS and of is None:
        emit_table(
            "models (multiply-accumulates an epoch; what scores)",
            MODEL,
            [_model(f) for f in entries],
        )
        emit_table("train --recipe", RECIPES, [_recipes(f) for f in entries])
    elif drawer is Drawer.PRESETS:
        emit_table("presets", PRESET, [_preset(f) for f in entries])
    else:
        emit_table(drawer.value, ["name", "about"], [[f["name"], f["about"]] for f in entries])


def _show_published(entries: list[dict[str, Any]], item: str | None, *, as_json: bool) -> None:
    if as_json:
        emit_json(entries)
    elif item is None:
        columns = ["item", "paper", "shows", "numbers"]
        emit_rows(columns, [[e[c] for c in columns] for e in entries], ["shows", "numbers"])
    else:
        columns = ["model", "dataset", "about", "metric", "stage", "value", "unit", "place"]
        rows = [[e[c] or "" for c in columns] for e in entries]
        for row, entry in zip(rows, entries, strict=True):
            row[columns.index("value")] = f"{entry['value']:.12g}"  # as printed
        if rows:
            emit_rows(columns, rows, ["metric"])
        for note in dict.fromkeys(e["note"] for e in entries if e["note"]):
            talk(f"note: {note}")
        talk(f"{item}: numbers {_item_numbers(item)}")


def _item_numbers(item: str) -> str:
    """Say whether the numbers of a table or figure are at hand."""
    from sleeptools.commands.list import list_published

    return str(next(e["numbers"] for e in list_published() if e["item"] == item))


def _recipes(facts: dict[str, Any]) -> list[str]:
    """Give a model's recipes; those that train the same network together."""
    recipes: dict[str, int] = facts.get("recipes", {"default": facts["parameters"]})
    together: dict[int, list[str]] = {}
    for name, parameters in recipes.items():
        together.setdefault(parameters, []).append(name)
    listed = (f"{', '.join(names)}: {parameters:,}" for parameters, names in together.items())
    return [facts["name"], _paper(facts), "; ".join(listed)]


def _paper(facts: dict[str, Any]) -> str:
    return re.split(", |; ", facts["paper"])[0]


def _preset(facts: dict[str, Any]) -> list[str]:
    """Give a preset's row of the table."""
    return [
        facts["name"],
        facts["species"],
        " ".join(facts["stages"]),
        f"{facts['epoch_seconds']:g}",
        f"{facts['sample_rate']:g}",
        facts["about"],
    ]


def _model(facts: dict[str, Any]) -> list[str]:
    """Give a model's row of the table; all of it, and more, is in the JSON."""
    return [
        facts["name"],
        f"{facts['parameters']:,}",
        f"{facts['macs'] / 1e6:,.1f}",
        f"{facts['montage']}; {facts['epoch_seconds']:g} s at {facts['sample_rate']:g} Hz",
        str(facts["stages"]),
        facts.get("engine", "native" if facts["native"] else "torch"),
    ]
