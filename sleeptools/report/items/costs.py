"""What models cost: parameters, operations, hours of training, time of scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sleeptools.native.layer_tables import ulw_sleepnet
from sleeptools.report.blocks import Figure
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NO_RUN,
    NOT_AT_HAND,
    OURS,
    PRINTED,
    ItemColumn,
    ItemRow,
    ItemTable,
    Value,
)
from sleeptools.report.items.matching import match_results, refuse, taken_twice
from sleeptools.report.items.printed_numbers import facts_of, printed_number, scaled
from sleeptools.report.items.results import printed_row, single_source
from sleeptools.report.items.run_source import RunSource, mean
from sleeptools.report.plots.bars import plot_bars
from sleeptools.runs.folds import EXTERNAL, HELD_OUT
from sleeptools.runs.logs import scoring_time, training_logs

COMPARED: Final = "salientsleepnet"
"""Model whose published size the printed saving agrees with; the paper's abstract names none."""
RECORDING_HOURS: Final = 72.0
HUNDRED: Final = 100


def headline_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show accuracy on both sets, parameters, operations and the saving, in a line."""
    sources = match_results(request.runs, request.results, request.name)
    by_set = {str(row["dataset"]): row for row in request.results}
    names = sorted(by_set)
    columns = (
        *(ItemColumn(name, "Accuracy, %", ".1f") for name in names),
        ItemColumn("K parameters", "Cost", ".1f"),
        ItemColumn("M operations", "Cost", ".2f"),
        ItemColumn("fewer parameters, %", "Cost", ".1f"),
    )
    label, rows = (str(request.results[0]["printed_model"]),), []
    accuracies = [
        scaled(sources[by_set[n]["id"]].score("pooled", "accuracy"), 100)
        if by_set[n]["id"] in sources
        else None
        for n in names
    ]
    signals = _signals(sources) or 4
    parameters, operations = ulw_sleepnet.parameters(signals), ulw_sleepnet.flops(signals)
    compared = int(request.models[COMPARED]["parameters"])
    saved = 100 * (1 - parameters / compared)
    origin = "; ".join(dict.fromkeys(s.origin for s in sources.values())) or f"{OURS}, the model"
    values = (*accuracies, parameters / 1e3, operations / 1e6, saved)
    run = ", ".join(s.name for s in sources.values())
    rows.append(ItemRow(label, origin, values, run))
    printed = {row["quantity"]: row["value"] for row in facts_of(request.name)}
    cost = [
        scaled(printed.get("parameters"), 1e-3),
        scaled(printed.get("floating-point operations of an epoch"), 1e-6),
        printed.get("fewer parameters than the compared model, at most"),
    ]
    printed_accuracies = [scaled(printed_number(by_set[n]["id"], "accuracy"), 100) for n in names]
    rows.append(ItemRow(label, PRINTED, (*printed_accuracies, *cost)))
    notes = [
        f"Ours has {parameters:,} parameters and {operations:,} operations for an epoch of "
        f"{signals} signals; a multiply-accumulate counts two, as the paper counts.",
        "The abstract does not say which model the saving is against; ours is against "
        f"SalientSleepNet's {compared:,}.",
    ]
    verdicts = [
        s.verdict_text(next(r for r in request.results if r["id"] == i)) for i, s in sources.items()
    ]
    table = ItemTable("", caption, ("Model",), columns, tuple(rows))
    return ItemContent([table], notes=notes, verdicts=verdicts)


def _signals(sources: Mapping[str, RunSource]) -> int:
    """Count the signals of the runs' model; 0 where no run says."""
    for source in sources.values():
        montage = source.evaluation.run.facts.get("montage")
        if isinstance(montage, Sequence):
            return len(montage)
    return 0


