"""Sections on where things come from: printed results, data, settings and machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sleeptools.evaluation import comparison
from sleeptools.report import plots
from sleeptools.report.blocks import Beside, Block, Figure, Items, Table, Text
from sleeptools.report.numbers import HEADLINE, LABELS, metric_text, value_text
from sleeptools.report.page import Page
from sleeptools.runs import logs
from sleeptools.runs.folds import NAMED

SHORT: Final = LABELS | {"kappa": "Kappa", "g_mean_recalls": "G-mean"}
SPLITS: Final = {"train": "training", "val": "validation", "test": "test"}


def literature(page: Page) -> Iterator[Block]:
    """Set ours beside what was printed for the nearest data set, with the protocols."""
    found = page.found
    lines, printed = comparison.lines(found), comparison.printed(found)
    strong = frozenset(i for i, line in enumerate(lines) if line.ours)
    if not printed:
        yield Text("No printed result for data of this kind is known to sleeptools.")
    head = ("Result", "Data", "Folds", "Divided", "Pass chosen on", *(SHORT[k] for k in HEADLINE))
    rows: list[tuple[object, ...]] = [
        (
            n.who,
            n.data,
            n.folds,
            n.split,
            n.chosen,
            *(metric_text(k, n.values.get(k)) for k in HEADLINE),
        )
        for n in lines
    ]
    caption = "Ours (shaded) beside what was printed; per cent but for kappa"
    yield Table("published", head, rows, caption, strong, texts=5)
    names = [f"f1_{name}" for name in found.stages]
    told = [n for n in lines if any(n.values.get(name) is not None for name in names)]
    rows = [(n.who, n.chosen, *(metric_text("f1", n.values.get(k)) for k in names)) for n in told]
    strong = frozenset(i for i, line in enumerate(told) if line.ours)
    head = ("Result", "Pass chosen on", *found.stages)
    yield Table("published-stages", head, rows, "F1 per stage, per cent", strong, texts=2)
    yield Items(comparison.sources(printed))
    if "N1" in found.stages:
        yield Text(comparison.scorers())


def data(page: Page) -> Iterator[Block]:
    """Show what the epochs were made of, and what was left out."""
    known = page.found.run.data
    counts, excluded = known.get("counts"), known.get("excluded")
    tables = []
    if isinstance(counts, Mapping):
        rows = [*counts.items(), ("all", sum(counts.values()))]
        tables.append(_counted("kept", "Stage", rows, "Epochs kept, by scored stage"))
    if isinstance(excluded, Mapping):
        rows = list(excluded.items()) or [("nothing", 0)]
        tables.append(_counted("excluded", "Reason", rows, "Epochs left out, and why"))
    if tables:
        yield Beside(tables)
    yield from _shares(page)
    hidden = ("counts", "excluded", "environment", "files")
    rest = {k: v for k, v in known.items() if k not in hidden}
    yield _facts("data", rest or {"data": "unknown"}, "Manifest of the epochs")


def _counted(name: str, head: str, rows: Sequence[tuple[str, Any]], caption: str) -> Table:
    shown = [(name, value_text(count)) for name, count in rows]
    return Table(name, (head, "Epochs"), shown, caption, narrow=True)


def _shares(page: Page) -> Iterator[Block]:
    """Draw the share of every stage in training, validation and test of every fold."""
    stages, run = page.found.stages, page.found.run
    if run.mixed:
        yield Text(
            "Epochs were dealt out, not subjects, and each stage alike: its share is the same in "
            "every fold."
        )
        return
    known = {
        who: np.bincount(part["stage"].to_numpy(), minlength=len(stages))
        for (who,), part in page.tested.partition_by("subject", as_dict=True).items()
    }
    mine = run.folds.filter(protocol=page.protocol)
    counts: dict[str, dict[int, list[int]]] = {}
    for fold, role in mine.select("fold", "role").unique(maintain_order=True).rows():
        who = mine.filter(fold=fold, role=role)["subject"].to_list()
        if all(s in known for s in who):
            total = np.sum([known[s] for s in who], axis=0)
            counts.setdefault(SPLITS.get(role, role), {})[fold] = total.tolist()
    if not counts:
        return
    order = [s for s in SPLITS.values() if s in counts]
    drawn = plots.shares({split: counts[split] for split in order}, stages)
    caption = f"Share of the scored stages per fold and split, {NAMED[page.protocol]}"
    yield Figure("shares", drawn, "Class shares", caption)
    rows = []
    for fold in sorted(counts[order[0]]):
        for split in order:
            if fold in counts[split]:
                of = np.asarray(counts[split][fold])
                share = 100 * of / max(of.sum(), 1)
                rows.append((f"{fold}", split, f"{of.sum():,}", *(f"{s:.1f}" for s in share)))
    head = ("Fold", "Split", "Epochs", *stages)
    yield Table("shares", head, rows, "Epochs, and share of every stage, per cent", texts=2)


def provenance(page: Page) -> Iterator[Block]:
    """Show how the run was made: settings, versions, machine, readings of the test folds."""
    run = page.found.run
    if run.settings:
        yield _facts("settings", run.settings, f"Settings of the model {run.model}")
    if run.recipe:
        yield _facts("recipe", run.recipe, "Recipe of the training")
    shown = ("data", "environment", "files", "model_config", "recipe")
    known = {k: v for k, v in run.facts.items() if k not in shown}
    if isinstance(known.get("command"), list):
        known["command"] = " ".join(map(str, known["command"]))
    yield _facts("manifest", known or {"manifest": "none yet"}, "Manifest of the run")
    environment = run.facts.get("environment")
    if isinstance(environment, Mapping):
        yield _facts("environment", environment, "Environment of the training")
    read = {p: f"at most {n} per fold" for p, n in logs.count_test_readings(run).items()}
    if read:
        yield _facts("readings", read, "How often a test fold was read")


def _facts(name: str, values: Mapping[str, Any], caption: str) -> Table:
    rows = [(key.replace("_", " "), value_text(value)) for key, value in _flat(values)]
    return Table(name, ("Fact", "Value"), rows, caption, texts=2)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested facts one by one, each with the names that lead to it."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}, ")
        else:
            yield f"{path}{key}", value
