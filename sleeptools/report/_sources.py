"""Sections on where things come from: printed results, data, settings and machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sleeptools import folds, published, runs
from sleeptools import markup as m
from sleeptools.markup import Markup
from sleeptools.report._page import HEADLINE, LABELS, Page, show, value_text


def literature(page: Page) -> Iterator[Markup]:
    """Set ours beside what was printed for the nearest data set, with the protocols."""
    lines = [_mine(page, protocol) for protocol in page.ours]
    printed = published.beside(page.ours[page.protocol]).to_dicts()
    strong = frozenset(range(len(lines)))
    lines += [_printed(row) for row in printed]
    if not printed:
        yield m.paragraph("No printed result for data of this kind is known to sleeptools.")
    head = ("Result", "Data", "Folds", "Pass chosen on", *(LABELS[k] for k in HEADLINE))
    rows = [(*who, *(show(k, values.get(k)) for k in HEADLINE)) for who, values in lines]
    caption = "Ours (shaded) beside what was printed; per cent but for kappa"
    yield m.table(head, rows, caption=caption, strong=strong, texts=4)
    names = page.found.stages
    rows = [
        (who[0], who[3], *(show("f1", values.get(f"f1_{name}")) for name in names))
        for who, values in lines
        if any(values.get(f"f1_{name}") is not None for name in names)
    ]
    caption = "F1 per stage, per cent"
    yield m.table(
        ("Result", "Pass chosen on", *names), rows, caption=caption, strong=strong, texts=2
    )
    yield m.items(_sources(printed))


Line = tuple[tuple[object, object, object, object], Mapping[str, Any]]
"""Result, data, folds and what chose the pass; then values by name."""


def _mine(page: Page, protocol: str) -> Line:
    ours, found = page.ours[protocol], page.found
    f1 = zip(found.stages, found.per_stage(protocol)["f1"].tolist(), strict=True)
    values = found.pooled(protocol) | {f"f1_{name}": value for name, value in f1}
    data = (
        f"{ours.preset or 'unknown'}{', SIMULATED' if ours.simulated else ''}, {_n(ours.subjects)}"
    )
    return (f"ours, {ours.model}", data, ours.folds, _chosen(page, protocol)), values


def _n(count: int) -> str:
    return f"n\u00a0=\u00a0{count}"


def _chosen(page: Page, protocol: str) -> str:
    """Say what chose the pass that was kept."""
    last = page.found.run.unchosen(protocol)
    if len(last) == page.ours[protocol].folds:
        return "nothing: the last pass"
    if protocol == folds.BEST_ON_TEST:
        return "the test fold (optimistic)"
    return "validation subjects" + ", or nothing" * bool(last)


def _printed(row: Mapping[str, Any]) -> Line:
    data = f"{row['dataset']}, {_n(row['subjects'])}"
    chosen = str(row["selection"]).removeprefix("best pass on ")
    chosen += " (optimistic)" if chosen != row["selection"] else ""
    return (row["printed_model"], data, row["folds"] or "unknown", chosen), row


def _sources(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the printed rows are from, one line per paper and remark."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["doi"], row["place"], row["note"] or "")
        found.setdefault(key, []).append(row["printed_model"])
    return [
        f"{', '.join(models)}: doi:{doi}, {place}{f' ({note})' if note else ''}"
        for (doi, place, note), models in found.items()
    ]


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