def model_costs_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show our models down, with accuracy of the runs given, parameters, operations and saving."""
    accuracies: dict[tuple[str, str], float] = {}
    origins: dict[str, str] = {}
    results = [dict(row) for row in request.results]
    names = sorted({str(row["dataset"]) for row in results})
    for source in request.runs:
        rows = [{**row, "model": source.model, "id": row["dataset"]} for row in results]
        ((dataset, _),) = match_results([source], rows, request.name).items()
        if (source.model, dataset) in accuracies:
            raise taken_twice(origins[source.model], source.name, f"{source.model} on {dataset}")
        accuracies[source.model, dataset] = 100 * source.score("pooled", "accuracy")
        origins[source.model] = source.name
    columns = (
        *(ItemColumn(name, "Accuracy, %") for name in names),
        ItemColumn("Parameters"),
        ItemColumn("M multiply-accumulates"),
        ItemColumn("ULW-SleepNet has fewer parameters by, %", "", ".1f"),
    )
    least = int(request.models["ulw-sleepnet"]["parameters"])
    human = [name for name, facts in request.models.items() if facts.get("stages") == 5]  # noqa: PLR2004
    rows_ = []
    for name in human:
        facts = request.models[name]
        parameters = int(facts["parameters"])
        values: tuple[Value, ...] = (
            *(accuracies.get((name, dataset)) for dataset in names),
            parameters,
            facts["macs"] / 1e6,
            100 * (1 - least / parameters),
        )
        rows_.append(ItemRow((name,), OURS, values, origins.get(name, "")))
    printed = ItemRow(("all",), PRINTED, remark=NOT_AT_HAND)
    return ItemContent([ItemTable("", caption, ("Model",), columns, (*rows_, printed))])


# --- hours ----------------------------------------------------------------------------------------


def training_hours(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show the hours of 100 passes, of one fold and of all, and parameters, a line a model."""
    sources: dict[str, RunSource] = {}
    for source in request.runs:
        if source.model in sources:
            raise taken_twice(sources[source.model].name, source.name, source.model)
        if source.model not in {row["model"] for row in request.results}:
            models = ", ".join(row["model"] for row in request.results)
            raise refuse(source.name, request.name, f"it is of {source.model}, not of {models}")
        sources[source.model] = source
    columns = (
        ItemColumn("one fold", "Hours of 100 passes", ".3g"),
        ItemColumn("all folds", "Hours of 100 passes", ".3g"),
        ItemColumn("Device"),
        ItemColumn("Parameters"),
    )
    rows: list[ItemRow] = []
    bars: dict[str, list[float | None]] = {"ours, one fold": [], "printed": []}
    for result in request.results:
        label, model = (str(result["printed_model"]),), str(result["model"])
        printed = printed_number(result["id"], "hours_per_100_passes")
        values = _hours(sources[model]) if model in sources else None
        if values is not None:
            rows.append(ItemRow(label, sources[model].origin, values, sources[model].name))
        elif request.runs:
            rows.append(ItemRow(label, OURS, remark=NO_RUN))
        size = next(
            (
                f["value"]
                for f in facts_of(request.name)
                if f["quantity"] == "parameters" and f["model"] == result["printed_model"]
            ),
            None,
        )
        device = str(result["note"]).split(";")[0]
        rows.append(
            printed_row(label, (printed, None, device, None if size is None else int(size)))
        )
        first = values[0] if values else None
        bars["ours, one fold"].append(first if isinstance(first, float) else None)
        bars["printed"].append(printed)
    if not sources:
        del bars["ours, one fold"]
    groups = [str(row["printed_model"]) for row in request.results]
    figure = Figure(request.name, plot_bars({"": bars}, groups, unit="h"), caption, caption)
    notes = [
        "The print names neither data set nor number of folds, so it stands in the column of one "
        "fold by our reading. Ours: the logged seconds of a training over its passes, mean of the "
        "folds, and their sum.",
    ]
    table = ItemTable("", caption, ("Model",), columns, tuple(rows))
    return ItemContent([table], [figure], notes)


def _hours(source: RunSource) -> tuple[Value, ...]:
    """Compute hours of 100 passes of a fold and of all, from the training logs."""
    import polars as pl

    run = source.evaluation.run
    logs = training_logs(run).filter(protocol=source.protocol, seed=source.seed)
    last = logs.group_by("fold").agg(pl.col("seconds").max(), pl.col("pass").max())
    hours = [s / p * HUNDRED / 3600 for s, p in last.select("seconds", "pass").rows() if s and p]
    device = run.facts.get("device")
    size = run.facts.get("parameters")
    return (
        mean(hours) if hours else None,
        sum(hours) if hours else None,
        str(device) if device else None,
        int(size) if isinstance(size, int) else None,
    )


def scoring_time_table(request: ItemRequest, *, caption: str) -> ItemContent:
    """Show the time of scoring a 72-h recording, by model and by hand, and their ratio."""
    source, _ = single_source(request)
    printed = {
        row["quantity"]: row["value"]
        for row in facts_of(request.name)
        if row["unit"] != "working days"
    }
    model = printed["inference of a 72-h recording"]
    person = printed["scoring by hand of a 72-h recording"]
    rows = list(_times(source, float(person)))
    rows += [
        ItemRow(("model",), PRINTED, (model, printed["faster than scoring by hand"])),
        ItemRow(("human",), PRINTED, (person, None)),
    ]
    columns = (
        ItemColumn(f"Hours of a {RECORDING_HOURS:g}-h recording", "", ".3g"),
        ItemColumn("Times faster than the printed human", "", ".0f"),
    )
    notes = [
        "Printed numbers are rounded (about). Of calendar time the paper says "
        f"{printed['faster than scoring by hand, in calendar time']:g} times: 6 working days."
    ]
    if source is not None:
        notes.append(
            f"Ours is the time of scoring unseen subjects over the hours scored, times "
            f"{RECORDING_HOURS:g}: of held-out subjects that of the final model alone, of an "
            "external test with the start of the program and the reading of the epochs."
        )
    return ItemContent([ItemTable("", caption, ("By",), columns, tuple(rows))], notes=notes)


def _times(source: RunSource | None, person: float) -> Iterator[ItemRow]:
    if source is None:
        return
    seconds, epochs = _scoring_seconds(source)
    if not seconds * epochs:
        raise refuse(
            source.name,
            "s4-scoring-time",
            "its time is that of a training, not of scoring",
            "give a run whose final model was tested on held-out subjects, or the run of an "
            "external test ('sleeptools evaluate MODEL' on other epochs)",
        )
    scored = epochs * source.evaluation.run.epoch_seconds / 3600
    hours = seconds / 3600 / scored * RECORDING_HOURS
    yield ItemRow(("model",), source.origin, (hours, person / hours), source.name)


def _scoring_seconds(source: RunSource) -> tuple[float, int]:
    """Find how long the scoring of unseen subjects took, s, and of how many epochs; or zeros."""
    run = source.evaluation.run
    if source.protocol == HELD_OUT:
        return scoring_time(run)
    wall = run.facts.get("wall_seconds")
    if source.protocol == EXTERNAL and isinstance(wall, int | float):
        return float(wall), len(source.evaluation.tested)
    return 0.0, 0
