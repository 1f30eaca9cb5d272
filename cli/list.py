"""`sleeptools list`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._console import emit_json, emit_table


class Drawer(StrEnum):
    """What can be listed."""

    MODELS = "models"
    DATASETS = "datasets"
    PRESETS = "presets"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: sleeptools list models --json")(list_)


def list_(
    what: Annotated[Drawer, typer.Argument(help="models, datasets or presets.")],
    folder: Annotated[
        Path | None, typer.Argument(help="List the trained models below this folder instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models, data sets or presets.

    With a folder, the trained models below it.
    """
    from sleeptools import inspection

    found = inspection.contents(what.value, folder)
    if as_json:
        emit_json(found)
    else:
        emit_table(what.value, ["name", "about"], [[f["name"], f["about"]] for f in found])
