"""Tables of the scores by stage of each fold or each mouse, with mean and standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_table import (
    NO_RUN,
    OURS,
    PRINTED,
    RECOMPUTED,
    ItemColumn,
    ItemRow,
    ItemTable,
    Value,
)
from sleeptools.report.items.matching import match_results
from sleeptools.report.items.printed_numbers import printed_number, scaled
from sleeptools.report.items.results import ScoreColumn, printed_row, single_source
from sleeptools.report.items.run_source import RunSource, mean, standard_error

SCORES: Final = tuple(
    ScoreColumn(ItemColumn(heading, stage, form), metric, stage, factor)
    for stage in MOUSE_STAGES
    for heading, metric, form, factor in (
        ("accuracy", "stage_accuracy", ".2f", 100.0),
        ("precision", "precision", ".2f", 100.0),
        ("recall", "recall", ".2f", 100.0),
        ("F1", "f1", ".2f", 100.0),
        ("kappa", "stage_kappa", ".4f", 1.0),
    )
)
"""Tables 1 and 3 of SlumberNet's paper."""


def fold_scores_table(request: ItemRequest, *, level: str, caption: str) -> ItemContent:
    """Show the scores by stage of each fold or subject, then their mean and standard error.

    Beside the printed standard errors stand those recomputed from the printed numbers, where the
    two differ.

    Parameters
    ----------
    level
        "fold" or "subject".
    """
    source, result = single_source(request)
    assert result is not None
    noun = "Fold" if level == "fold" else "Mouse"
    printed = dict(_printed(str(result["id"]), level))
    ours = _ours(source, level) if source else {}
    count = max(len(printed), len(ours))
    names = list(ours)  # of our folds or subjects
    rows: list[ItemRow] = []
    verdict = source.verdict(result) if source else ("", "")
    for i in range(count):
        number = str(i + 1)
        values = ours[names[i]] if i < len(names) else None
        label = (f"{number} ({names[i]})" if level == "subject" and values else number,)
        rows += _pair(label, values, source, verdict, request)
        if number in printed:
            rows.append(printed_row(label, printed[number]))
    rows += _summary(request, source, ours, printed, str(result["id"]), verdict)
    columns = tuple(c.column for c in SCORES)
    notes = []
    if level == "subject" and names:
        notes.append("Which of ours is which printed mouse means nothing: they are other animals.")
    table = ItemTable("", caption, (noun,), columns, tuple(rows))
    return ItemContent([table], notes=notes)


def _pair(
    label: tuple[str, ...],
    values: Sequence[Value] | None,
    source: RunSource | None,
    verdict: tuple[str, str],
    request: ItemRequest,
) -> Iterator[ItemRow]:
    """Give our line, or say that there is none."""
    if values is not None and source is not None:
        yield ItemRow(label, source.origin, tuple(values), source.name, "", *verdict)
    elif request.runs:
        yield ItemRow(label, OURS, remark="the run has none" if source else NO_RUN)


def _ours(source: RunSource, level: str) -> dict[str, list[float | None]]:
    columns = [source.scores(level, c.metric, c.stage) for c in SCORES]
    return {
        name: [c.shown(scores[name]) for c, scores in zip(SCORES, columns, strict=True)]
        for name in columns[0]
    }


def _printed(result: str, level: str) -> Iterator[tuple[str, list[float | None]]]:
    for number in range(1, 100):
        about = {"fold": number} if level == "fold" else {"subject": f"mouse {number}"}
        values = [c.of_print(result, **about) for c in SCORES]
        if all(value is None for value in values):
            return
        yield str(number), values


def _summary(
    request: ItemRequest,
    source: RunSource | None,
    ours: Mapping[str, Sequence[float | None]],
    printed: Mapping[str, Sequence[float | None]],
    result: str,
    verdict: tuple[str, str],
) -> Iterator[ItemRow]:
    """Give the lines of means and of standard errors."""
    for label, statistic, function in (("Mean", None, mean), ("SEM", "sem", standard_error)):
        computed = [function(list(column)) for column in _columns(ours)] if ours else None
        yield from _pair((label,), computed, source, verdict, request)
        stated = [
            scaled(printed_number(result, c.metric, c.stage, statistic=statistic), c.factor)
            for c in SCORES
        ]
        yield ItemRow((label,), PRINTED, tuple(stated))
        again = [function(list(column)) for column in _columns(printed)]
        if not _same(again, stated, tolerant=statistic is None):
            yield ItemRow((label,), f"{RECOMPUTED} from the printed numbers", tuple(again))


