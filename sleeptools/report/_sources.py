"""Sections on where things come from: printed results, data, settings and machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sleeptools import comparison, runs
from sleeptools import markup as m
from sleeptools.markup import Markup
from sleeptools.report._page import HEADLINE, LABELS, Page, show, value_text


def literature(page: Page) -> Iterator[Markup]:
    """Set ours beside what was printed for the nearest data set, with the protocols."""
    found = page.found
    lines, printed = comparison.lines(found), comparison.printed(found)
    strong = frozenset(i for i, line in enumerate(lines) if line.ours)
    if not printed:
        yield m.paragraph("No printed result for data of this kind is known to sleeptools.")
    head = ("Result", "Data", "Folds", "Divided", "Pass chosen on", *(LABELS[k] for k in HEADLINE))
    rows = [
        (n.who, n.data, n.folds, n.split, n.chosen, *(show(k, n.values.get(k)) for k in HEADLINE))
        for n in lines
    ]
    caption = "Ours (shaded) beside what was printed; per cent but for kappa"
    yield m.table(head, rows, caption=caption, strong=strong, texts=5)
    names = [f"f1_{name}" for name in found.stages]
    rows = [
        (n.who, n.chosen, *(show("f1", n.values.get(name)) for name in names))
        for n in lines
        if any(n.values.get(name) is not None for name in names)
    ]
    caption = "F1 per stage, per cent"
    yield m.table(
        ("Result", "Pass chosen on", *found.stages), rows, caption=caption, strong=strong, texts=2
    )
    yield m.items(comparison.sources(printed))
    if "N1" in found.stages:
        yield m.paragraph(comparison.scorers())


def data(page: Page) -> Iterator[Markup]:
    """Show what the epochs were made of, and what was left out."""
    known = page.found.run.data
    counts, excluded = known.get("counts"), known.get("excluded")
    tables = []
    if isinstance(counts, Mapping):
        rows = [*counts.items(), ("all", sum(counts.values()))]
        tables.append(_counted("Stage", rows, "Epochs kept, by scored stage"))
    if isinstance(excluded, Mapping):
        rows = list(excluded.items()) or [("nothing", 0)]
        tables.append(_counted("Reason", rows, "Epochs left out, and why"))
    yield m.element("div", *tables, class_="pair")
    hidden = ("counts", "excluded", "environment", "files")
    rest = {k: v for k, v in known.items() if k not in hidden}
    yield _facts(rest or {"data": "unknown"}, "Manifest of the epochs")


def _counted(head: str, rows: Sequence[tuple[str, Any]], caption: str) -> Markup:
    shown = [(name, value_text(count)) for name, count in rows]
    return m.table((head, "Epochs"), shown, caption=caption, narrow=True)


def provenance(page: Page) -> Iterator[Markup]:
    """Show how the run was made: settings, versions, machine, readings of the test folds."""
    run = page.found.run
    if run.settings:
        yield _facts(run.settings, f"Settings of the model {run.model}")
    if run.recipe:
        yield _facts(run.recipe, "Recipe of the training")
    shown = ("data", "environment", "files", "model_config", "recipe")
    known = {k: v for k, v in run.facts.items() if k not in shown}
    if isinstance(known.get("command"), list):
        known["command"] = " ".join(map(str, known["command"]))
    yield _facts(known or {"manifest": "none yet"}, "Manifest of the run")
    environment = run.facts.get("environment")
    if isinstance(environment, Mapping):
        yield _facts(environment, "Environment of the training")
    read = {p: f"at most {n} per fold" for p, n in runs.readings(run).items()}
    if read:
        yield _facts(read, "How often a test fold was read")


def _facts(values: Mapping[str, Any], caption: str) -> Markup:
    rows = [(name.replace("_", " "), value_text(value)) for name, value in _flat(values)]
    return m.table(("Fact", "Value"), rows, caption=caption, texts=2)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested facts one by one, each with the names that lead to it."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}, ")
        else:
            yield f"{path}{key}", value
