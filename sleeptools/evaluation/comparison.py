"""A run beside the publications: our lines, the printed ones, and what forbids comparing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sleeptools.evaluation import published
from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL


@dataclass(frozen=True)
class Line:
    """One result in a table of several.

    Parameters
    ----------
    who
        "ours, mmasleepnet", or the model as its paper names it.
    data
        Data set and number of subjects.
    folds
        Their number, or "unknown".
    split
        What was divided: "subjects", "epochs (leaks)" or "unknown".
    chosen
        What the kept pass was chosen on.
    values
        Fractions of 1: the metrics over all stages, and f1_STAGE.
    ours
        Whether it is ours.
    """

    who: str
    data: str
    folds: str
    split: str
    chosen: str
    values: Mapping[str, Any] = field(repr=False)
    ours: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a run can be set beside the printed result that is nearest to it.

    Parameters
    ----------
    printed
        "MMASleepNet on Sleep-EDF-20", or "" where nothing of the kind is printed.
    protocol
        Ours that comes nearest to theirs.
    differences
        In words; empty if nothing known differs.
    """

    printed: str
    protocol: str
    differences: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether data, split and selection agree with the printed result's."""
        return bool(self.printed) and not self.differences


def protocols(found: Evaluation) -> dict[str, published.Protocol]:
    """Say how our number came about, per protocol."""
    import polars as pl

    run, known = found.run, {}
    for protocol in found.protocols:
        mine = found.subjects.filter(pl.col("protocol") == protocol)
        first = mine.filter(pl.col("seed") == mine["seed"][0])
        known[protocol] = published.Protocol(
            preset=str(run.preset.get("name", "")),
            simulated=run.simulated,
            subjects=first["subject"].n_unique(),
            epochs=int(first["epochs"].sum()),
            folds=run.count(protocol, int(mine["seed"][0])),
            rules=str(run.preset.get("rules", "")),
            optimistic=protocol == BEST_ON_TEST,
            model=run.model,
            settings=run.settings,
            recipe=run.recipe,
            split="epochs" if run.mixed else "subjects",
        )
    return known


def verdict(found: Evaluation) -> Verdict:
    """Compare a run with the printed result that is nearest to it."""
    known = protocols(found)
    protocol = BEST_ON_TEST if BEST_ON_TEST in known else next(iter(known))
    rows = published.beside(known[protocol]).to_dicts()
    if not rows:
        return Verdict("", protocol, ())
    what = f"{rows[0]['printed_model']} on {rows[0]['dataset']}"
    return Verdict(what, protocol, tuple(published.differences(known[protocol], rows[0])))


def printed(found: Evaluation) -> list[dict[str, Any]]:
    """Rows of `published.results` to set beside a run; the nearest first."""
    return published.beside(next(iter(protocols(found).values()))).to_dicts()


def lines(found: Evaluation) -> list[Line]:
    """Ours, one line per protocol, then the printed ones.

    Where a printed number is a mean of subjects, ours is there as such a mean, too.
    """
    known, rows = protocols(found), printed(found)
    averaged = any(row["aggregate"] == "mean of subjects" for row in rows)
    mine = [line for p in known for line in _ours(found, p, known[p], averaged=averaged)]
    return [*mine, *map(_theirs, rows)]


def _ours(
    found: Evaluation, protocol: str, how: published.Protocol, *, averaged: bool
) -> list[Line]:
    """Give the pooled line of a protocol and, where asked for, the mean of its subjects."""
    preset = f"{how.preset or 'unknown'}{', SIMULATED' if how.simulated else ''}"
    split = "subjects" if how.split == "subjects" else "epochs (LEAKY)"
    place = (f"{preset}, {_n(how.subjects)}", str(how.folds), split, chosen(found, protocol))
    names = [f"f1_{name}" for name in found.stages]
    pooled = found.pooled(protocol) | dict(
        zip(names, found.per_stage(protocol)["f1"].tolist(), strict=True)
    )
    made = [Line(f"ours, {how.model}", *place, pooled, ours=True)]
    if averaged:
        mine = found.subjects.filter(protocol=protocol)
        kept = [n for n in (*published.WIDE, *names) if n in mine.columns]
        each = {n: mine[n].drop_nans().mean() for n in kept}
        made.append(Line(f"ours, {how.model}, mean of subjects", *place, each, ours=True))
    return made


def _n(count: int) -> str:
    return f"n = {count:,}"


def chosen(found: Evaluation, protocol: str) -> str:
    """Say what chose the pass that was kept."""
    last = found.run.unchosen(protocol)
    if last and len(last) == len({t.fold for t in found.run.done if t.protocol == protocol}):
        return "nothing: the last pass"
    if protocol == BEST_ON_TEST:
        return "the test fold (optimistic)"
    if protocol == EXTERNAL:
        return "other data"
    return "validation subjects" + ", or nothing" * bool(last)


def _theirs(row: Mapping[str, Any]) -> Line:
    selection = str(row["selection"]).removeprefix("best pass on ")
    selection += " (optimistic)" if selection != row["selection"] else ""
    many = "" if row["kind"] == "rival" else f", {_n(row['subjects'])}"
    split = "epochs (leaks)" if row["split"] == "epochs" else row["split"]
    who = row["printed_model"] + (", mean of mice" if "subjects" in row["aggregate"] else "")
    where = (f"{row['dataset']}{many}", str(row["folds"] or "unknown"), split, selection)
    return Line(who, *where, row)


def sources(rows: list[dict[str, Any]]) -> list[str]:
    """Where the printed rows are from, one line per paper and remark."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["source"], row["place"], row["note"] or "")
        found.setdefault(key, []).append(row["printed_model"])
    return [
        f"{', '.join(dict.fromkeys(models))}: {source}, {place}{f' ({note})' if note else ''}"
        for (source, place, note), models in found.items()
    ]


def scorers() -> str:
    """Say how well human scorers agree, as context for a kappa and not as a bar to pass."""
    known = published.agreement()
    each = ", ".join(f"{name} {k:.2f}" for name, k in known.items() if isinstance(k, float))
    kappa, low, high = known["all"] if isinstance(known["all"], tuple) else (float("nan"),) * 3
    return (
        f"Two human scorers agree with a kappa of {kappa:.2f} [{low:.2f} to {high:.2f}] "
        f"({each}; 11 studies, doi:10.5664/jcsm.9538). A model that is trained and tested on one "
        "scorer may exceed that by learning this scorer's habits; it is not thereby better than "
        "experts."
    )
