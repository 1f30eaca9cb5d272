"""`list`: the models, data sets and presets of the package, and the model folders in a folder.

Listing models and data sets takes only the standard library: numpy and pydantic, which the store
and the presets import, would take most of the time.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from sleeptools import registry
from sleeptools.errors import UsageError


def list_drawer(drawer: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """List models, data sets or presets, each with its name and a line about it.

    Parameters
    ----------
    drawer
        "models", "datasets" or "presets".
    folder
        If given, list the trained models in the folders below it; only with "models".

    Returns
    -------
    entries
        Dicts with the keys `name` and `about`; models have further facts, among them `recipes`: by
        which names they can be trained, and the parameters of the network that each trains.

    Raises
    ------
    UsageError
        If `folder` is given and `drawer` is not "models".
    """
    if folder is not None and drawer != "models":
        raise UsageError(
            f"{drawer} are not in a folder",
            hint=f"sleeptools list {drawer}, without {folder}",
            code="USE-TOGETHER",
        )
    if folder is not None:
        return _trained_models(folder)
    if drawer == "presets":
        return _presets()
    return [{"name": n, **_module_facts(drawer, n)} for n in registry.names(drawer)]


def _trained_models(folder: Path) -> list[dict[str, Any]]:
    from sleeptools import store

    paths = sorted(store.need(folder, "folder").rglob("config.json"))
    configs = [(path.parent, store.read_json(path)) for path in paths]
    return [
        {"name": str(path.relative_to(folder)), "about": config.get("model", "")}
        for path, config in configs
        if config.get("format") == "sleeptools-model"
    ]


def _presets() -> list[dict[str, Any]]:
    from sleeptools.preprocessing import presets

    return [{"name": n, "about": ", ".join(presets.load(n).labels)} for n in presets.names()]


def _module_facts(drawer: str, name: str) -> dict[str, Any]:
    """Read a module's first line and `ABOUT` without importing it; a model would import torch."""
    path = registry.ROOT / drawer / f"{name.replace('-', '_')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    facts = {"about": (ast.get_docstring(tree) or "").split("\n", 1)[0]}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ABOUT":
            facts |= ast.literal_eval(node.value)
    return facts
