"""Sections on where the numbers come from: data, settings, versions and machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sleeptools.report.blocks import Block, Collapsible, Figure, SideBySide, Table, Text
from sleeptools.report.numbers import value_text
from sleeptools.report.page import Page
from sleeptools.report.plots.provenance import plot_stage_shares
from sleeptools.runs import logs
from sleeptools.runs.folds import NAMED

SPLITS: Final = {"train": "training", "val": "validation", "test": "test"}
SHOWN_APART: Final = ("counts", "excluded", "quality", "environment", "files")
"""Facts about the epochs that are shown in tables of their own, or not at all."""
RUN_FACTS_APART: Final = ("data", "environment", "files", "model_config", "recipe")
"""The same of the facts about the run."""

OPTIMISERS: Final = {"adam": "Adam", "sgd": "SGD"}
FACT_LABELS: Final = {
    "wall_seconds": "time taken, s",
    "peak_memory_mib": "peak memory, MiB",
    "sample_rate": "sample rate, Hz",
    "epoch_seconds": "epoch, s",
    "preset, sample_rate": "preset, sample rate, Hz",
    "preset, epoch_seconds": "preset, epoch, s",
    "preset, trim, margin_minutes": "preset, wake kept on either side, min",
    "preset, trim, last_epochs": "preset, last epochs left out",
    "preset, assume_unit": "preset, unit of signals that name none",
    "eps": "epsilon of Adam",
    "betas": "betas of Adam",
    "amsgrad": "AMSGrad",
}
"""Names of facts that cannot be read as they are stored."""
StageCounts = dict[str, dict[int, list[int]]]
"""Split to fold to epochs per stage."""


def data_section(page: Page) -> Iterator[Block]:
    """Show what the epochs were made of, and what was left out."""
    facts = page.run.data
    counts, excluded = facts.get("counts"), facts.get("excluded")
    tables = []
    if isinstance(counts, Mapping):
        rows = [*counts.items(), ("all", sum(counts.values()))]
        tables.append(_epoch_counts("kept", "Stage", rows, "Epochs kept, by scored stage"))
    if isinstance(excluded, Mapping):
        rows = [(reason, count) for reason, count in excluded.items() if count]
        rows = rows or [("nothing", 0)]
        tables.append(_epoch_counts("excluded", "Reason", rows, "Epochs left out, and why"))
    if tables:
        yield SideBySide(tables)
    yield from _signal_quality(facts)
    yield from _stage_shares(page)
    names = {"subjects": f"{page.subject_noun}s"}
    listed = {names.get(k, k): v for k, v in facts.items() if k not in SHOWN_APART}
    if not facts:
        yield Text("Nothing is known of the epochs.")
    if listed:
        yield _facts("data", listed, "How the epochs were made")


def _signal_quality(facts: Mapping[str, Any]) -> Iterator[Block]:
    """Count the epochs of each channel that are flat, railed, and so on, over all recordings."""
    quality = facts.get("quality")  # unknown of epochs that older versions made
    if not isinstance(quality, Mapping):
        return
    totals: Counter[tuple[str, str]] = Counter()
    for channels in quality.values():
        totals.update({(c, kind): n for c, kinds in channels.items() for kind, n in kinds.items()})
    if not totals:
        yield Text(
            "Signal quality: no epoch is flat, railed, clipped, out of range, or mostly mains."
        )
        return
    preset = facts.get("preset")
    excludes = isinstance(preset, Mapping) and preset.get("quality") == "exclude"
    fate = "left out, but for clipped and mains" if excludes else "counted and kept"
    rows = [(channel, kind, value_text(n)) for (channel, kind), n in sorted(totals.items())]
    caption = f"Epochs of poor signal quality by channel: {fate}"
    yield Table("quality", ("Channel", "Signal", "Epochs"), rows, caption, texts=2, narrow=True)


def _epoch_counts(name: str, head: str, rows: Sequence[tuple[str, Any]], caption: str) -> Table:
    cells = [(label, value_text(count)) for label, count in rows]
    return Table(name, (head, "Epochs"), cells, caption, narrow=True)


def _stage_shares(page: Page) -> Iterator[Block]:
    """Draw the share of every stage in training, validation and test of every fold."""
    if page.run.mixed:
        yield Text(
            f"Epochs were dealt out, not {page.subject_noun}s, and each stage alike: its share is "
            "the same in every fold."
        )
        return
    counts = _count_stages(page)
    if not counts:
        return
    stages = page.run.stages
    caption = f"Share of the scored stages per fold and split, {NAMED[page.protocol]}"
    yield Figure("shares", plot_stage_shares(counts, stages), "Class shares", caption)
    rows = []
    for fold in sorted(next(iter(counts.values()))):
        for split, by_fold in counts.items():
            if fold in by_fold:
                epochs = np.asarray(by_fold[fold])
                shares = 100 * epochs / max(epochs.sum(), 1)
                cells = (f"{share:.1f}" for share in shares)
                rows.append((f"{fold}", split, f"{epochs.sum():,}", *cells))
    head = ("Fold", "Split", "Epochs", *stages)
    yield Table("shares", head, rows, "Epochs, and share of every stage, per cent", texts=2)


def _count_stages(page: Page) -> StageCounts:
    """Count the scored stages of every split and fold whose subjects were all tested."""
    stages = len(page.run.stages)
    by_subject = {
        subject: np.bincount(table["stage"].to_numpy(), minlength=stages)
        for (subject,), table in page.tested.partition_by("subject", as_dict=True).items()
    }
    folds = page.run.folds.filter(protocol=page.protocol)
    counts: StageCounts = {}
    for fold, role in folds.select("fold", "role").unique(maintain_order=True).rows():
        subjects = folds.filter(fold=fold, role=role)["subject"].to_list()
        if all(subject in by_subject for subject in subjects):
            total = np.sum([by_subject[subject] for subject in subjects], axis=0)
            counts.setdefault(SPLITS.get(role, role), {})[fold] = total.tolist()
    return {split: counts[split] for split in SPLITS.values() if split in counts}


def provenance_section(page: Page) -> Iterator[Block]:
    """Show how the run was made: settings, versions, machine, readings of the test folds."""
    run = page.run
    if run.recipe:
        yield Text(recipe_text(run.recipe))
    if run.settings:
        yield _facts("settings", run.settings, f"Settings of the model {run.model}")
    if run.recipe:
        yield _facts("recipe", run.recipe, "Recipe of the training")
    facts = {k: v for k, v in run.facts.items() if k not in RUN_FACTS_APART}
    if isinstance(facts.get("command"), list):
        facts["command"] = " ".join(map(str, facts["command"]))
    yield _facts("manifest", facts or {"manifest": "none yet"}, "Manifest of the run")
    environment = run.facts.get("environment")
    if isinstance(environment, Mapping):
        yield _facts("environment", environment, "Environment of the training")
    readings = {p: f"at most {n} per fold" for p, n in logs.count_test_readings(run).items()}
    if readings:
        yield _facts("readings", readings, "How often a test fold was read")


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Write the main settings of a training as a sentence."""
    optimiser = OPTIMISERS.get(str(recipe.get("optimiser")), str(recipe.get("optimiser", "")))
    clauses = [
        f"{n} pass{'' if n == 1 else 'es'}" if (n := recipe.get("passes")) is not None else "",
        f"batches of {recipe['batch']}" if "batch" in recipe else "",
        f"{optimiser} at a learning rate of {recipe['learning_rate']:g}"
        if "learning_rate" in recipe
        else "",
        f"weight decay {recipe['weight_decay']:g}" if recipe.get("weight_decay") else "",
        f"stages weighted {value_text(recipe['class_weights'])}"
        if recipe.get("class_weights")
        else "",
    ]
    return f"Training: {', '.join(filter(None, clauses)) or 'unknown'}."


def _facts(name: str, values: Mapping[str, Any], caption: str) -> Block:
    """Show facts in a table that is folded away, under readable names."""
    rows = [
        (FACT_LABELS.get(key, key.replace("_", " ")), _fact_text(value))
        for key, value in _flat(values)
    ]
    return Collapsible(caption, Table(name, ("Setting", "Value"), rows, caption, texts=2))


def _fact_text(value: object) -> str:
    return "none" if value in (None, "") else value_text(value)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested facts one by one, each with the path of names to it."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}, ")
        else:
            yield f"{path}{key}", value
