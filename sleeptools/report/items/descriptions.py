"""Tables that describe: data sets, layers, parts of a division, numbers of the running text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sleeptools import store
from sleeptools.native.layer_tables import mmasleepnet
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.report.blocks import Figure
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NOT_AT_HAND,
    OURS,
    PRINTED,
    ItemColumn,
    ItemRow,
    ItemTable,
    Value,
)
from sleeptools.report.items.matching import dataset_of, refuse, run_dataset, taken_twice
from sleeptools.report.items.printed_numbers import facts_of, printed_number, scaled
from sleeptools.report.items.results import single_source
from sleeptools.report.plots.bars import plot_bars
from sleeptools.runs.run import Run

# --- data sets ------------------------------------------------------------------------------------


def dataset_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show size and make-up of the data sets: subjects, epochs, shares of the stages, rules, folds.

    Ours is from a set of epochs, or from a run on it, which knows the number of folds, too.
    """
    datasets = _datasets(request)
    columns = (
        ItemColumn("Subjects"),
        ItemColumn("Epochs"),
        *(ItemColumn(stage, "Share, %") for stage in HUMAN_STAGES),
        ItemColumn("Rules"),
        ItemColumn("k"),
    )
    rows: list[ItemRow] = []
    for result in request.results:
        name = (str(result["dataset"]),)
        if name[0] in datasets:
            origin, run, values = datasets[name[0]]
            rows.append(ItemRow(name, origin, values, run))
        elif request.runs or request.epochs:
            rows.append(ItemRow(name, OURS, remark="no data given"))
        shares = [scaled(printed_number(result["id"], "share", s), 100) for s in HUMAN_STAGES]
        values = (result["subjects"], result["epochs"], *shares, result["rules"], result["folds"])
        rows.append(ItemRow(name, PRINTED, values))
    return ItemContent([ItemTable("", caption, ("Data set",), columns, tuple(rows))])


Described = tuple[str, str, tuple[Value, ...]]
"""Origin, name and numbers of a data set of ours."""


def _datasets(request: ItemRequest) -> dict[str, Described]:
    names = [str(row["dataset"]) for row in request.results]
    datasets: dict[str, Described] = {}
    sources: list[tuple[str, str, Described]] = []
    for source in request.runs:
        run = source.evaluation.run
        numbers = _numbers(run.data, len(_subjects(run)), source.design.folds)
        described = (source.origin.split(",")[0] + _mark(run.simulated), source.name, numbers)
        sources.append((source.name, run_dataset(source, names), described))
    for data in request.epochs:
        preset = data.manifest.get("preset", {})
        row = dataset_of(
            str(preset.get("name", "")),
            len(data.subjects),
            str(data.manifest.get("subset") or ""),
            request.rows.get(data.folder, ""),
            names,
        )
        facts = {
            "counts": {n: int((data.stages == i).sum()) for i, n in enumerate(data.names)},
            "preset": preset,
        }
        numbers = _numbers(facts, len(data.subjects), None)
        described = (OURS + _mark(data.simulated), data.folder.name, numbers)
        sources.append((str(data.folder), row, described))
    for name, row, described in sources:
        if not row:
            why = f"its data is none of {', '.join(names)}"
            raise refuse(name, request.name, why)
        if row in datasets:
            raise taken_twice(datasets[row][1], name, row)
        datasets[row] = described
    return datasets


def _mark(simulated: bool | None) -> str:
    return ", SIMULATED" if simulated else ""


def _subjects(run: Run) -> Sequence[str]:
    return list(dict.fromkeys(run.folds["subject"].to_list()))


def _numbers(facts: Mapping[str, Any], subjects: int, folds: int | None) -> tuple[Value, ...]:
    counts = {name: int(n) for name, n in (facts.get("counts") or {}).items()}
    total = sum(counts.values())
    shares = [100 * counts[s] / total if total and s in counts else None for s in HUMAN_STAGES]
    preset = facts.get("preset")
    rules = preset.get("rules") if isinstance(preset, Mapping) else None
    return (subjects, total or None, *shares, str(rules) if rules else None, folds)


