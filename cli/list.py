"""`sleeptools list`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import emit_json, emit_table

MODEL = ["name", "paper", "parameters", "MACs an epoch", "input", "stages", "scores with"]
RECIPES = ["name", "recipes, with the parameters of the network that each trains"]


class Drawer(StrEnum):
    """What can be listed."""

    MODELS = "models"
    DATASETS = "datasets"
    PRESETS = "presets"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: sleeptools list models --json")(command)


def command(
    drawer: Annotated[Drawer, typer.Argument(metavar="what", help="models, datasets or presets.")],
    folder: Annotated[
        Path | None, typer.Argument(help="List the trained models below this folder instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models, data sets or presets.

    With a folder, the trained models below it.
    """
    from sleeptools.commands.list import list_drawer

    entries = list_drawer(drawer.value, folder)
    if as_json:
        emit_json(entries)
    elif drawer is Drawer.MODELS and folder is None:
        emit_table("models", MODEL, [_model(f) for f in entries])
        emit_table("train --recipe", RECIPES, [_recipes(f) for f in entries])
    else:
        emit_table(drawer.value, ["name", "about"], [[f["name"], f["about"]] for f in entries])


def _recipes(facts: dict[str, Any]) -> list[str]:
    """Give a model's recipes; those that train the same network together."""
    recipes: dict[str, int] = facts.get("recipes", {"default": facts["parameters"]})
    together: dict[int, list[str]] = {}
    for name, parameters in recipes.items():
        together.setdefault(parameters, []).append(name)
    listed = (f"{', '.join(names)}: {parameters:,}" for parameters, names in together.items())
    return [facts["name"], "; ".join(listed)]


def _model(facts: dict[str, Any]) -> list[str]:
    """Give a model's row of the table; all of it, and more, is in the JSON."""
    return [
        facts["name"],
        facts["paper"].partition(", doi:")[0],
        f"{facts['parameters']:,}",
        f"{facts['macs'] / 1e6:,.1f} M",
        f"{facts['montage']}; {facts['epoch_seconds']:g} s at {facts['sample_rate']:g} Hz",
        str(facts["stages"]),
        facts.get("engine", "native" if facts["native"] else "torch"),
    ]
