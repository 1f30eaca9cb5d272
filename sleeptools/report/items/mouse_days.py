"""Figures of a mouse's days: amounts of each stage in bins, true and predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from sleeptools.errors import DataError
from sleeptools.evaluation.circadian import BIN_HOURS
from sleeptools.evaluation.sleep_agreement import tested_nights
from sleeptools.evaluation.sleep_statistics import minutes_in_bins
from sleeptools.report.blocks import Figure
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NOT_AT_HAND,
    PRINTED,
    ItemColumn,
    ItemRow,
    ItemTable,
    Value,
)
from sleeptools.report.items.phases import DayPhase, PhaseTable
from sleeptools.report.items.printed_numbers import facts_of, printed_number
from sleeptools.report.items.results import single_source
from sleeptools.report.items.run_source import RunSource, mean
from sleeptools.report.plots.mouse_days import (
    DayAxis,
    DayBins,
    DayCorrelation,
    plot_amounts,
    plot_day_bins,
    plot_time_line,
)

if TYPE_CHECKING:
    import polars as pl

FEWEST_BINS: Final = 3
"""Bins that a correlation needs."""
DAY: Final = 24.0
NO_PHASES: Final = (
    "No table of phases is given: hours are counted from the start of a recording, and baseline, "
    "deprivation and recovery are not told apart."
)


def stage_amount_bins(request: ItemRequest) -> ItemContent:
    """Draw minutes a bin of each stage, mice down and stages across, true and predicted."""
    source, result = single_source(request)
    columns = tuple(ItemColumn(h, "", ".1f") for h in ("true, min", "predicted, min"))
    heads = ("Mouse", "Begin, h", "Phase", "Stage")
    caption = f"Minutes of each stage a {BIN_HOURS:g}-h bin"
    if source is None:
        row = ItemRow(("1", "", "", ""), PRINTED, remark=NOT_AT_HAND)
        return ItemContent([ItemTable("", caption, heads, columns, (row,))])
    days, phases = day_bins(source, request.phases), request.phases
    plot = plot_day_bins(days, source.stages, BIN_HOURS, _axis(days, phases))
    text = f"{caption}. Shaded: the deprivation; the bar at the top: dark." if phases else caption
    table = ItemTable("", caption, heads, columns, tuple(_bin_rows(days, source, phases)))
    tables = [table]
    if phases:
        tables.append(_phase_table(days, source, phases))
    verdicts = [source.verdict_text(result)] if result else []
    figure = Figure(request.name, plot, caption, text)
    return ItemContent(tables, [figure], [] if phases else [NO_PHASES], verdicts)


def day_bins(source: RunSource, phases: PhaseTable | None) -> list[DayBins]:
    """Add up minutes a bin of every recording of the first seed; hours by zeitgeber, if known.

    Bins begin at whole multiples of their width from zeitgeber time 0, or from the start of the
    recording.
    """
    tested = source.evaluation.tested.filter(protocol=source.protocol, seed=source.seed)
    nights = [*tested_nights(tested)]
    subjects = [key[4] for key, _ in nights]
    days = []
    for (_, _, _, recording, subject), night in nights:
        begin = phases.begins(recording, subject) if phases else 0.0
        if phases and subjects.count(subject) > 1 and recording not in phases.start:
            raise DataError(
                f"{phases.path}: {subject} has {subjects.count(subject)} recordings, and [start] "
                f"does not say when {recording} begins",
                hint=f"{recording} = HOURS under [start], and so for each of them",
                code="FACT-MISSING",
            )
        label = subject if subjects.count(subject) == 1 else recording
        days.append(_bins(str(label), night, 3600 * begin, source))
    return days


def _bins(label: str, night: pl.DataFrame, begin: float, source: RunSource) -> DayBins:
    onset = night["onset"].to_numpy() + begin
    seconds, count = source.evaluation.run.epoch_seconds, len(source.stages)
    (numbers, truth), (_, predicted) = (
        minutes_in_bins(night[side].to_numpy(), onset, count, seconds, BIN_HOURS)
        for side in ("stage", "predicted")
    )
    return DayBins(label, numbers.astype(np.float64) * BIN_HOURS, truth, predicted)


def _axis(days: Sequence[DayBins], phases: PhaseTable | None) -> DayAxis:
    if phases is None:
        return DayAxis("h from the start")
    end = max(float(day.hours.max()) for day in days) + BIN_HOURS
    light = phases.light_hours
    dark = [(d + light, d + DAY) for d in np.arange(0, end, DAY).tolist()]
    shaded = [(p.name, p.begin, p.end) for p in phases.phases if _is_deprivation(p)]
    return DayAxis("zeitgeber time, h", shaded, dark)


def _is_deprivation(phase: DayPhase) -> bool:
    return "depriv" in phase.name.lower()


def _bin_rows(
    days: Sequence[DayBins], source: RunSource, phases: PhaseTable | None
) -> Iterator[ItemRow]:
    for day in days:
        for hour, truth, predicted in zip(day.hours, day.truth, day.predicted, strict=True):
            phase = phases.phase(float(hour)) if phases else ""
            for i, stage in enumerate(source.stages):
                labels = (day.label, f"{hour:g}", phase, stage)
                values = (float(truth[i]), float(predicted[i]))
                yield ItemRow(labels, source.origin, values, source.name)


def _phase_table(days: Sequence[DayBins], source: RunSource, phases: PhaseTable) -> ItemTable:
    """Add up the hours of each stage in each phase; a bin belongs to the phase it begins in."""
    rows = []
    for day in days:
        for phase in phases.phases:
            inside = (day.hours >= phase.begin) & (day.hours < phase.end)
            values: list[Value] = [int(inside.sum())]
            for i in range(len(source.stages)):
                values += [float(side[inside, i].sum()) / 60 for side in (day.truth, day.predicted)]
            rows.append(ItemRow((day.label, phase.name), source.origin, tuple(values), source.name))
    sides = ("true, h", "predicted, h")
    columns = [ItemColumn("bins"), *(ItemColumn(s, n) for n in source.stages for s in sides)]
    caption = "Hours of each stage in each phase"
    return ItemTable("phases", caption, ("Mouse", "Phase"), tuple(columns), tuple(rows))


# --- predicted against true -----------------------------------------------------------------------


def stage_amount_scatter(request: ItemRequest) -> ItemContent:
    """Draw predicted over true minutes of each bin, a panel a mouse, with r and p."""
    source, result = single_source(request)
    columns = (ItemColumn("bins x stages"), ItemColumn("r", "", ".4f"), ItemColumn("p", "", ".2g"))
    caption = f"Pearson's r of true and predicted minutes a {BIN_HOURS:g}-h bin, all stages"
    rows: list[ItemRow] = []
    figures, verdicts = [], []
    if source is not None:
        days = day_bins(source, request.phases)
        correlations = {day.label: correlate(day) for day in days}
        for label, c in correlations.items():
            values = (c.bins, c.r, c.p) if c else (None, None, None)
            rows.append(ItemRow((label,), source.origin, values, source.name))
        defined = [c.r for c in correlations.values() if c]
        spread = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
        for label, value in (("Mean", mean(defined)), ("SD", spread)):
            rows.append(ItemRow((label,), source.origin, (None, value, None), source.name))
        plot = plot_amounts(days, source.stages, BIN_HOURS, correlations)
        text = f"{caption}; the dotted line is identity."
        figures = [Figure(request.name, plot, "Predicted over true", text)]
        verdicts = [source.verdict_text(result)] if result else []
    rows.append(ItemRow(("1 to 3",), PRINTED, remark=NOT_AT_HAND))
    for label, statistic in (("Mean", None), ("SD", "sd")):
        assert result is not None
        value = printed_number(str(result["id"]), "pearson_r", statistic=statistic)
        rows.append(ItemRow((label,), PRINTED, (None, value, None)))
    table = ItemTable("", caption, ("Mouse",), columns, tuple(rows))
    return ItemContent([table], figures, [], verdicts)


def correlate(day: DayBins) -> DayCorrelation | None:
    """Correlate true and predicted minutes of all bins and stages of a recording."""
    from scipy.stats import pearsonr

    truth, predicted = day.truth.ravel(), day.predicted.ravel()
    if len(day.hours) < FEWEST_BINS or not (np.ptp(truth) and np.ptp(predicted)):
        return None
    correlations = pearsonr(truth, predicted)
    return DayCorrelation(float(correlations.statistic), float(correlations.pvalue), truth.size)


# --- the experiment -------------------------------------------------------------------------------


def experiment_time_line(request: ItemRequest) -> ItemContent:
    """Draw the days of the experiment, as printed, and as a table of phases says of ours."""
    printed = {row["quantity"]: row["value"] for row in facts_of("s4-fig-5a")}
    begin, end = (float(printed[f"deprivation, {side}"]) for side in ("from", "to"))
    shaded = [
        ("baseline", 0.0, begin),
        ("deprivation", begin, end),
        ("recovery", end, 3 * DAY),
    ]
    figures = [_time_line(f"{request.name}-printed", 3 * DAY, shaded, 12.0, "As printed")]
    rows = [ItemRow((name,), PRINTED, (a, b)) for name, a, b in shaded]
    if request.phases:
        ours = [(p.name, p.begin, p.end) for p in request.phases.phases]
        light = request.phases.light_hours
        figures.append(_time_line(f"{request.name}-ours", ours[-1][2], ours, light, "Ours"))
        rows += [ItemRow((name,), "ours", (a, b)) for name, a, b in ours]
    columns = tuple(ItemColumn(h, "", "g") for h in ("from, ZT h", "to, ZT h"))
    table = ItemTable("", "Phases of the experiment", ("Phase",), columns, tuple(rows))
    return ItemContent([table], figures, ["Nothing is measured here: it is the plan of the days."])


def _time_line(
    name: str, hours: float, shaded: Sequence[tuple[str, float, float]], light: float, head: str
) -> Figure:
    plot = plot_time_line(hours, shaded, light)
    return Figure(name, plot, f"Days of the experiment, {head.lower()}", f"{head}. Black: dark.")