def division_counts(request: ItemRequest, *, caption: str) -> ItemContent:
    """Draw how many epochs of each stage train and are tested in the first fold, a bar a stage."""
    source, _ = single_source(request)
    columns = tuple(ItemColumn(stage) for stage in MOUSE_STAGES)
    heads = ("Part",)
    if source is None:
        row = ItemRow(("a, b",), PRINTED, remark=NOT_AT_HAND)
        return ItemContent([ItemTable("", caption, heads, columns, (row,))])
    run, stages = source.evaluation.run, source.stages
    counts = run.data.get("counts")
    if not isinstance(counts, Mapping) or set(counts) < set(stages):
        why = "its manifest has no counts of the epochs of each stage"
        raise refuse(source.name, request.name, why)
    predictions = source.evaluation.predictions.filter(
        protocol=source.protocol, seed=source.seed, fold=0
    )
    by_role: dict[str, list[float | None]] = {}
    for role in ("test", "val"):
        of_role = predictions.filter(role=role)["stage"]
        by_role[role] = [float((of_role == i).sum()) for i in range(len(stages))]
    triples = zip(stages, by_role["test"], by_role["val"], strict=True)
    training: list[float | None] = [float(counts[s]) - (t or 0) - (v or 0) for s, t, v in triples]
    panels = {"a: training set": {"": training}, "b: test set": {"": by_role["test"]}}
    plot = plot_bars(panels, stages, unit="epochs", by_stage=True)
    test = sorted(set(predictions.filter(role="test")["subject"]))
    text = f"{caption}: the first fold of {source.name}, tested on {', '.join(test)}."
    rows = [
        ItemRow((title,), source.origin, tuple(int(v or 0) for v in series[""]), source.name)
        for title, series in panels.items()
    ]
    table = ItemTable("", caption, heads, columns, tuple(rows))
    notes = []
    if any(by_role["val"]):
        notes = ["Epochs of the validation animals are in neither part."]
    return ItemContent([table], [Figure(request.name, plot, caption, text)], notes)


# --- layers ---------------------------------------------------------------------------------------

LAYERS: Final = (
    "Conv1D-1",
    "MaxPooling-1",
    "Conv1D-2",
    "Conv1D-3",
    "Conv1D-4",
    "MaxPooling-2",
    "Width d",
)
PRINTED_LAYERS: Final = {
    ("EEG", "small"): ("50/8/64", "8/8", "8/1/128", "8/1/128", "8/1/128", "4/4", 128),
    ("EEG", "large"): ("500/64/64", "4/4", "6/1/128", "6/1/128", "6/1/128", "2/2", 128),
    ("EOG, EMG", "small"): ("25/8/32", "8/8", "8/1/64", "8/1/64", "8/1/64", "4/4", 64),
    ("EOG, EMG", "large"): ("250/64/32", "4/4", "6/1/64", "6/1/64", "6/1/64", "2/2", 64),
}
"""Table 2 of MMASleepNet's paper: kernel/stride/filters, and kernel/stride of a pool."""


def branch_layer_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show the layers of the branches: those of a run's model, or of each set of kernels."""
    source, _ = single_source(request)
    models = {"default, kernels paper": "paper", "kernels authors": "authors"}
    if source is not None:
        models = {source.name: str(source.evaluation.run.settings.get("kernels") or "paper")}
    rows: list[ItemRow] = []
    for modality in ("EEG", "EOG", "EMG"):
        for stream in ("small", "large"):
            labels = (modality, stream)
            for name, kernels in models.items():
                rows.append(ItemRow(labels, f"ours, {name}", _layers(modality, stream, kernels)))
            key = "EEG" if modality == "EEG" else "EOG, EMG"
            rows.append(ItemRow(labels, PRINTED, PRINTED_LAYERS[key, stream]))
    columns = tuple(ItemColumn(name) for name in LAYERS)
    return ItemContent([ItemTable("", caption, ("Signal", "Stream"), columns, tuple(rows))])


