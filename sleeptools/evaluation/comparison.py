"""A run beside the publications: our results, the printed ones, and what forbids comparing them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from sleeptools.evaluation import metrics, published
from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.evaluation.published import (
    nearest_results,
    scorer_kappas,
)
from sleeptools.evaluation.published.study_design import StudyDesign, compare_designs
from sleeptools.evaluation.subject_metrics import find_interval
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL, HELD_OUT
from sleeptools.runs.run import Run

MEANS: Final = {"mean of folds": "fold", "mean of subjects": "subject"}
"""How printed numbers are averaged, and the level of ours that is averaged likewise."""

UNSEEN: Final = frozenset({EXTERNAL, HELD_OUT})
"""Protocols that test subjects whom no training of the study has seen."""


@dataclass(frozen=True)
class ResultLine:
    """One result in a table of several.

    Parameters
    ----------
    label
        "ours, mmasleepnet", or the model as its paper names it.
    data
        Data set and number of subjects.
    folds
        Number of folds, or "unknown".
    split
        What was divided: "subjects", "epochs (leaks)" or "unknown".
    selection
        What the kept pass was chosen on.
    values
        Fractions of 1: the metrics over all stages, and f1_STAGE.
    ours
        Whether the result is ours.
    intervals
        Low and high end of the intervals of ours, where there are such.
    """

    label: str
    data: str
    folds: str
    split: str
    selection: str
    values: Mapping[str, Any] = field(repr=False)
    ours: bool = False
    intervals: Mapping[str, tuple[float | None, float | None]] = field(
        default_factory=dict, repr=False
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a run can be compared with the printed result that is nearest to it.

    Parameters
    ----------
    printed
        "MMASleepNet on Sleep-EDF-20", or "" where nothing was printed for data of this kind.
    protocol
        The run's protocol that comes nearest to that of the publication.
    differences
        What differs, in words, the heaviest first; empty if no difference is known.
    unknown
        What one of the two does not say, in words.
    """

    printed: str
    protocol: str
    differences: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether data, folds, selection, model, training and aggregation are known and agree."""
        return bool(self.printed) and not self.differences and not self.unknown

    @property
    def text(self) -> str:
        """The verdict in a sentence."""
        if self.comparable:
            return (
                f"comparable with {self.printed}: data, folds, selection, model, training and "
                "aggregation agree"
            )
        text = f"nothing is known that forbids a comparison with {self.printed}"
        if self.differences:
            listed = "; ".join(self.differences)
            text = f"not directly comparable with {self.printed}: {listed}"
        return f"{text}; not known: {', '.join(self.unknown)}" if self.unknown else text


def study_designs(evaluation: Evaluation) -> dict[str, StudyDesign]:
    """Describe, per protocol, how the run's numbers came about."""
    import polars as pl

    run, designs = evaluation.run, {}
    for protocol in evaluation.protocols:
        subjects = evaluation.table("subjects").filter(pl.col("protocol") == protocol)
        first = subjects.filter(pl.col("seed") == subjects["seed"][0])
        by_epoch = run.mixed and protocol not in UNSEEN
        designs[protocol] = StudyDesign(
            preset=str(run.preset.get("name", "")),
            simulated=run.simulated,
            subjects=first["subject"].n_unique(),
            epochs=int(first["epochs"].sum()),
            folds=run.count(protocol, int(subjects["seed"][0])),
            rules=str(run.preset.get("rules", "")),
            optimistic=protocol == BEST_ON_TEST,
            model=run.model,
            settings=run.settings,
            recipe=run.recipe,
            split="epochs" if by_epoch else "subjects",
            members=() if by_epoch else _members(run, protocol),
            unseen=protocol in UNSEEN,
            aggregates=frozenset({"pooled", *MEANS}),
            fine_tuned=bool(run.parent),
        )
    return designs


def _members(run: Run, protocol: str) -> tuple[frozenset[str], ...]:
    """Give the test subjects of each fold of a protocol."""
    tested = run.folds.filter(protocol=protocol, role="test").sort("fold")
    groups = tested.partition_by("fold", maintain_order=True)
    return tuple(frozenset(group["subject"].to_list()) for group in groups)


def judge_comparability(evaluation: Evaluation) -> Verdict:
    """Compare a run with the printed result that is nearest to it."""
    designs = study_designs(evaluation)
    protocol = BEST_ON_TEST if BEST_ON_TEST in designs else next(iter(designs))
    return judge_protocol(evaluation, protocol)


def judge_protocol(evaluation: Evaluation, protocol: str) -> Verdict:
    """Compare a run under a protocol with the printed result that is nearest to it."""
    designs = study_designs(evaluation)
    rows = nearest_results(designs[protocol]).to_dicts()
    if not rows:
        return Verdict("", protocol, ())
    printed = f"{rows[0]['printed_model']} on {rows[0]['dataset']}"
    compared = compare_designs(designs[protocol], rows[0])
    return Verdict(printed, protocol, compared.differences, compared.unknown)


