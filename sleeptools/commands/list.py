"""`list`: models, data sets, presets, printed results, and the model folders in a folder.

Listing models and data sets takes only the standard library: numpy and pydantic, which the store
and the presets import, would take most of the time.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from sleeptools import registry
from sleeptools.errors import UsageError

NUMBERS = frozenset({"kappa", "stage_kappa", "pearson_r"})
"""Printed metrics that are no fractions of 1."""


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
        which names they can be trained, and the parameters of the network that each trains; presets
        have species, stages, epoch_seconds (s) and sample_rate (Hz).

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


def list_published(item: str | None = None) -> list[dict[str, Any]]:
    """List the tables and figures of the papers, or every number that one of them prints.

    Parameters
    ----------
    item
        For example "s0-table-3"; all items if left out, without their numbers.

    Returns
    -------
    entries
        A dict for each item, with the columns of `published_items`; or for each number: source,
        place, kind, model, dataset, subjects, about (fold, subject and statistic), metric, stage,
        value, unit and note.

    Raises
    ------
    UsageError
        If there is no such item.
    """
    from sleeptools.errors import did_you_mean
    from sleeptools.evaluation import published

    items = published.published_items()
    if item is None:
        return items.to_dicts()
    if item not in items["item"]:
        names = items["item"].to_list()
        raise UsageError(
            f"no item {item!r} of the papers is known",
            hint=did_you_mean(item, names) or f"there are: {', '.join(names)}",
            code="USE-NAME",
        )
    return [*map(_published_value, _of_item(item)), *_published_facts(item)]


def _of_item(item: str) -> list[dict[str, Any]]:
    from sleeptools.evaluation import published

    rows = published.published_values().to_dicts()
    return [row for row in rows if item in row["items"].split()]


def _published_value(row: dict[str, Any]) -> dict[str, Any]:
    names = ("source", "place", "kind", "dataset", "subjects", "metric", "stage", "value", "note")
    fold = f"fold {row['fold']}" if row["fold"] is not None else None
    about = " ".join(filter(None, [fold, row["subject"], row["statistic"]]))
    metric = row["metric"]
    counted = metric.startswith("predicted ")
    unit = "epochs" if counted else "h" if metric.startswith("hours") else "fraction"
    unit = "" if metric in NUMBERS else unit
    return {n: row[n] for n in names} | {
        "model": row["printed_model"],
        "about": about,
        "unit": unit,
    }


def _published_facts(item: str) -> list[dict[str, Any]]:
    from sleeptools.evaluation import published

    names = ("source", "place", "kind", "model", "dataset", "stage", "value", "unit", "note")
    return [
        {n: row[n] for n in names} | {"metric": row["quantity"], "about": "", "subjects": None}
        for row in published.published_facts().filter(item=item).to_dicts()
    ]


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

    loaded = {name: presets.load(name) for name in presets.names()}
    return [
        {
            "name": name,
            "about": ", ".join(preset.labels),
            "species": "mouse" if "NREM" in preset.stages else "human",
            "stages": [*preset.stages],
            "epoch_seconds": preset.epoch_seconds,
            "sample_rate": preset.sample_rate,
        }
        for name, preset in loaded.items()
    ]


def _module_facts(drawer: str, name: str) -> dict[str, Any]:
    """Read a module's first line and `ABOUT` without importing it; a model would import torch."""
    path = registry.ROOT / drawer / f"{name.replace('-', '_')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    facts = {"about": (ast.get_docstring(tree) or "").split("\n", 1)[0]}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ABOUT":
            facts |= ast.literal_eval(node.value)
    return facts