def _layers(modality: str, stream: str, kernels: str) -> tuple[Value, ...]:
    """Write the layers of a stream as the model has them."""
    (branch,) = [
        b for b in mmasleepnet.branches(2, kernels, "all") if b.modality == modality.lower()
    ]
    layers = branch.small if stream == "small" else branch.large
    cells = [f"{layer.kernel}/{layer.stride}/{layer.outputs}" for layer in layers]
    pools = [f"{layer.pool[0]}/{layer.pool[1]}" for layer in (layers[0], layers[-1])]
    return (cells[0], pools[0], *cells[1:], pools[1], layers[-1].outputs)


STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")
"""Arrays of a BatchNorm that are not trained."""


def weight_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show the layers of a run's model in their order, with shape and number of weights."""
    source, _ = single_source(request)
    columns = (ItemColumn("Shape of the weight"), ItemColumn("Trainable parameters"))
    printed = ItemRow(("all",), PRINTED, remark=NOT_AT_HAND)
    if source is None:
        return ItemContent([ItemTable("", caption, ("Layer",), columns, (printed,))])
    run = source.evaluation.run
    folder = next(t for t in run.done if t.protocol == source.protocol).folder(run.folder)
    path = folder / "model.safetensors"
    if not path.exists():
        raise refuse(source.name, request.name, f"{folder} holds no model.safetensors")
    arrays = store.read_tensors(run.check_listed(path)).arrays
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in arrays:
        layer, _, weight = name.rpartition(".")
        if weight not in STATISTICS:
            layers.setdefault(layer, {})[weight] = arrays[name].shape
    rows = []
    for layer, weights in layers.items():
        shape = "x".join(map(str, weights.get("weight", next(iter(weights.values())))))
        count = sum(map(math.prod, weights.values()))
        rows.append(ItemRow((layer,), source.origin, (shape, count), source.name))
    total = sum(math.prod(shape) for weights in layers.values() for shape in weights.values())
    rows.append(ItemRow(("all",), source.origin, ("", total), source.name))
    notes = ["A model's file holds no lengths of the outputs; the weights' shapes stand for them."]
    table = ItemTable("", caption, ("Layer",), columns, (*rows, printed))
    return ItemContent([table], notes=notes)


# --- numbers of the text --------------------------------------------------------------------------


def printed_list(request: ItemRequest, *, caption: str) -> ItemContent:
    """List printed numbers that stand by themselves, in the order of the text."""
    rows = [*_fact_rows(request.name), *_value_rows(request)]
    columns = (ItemColumn("Value", "", ".10g"), ItemColumn("Unit"), ItemColumn("Note"))
    heads = ("Where", "Quantity", "About")
    if not rows:
        row = ItemRow(("", "", ""), PRINTED, remark=NOT_AT_HAND)
        rows = [row]
    return ItemContent([ItemTable("", caption, heads, columns, tuple(rows))])


def _fact_rows(item: str) -> Iterator[ItemRow]:
    for row in facts_of(item):
        about = ", ".join(filter(None, (row["model"], row["dataset"], row["stage"])))
        labels = (row["place"], row["quantity"], about)
        yield ItemRow(labels, PRINTED, (row["value"], row["unit"] or "", row["note"] or ""))


def _value_rows(request: ItemRequest) -> Iterator[ItemRow]:
    """Give the printed kappas of human scorers, and their like."""
    for result in request.results:
        about = ", ".join(filter(None, (result["dataset"], result["rules"])))
        for stage in (None, *HUMAN_STAGES):
            metric = "kappa" if stage is None else "stage_kappa"
            value = printed_number(result["id"], metric, stage)
            if value is not None:
                quantity = f"kappa, {stage or 'all stages'}"
                note = f"{result['source']}; {result['note'] or ''}".strip("; ")
                labels = (result["place"], quantity, about)
                yield ItemRow(labels, PRINTED, (value, "0 to 1", note))


def without_measurement(request: ItemRequest, *, reason: str) -> ItemContent:
    """Say why nothing of ours stands beside an item, and list what numbers it has."""
    listed = printed_list(request, caption="Numbers of the drawing and its caption")
    return ItemContent(listed.tables, notes=[reason])