def published_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of `published.published_results` to show beside a run; the nearest first.

    Behind those of the folds stand those of unseen subjects, where the run has tested such, too.
    """
    designs = study_designs(evaluation)
    first = next(iter(designs))
    tested = [designs[p] for p in dict.fromkeys([first, *(UNSEEN & designs.keys())])]
    rows = [row for design in tested for row in nearest_results(design).to_dicts()]
    return list({row["id"]: row for row in rows}.values())


def result_lines(evaluation: Evaluation) -> list[ResultLine]:
    """Our results, one line per protocol, then the printed ones.

    Where a printed number is a mean of folds or of subjects, ours is there, too.
    """
    designs, rows = study_designs(evaluation), published_rows(evaluation)
    printed = {row["aggregate"] for row in rows}
    means = [means for means in MEANS if means in printed]
    ours = [
        line
        for protocol, design in designs.items()
        for line in _our_lines(evaluation, protocol, design, means)
    ]
    return [*ours, *map(_printed_line, rows)]


def _our_lines(
    evaluation: Evaluation, protocol: str, design: StudyDesign, means: Sequence[str]
) -> list[ResultLine]:
    """Give the pooled line of a protocol, then those of some `MEANS`."""
    preset = f"{design.preset or 'unknown'}{', SIMULATED' if design.simulated else ''}"
    noun = evaluation.run.subject_noun
    split = f"{noun}s" if design.split == "subjects" else "epochs (LEAKY)"
    chosen = selection_text(evaluation, protocol)
    origin = (f"{preset}, {_count(design.subjects)}", str(design.folds), split, chosen)
    pooled = evaluation.pooled[protocol]
    scores = pooled.overall_metrics() | _f1_by_stage(pooled.stage_metrics(), evaluation.run.stages)
    label = f"ours, {design.model}" + ", held out" * (protocol == HELD_OUT)
    intervals = _intervals(evaluation, protocol)
    lines = [ResultLine(label, *origin, scores, ours=True, intervals=intervals)]
    for aggregate in means:
        named = aggregate.replace("subject", noun)
        averaged = _mean_metrics(evaluation, protocol, MEANS[aggregate])
        lines.append(ResultLine(f"{label}, {named}", *origin, averaged, True, intervals))
    return lines


def _intervals(
    evaluation: Evaluation, protocol: str
) -> dict[str, tuple[float | None, float | None]]:
    """Give the ends of the intervals of the pooled metrics, and of F1 by stage."""
    table = evaluation.intervals[protocol]
    found = {name: find_interval(table, name) for name in published.RESULT_METRICS}
    found |= {f"f1_{s}": find_interval(table, "f1", stage=s) for s in evaluation.run.stages}
    return {name: (interval.low, interval.high) for name, interval in found.items()}


def _mean_metrics(evaluation: Evaluation, protocol: str, level: str) -> dict[str, float]:
    """Average each metric over the folds or the subjects of a protocol where it is defined."""
    confusions, stages = evaluation.confusions[level], evaluation.run.stages
    matrices = [
        matrix
        for key, matrix in zip(confusions.keys, confusions.matrices, strict=True)
        if key[0] == protocol
    ]
    scores = [
        metrics.overall_metrics(m) | _f1_by_stage(metrics.stage_metrics(m), stages)
        for m in matrices
    ]
    each = {name: [s[name] for s in scores if not math.isnan(s[name])] for name in scores[0]}
    return {name: fmean(values) if values else math.nan for name, values in each.items()}


def _f1_by_stage(values: Mapping[str, Any], stages: Sequence[str]) -> dict[str, float]:
    names = [f"f1_{name}" for name in stages]
    return dict(zip(names, values["f1"].tolist(), strict=True))


def _count(subjects: int) -> str:
    return f"n = {subjects:,}"


def selection_text(evaluation: Evaluation, protocol: str) -> str:
    """Say what chose the pass that was kept."""
    run = evaluation.run
    unchosen = run.unchosen(protocol)
    if unchosen and len(unchosen) == len({t.fold for t in run.done if t.protocol == protocol}):
        return "nothing: the last pass"
    if protocol == BEST_ON_TEST:
        return "the test fold (optimistic)"
    if protocol == EXTERNAL:
        return "other data"
    return f"validation {run.subject_noun}s" + ", or nothing" * bool(unchosen)


def _printed_line(row: Mapping[str, Any]) -> ResultLine:
    selection = str(row["selection"]).removeprefix("best pass on ")
    selection += " (optimistic)" if selection != row["selection"] else ""
    count = "" if row["kind"] == "rival" else f", {_count(row['subjects'])}"
    noun = "animals" if row["species"] == "mouse" else "subjects"
    split = {"epochs": "epochs (leaks)", "subjects": noun}.get(row["split"], row["split"])
    label = row["printed_model"]
    label += f", mean of {noun}" if "subjects" in row["aggregate"] else ""
    folds = str(row["folds"] or "unknown")
    return ResultLine(label, f"{row['dataset']}{count}", folds, split, selection, row)


def source_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where the printed rows are from, one line per paper and remark."""
    models: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["source"], row["place"], row["note"] or "")
        models.setdefault(key, []).append(row["printed_model"])
    return [
        f"{', '.join(dict.fromkeys(names))}: {source}, {table}{f' ({note})' if note else ''}"
        for (source, table, note), names in models.items()
    ]


def scorer_agreement_text() -> str:
    """Say how well human scorers agree, as context for a kappa and not as a bar to pass."""
    kappas = scorer_kappas()
    by_stage = ", ".join(f"{name} {k:.2f}" for name, k in kappas.items() if isinstance(k, float))
    overall = kappas["all"]
    kappa, low, high = overall if isinstance(overall, tuple) else (float("nan"),) * 3
    return (
        f"Two human scorers agree with a kappa of {kappa:.2f} [{low:.2f} to {high:.2f}] "
        f"({by_stage}; 11 studies, doi:10.5664/jcsm.9538). A model that is trained and tested on "
        "one scorer may exceed that by learning this scorer's habits; it is not thereby better "
        "than experts."
    )
