"""A run beside the publications: our results, the printed ones, and what forbids comparing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.evaluation.published import (
    RESULT_METRICS,
    StudyDesign,
    list_differences,
    nearest_results,
    scorer_kappas,
)
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL


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
    """

    label: str
    data: str
    folds: str
    split: str
    selection: str
    values: Mapping[str, Any] = field(repr=False)
    ours: bool = False


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
        What differs, in words; empty if no difference is known.
    """

    printed: str
    protocol: str
    differences: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether data, split and selection agree with the printed result's."""
        return bool(self.printed) and not self.differences


def study_designs(evaluation: Evaluation) -> dict[str, StudyDesign]:
    """Describe, per protocol, how the run's numbers came about."""
    import polars as pl

    run, designs = evaluation.run, {}
    for protocol in evaluation.protocols:
        subjects = evaluation.table("subjects").filter(pl.col("protocol") == protocol)
        first = subjects.filter(pl.col("seed") == subjects["seed"][0])
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
            split="epochs" if run.mixed else "subjects",
            fine_tuned=bool(run.parent),
        )
    return designs


def judge_comparability(evaluation: Evaluation) -> Verdict:
    """Compare a run with the printed result that is nearest to it."""
    designs = study_designs(evaluation)
    protocol = BEST_ON_TEST if BEST_ON_TEST in designs else next(iter(designs))
    rows = nearest_results(designs[protocol]).to_dicts()
    if not rows:
        return Verdict("", protocol, ())
    printed = f"{rows[0]['printed_model']} on {rows[0]['dataset']}"
    return Verdict(printed, protocol, tuple(list_differences(designs[protocol], rows[0])))


def published_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of `published.published_results` to show beside a run; the nearest first."""
    return nearest_results(next(iter(study_designs(evaluation).values()))).to_dicts()


def result_lines(evaluation: Evaluation) -> list[ResultLine]:
    """Our results, one line per protocol, then the printed ones.

    Where a printed number is a mean of subjects, our mean of subjects is there, too.
    """
    designs, rows = study_designs(evaluation), published_rows(evaluation)
    averaged = any(row["aggregate"] == "mean of subjects" for row in rows)
    ours = [
        line
        for protocol, design in designs.items()
        for line in _our_lines(evaluation, protocol, design, averaged=averaged)
    ]
    return [*ours, *map(_printed_line, rows)]


def _our_lines(
    evaluation: Evaluation, protocol: str, design: StudyDesign, *, averaged: bool
) -> list[ResultLine]:
    """Give the pooled line of a protocol and, if `averaged`, the mean of its subjects."""
    preset = f"{design.preset or 'unknown'}{', SIMULATED' if design.simulated else ''}"
    split = "subjects" if design.split == "subjects" else "epochs (LEAKY)"
    chosen = selection_text(evaluation, protocol)
    origin = (f"{preset}, {_count(design.subjects)}", str(design.folds), split, chosen)
    names = [f"f1_{name}" for name in evaluation.run.stages]
    pooled = evaluation.pooled[protocol]
    f1 = dict(zip(names, pooled.stage_metrics()["f1"].tolist(), strict=True))
    label = f"ours, {design.model}"
    lines = [ResultLine(label, *origin, pooled.overall_metrics() | f1, ours=True)]
    if averaged:
        subjects = evaluation.table("subjects").filter(protocol=protocol)
        columns = [name for name in (*RESULT_METRICS, *names) if name in subjects.columns]
        means = {name: subjects[name].drop_nans().mean() for name in columns}
        lines.append(ResultLine(f"{label}, mean of subjects", *origin, means, ours=True))
    return lines


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
    return "validation subjects" + ", or nothing" * bool(unchosen)


def _printed_line(row: Mapping[str, Any]) -> ResultLine:
    selection = str(row["selection"]).removeprefix("best pass on ")
    selection += " (optimistic)" if selection != row["selection"] else ""
    count = "" if row["kind"] == "rival" else f", {_count(row['subjects'])}"
    split = "epochs (leaks)" if row["split"] == "epochs" else row["split"]
    label = row["printed_model"] + (", mean of mice" if "subjects" in row["aggregate"] else "")
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