def _same(again: Sequence[float], stated: Sequence[float | None], *, tolerant: bool) -> bool:
    """Whether recomputed numbers are the printed ones; a mean may be one off in the last digit."""
    for number, value, column in zip(again, stated, SCORES, strict=True):
        digits = int(column.column.form[1])
        if value is not None:
            off = round(abs(round(number, digits) - value) * 10**digits)
            if off > int(tolerant):
                return False
    return True


def _columns(rows: Mapping[str, Sequence[float | None]]) -> list[list[float]]:
    nothing = float("nan")
    return [
        [nothing if v is None else v for v in column] for column in zip(*rows.values(), strict=True)
    ]


# --- accuracy of each mouse under several models --------------------------------------------------


def subject_accuracy_table(
    request: ItemRequest, *, models: Mapping[str, str], caption: str
) -> ItemContent:
    """Show the accuracy of each mouse, a column for each model, then the mean.

    Parameters
    ----------
    models
        Name of a model to the heading of its column.
    """
    ids = {row["model"]: row for row in request.results}
    matched = match_results(request.runs, request.results, request.name)
    sources = {source.model: source for source in matched.values()}
    ours = {name: s.scores("subject", "accuracy") for name, s in sources.items()}
    subjects = sorted({subject for scores in ours.values() for subject in scores})
    printed = {
        model: [
            scaled(printed_number(ids[model]["id"], "accuracy", subject=f"mouse {i}"), 100)
            for i in range(1, 9)
        ]
        for model in models
    }
    rows: list[ItemRow] = []
    for i in range(max(len(subjects), 8)):
        label = (f"{i + 1} ({subjects[i]})" if i < len(subjects) else str(i + 1),)
        if i < len(subjects):
            values = [scaled(ours.get(m, {}).get(subjects[i]), 100) for m in models]
            rows.append(ItemRow(label, _origin(sources), tuple(values), _names(sources)))
        elif sources:
            rows.append(ItemRow(label, OURS, remark="the runs have none"))
        if i < 8:  # noqa: PLR2004 - mice of the print
            rows.append(printed_row(label, [printed[m][i] for m in models]))
    rows += _averages(models, sources, ours, printed, {m: str(r["id"]) for m, r in ids.items()})
    verdicts = [s.verdict_text(ids[m]) for m, s in sources.items()]
    notes = []
    if subjects:
        notes.append("The report does not name its mice: ours stand beside them by number alone.")
    columns = tuple(ItemColumn(heading) for heading in models.values())
    table = ItemTable("", caption, ("Mouse",), columns, tuple(rows))
    return ItemContent([table], notes=notes, verdicts=verdicts)


def _origin(sources: Mapping[str, RunSource]) -> str:
    return "; ".join(dict.fromkeys(s.origin for s in sources.values()))


def _names(sources: Mapping[str, RunSource]) -> str:
    return ", ".join(s.name for s in sources.values())


def _averages(
    models: Mapping[str, str],
    sources: Mapping[str, RunSource],
    ours: Mapping[str, Mapping[str, float]],
    printed: Mapping[str, Sequence[float | None]],
    ids: Mapping[str, str],
) -> Iterator[ItemRow]:
    if sources:
        values = [scaled(mean([*ours[m].values()]), 100) if m in ours else None for m in models]
        yield ItemRow(("Avg",), _origin(sources), tuple(values), _names(sources))
    stated = [scaled(printed_number(ids[m], "accuracy"), 100) for m in models]
    yield ItemRow(("Avg",), PRINTED, tuple(stated))
    again = [mean([v for v in printed[m] if v is not None]) for m in models]
    yield ItemRow(("Avg",), f"{RECOMPUTED} from the printed mice", tuple(again))
