"""A run as the builders see it: its protocol, its scores at each level, and how they came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation import metrics
from sleeptools.evaluation.comparison import study_designs
from sleeptools.evaluation.evaluation import Evaluation
from sleeptools.evaluation.metrics import Counts
from sleeptools.evaluation.published.study_design import StudyDesign, compare_designs
from sleeptools.runs.folds import BEST_ON_TEST, HELD_OUT, NAMED
from sleeptools.runs.logs import training_logs

if TYPE_CHECKING:
    import polars as pl

LEVELS: Final = {"mean of folds": "fold", "mean of subjects": "subject"}
"""How printed numbers are averaged, and the level that is averaged likewise."""


@dataclass(frozen=True)
class RunSource:
    """A run under one of its protocols.

    Parameters
    ----------
    evaluation
        Evaluation of the run.
    protocol
        The protocol that is shown.
    row
        The data set that the caller said it is; "" where the run itself tells.
    """

    evaluation: Evaluation = field(repr=False)
    protocol: str
    row: str = ""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.evaluation.run.name

    @property
    def model(self) -> str:
        """Name of the run's model."""
        return self.evaluation.run.model

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names."""
        return self.evaluation.run.stages

    @property
    def origin(self) -> str:
        """Where its numbers come from, with the marks that they must not be without."""
        simulated = ", SIMULATED" if self.evaluation.run.simulated else ""
        leaky = ", LEAKY" if self.evaluation.run.mixed else ""
        return f"ours, {NAMED.get(self.protocol, self.protocol)}{leaky}{simulated}"

    @cached_property
    def logs(self) -> pl.DataFrame:
        """Training logs of the protocol and its first seed."""
        table = training_logs(self.evaluation.run).filter(protocol=self.protocol)
        return table.filter(seed=table["seed"].min()) if len(table) else table

    @cached_property
    def design(self) -> StudyDesign:
        """How its numbers came about."""
        return study_designs(self.evaluation)[self.protocol]

    @property
    def seed(self) -> int:
        """The first seed, whose matrices are drawn."""
        return min(self.evaluation.pooled[self.protocol].seeds)

    def matrices(self, level: str) -> dict[str, Counts]:
        """Confusion matrices of the first seed, rows truth, by fold ("1", ...) or subject."""
        return {name: by_seed[0] for name, by_seed in self._by_seed(level).items()}

    def _by_seed(self, level: str) -> dict[str, list[Counts]]:
        """Matrices of every seed, the first one first."""
        if level == "pooled":
            return {"": list(self.evaluation.pooled[self.protocol].matrices)}
        if level == "subject":
            confusions = self.evaluation.by_subject[self.protocol]
            pairs = zip(confusions.subjects, confusions.counts, strict=True)
            return {subject: list(matrices) for subject, matrices in pairs}
        _, keys, matrices = self.evaluation.confusions[level]
        groups: dict[str, list[tuple[int, Counts]]] = {}
        for (protocol, seed, fold), matrix in zip(keys, matrices, strict=True):
            if protocol == self.protocol:
                groups.setdefault(str(fold + 1), []).append((seed, matrix))
        ordered = sorted(groups, key=int)
        return {name: [m for _, m in sorted(groups[name], key=lambda p: p[0])] for name in ordered}

    def scores(self, level: str, metric: str, stage: str | None = None) -> dict[str, float]:
        """Compute a metric of each fold or subject, averaged over the seeds; NaN if undefined."""
        values = {}
        for name, by_seed in self._by_seed(level).items():
            stacked = np.stack(by_seed)
            if stage is None:
                numbers = np.atleast_1d(metrics.OVERALL_METRICS[metric](stacked))
            else:
                index = self.stages.index(stage)
                numbers = metrics.STAGE_METRICS[metric](stacked)[..., index]
            values[name] = mean(numbers.tolist())
        return values

    def score(self, aggregate: str, metric: str, stage: str | None = None) -> float:
        """Compute a metric pooled, or as the mean of folds or of subjects ("mean of folds")."""
        return mean([*self.scores(LEVELS.get(aggregate, "pooled"), metric, stage).values()])

    def verdict(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """Tell whether it can be compared with a printed result: yes, no or not known; and why."""
        compared = compare_designs(self.design, row)
        unknown = f"not known: {', '.join(compared.unknown)}" if compared.unknown else ""
        why = "; ".join([*compared.differences, *filter(None, [unknown])])
        if compared.comparable:
            return "yes", "data, folds, selection, model, training and aggregation agree"
        return ("no" if compared.differences else "not known"), why

    def verdict_text(self, row: Mapping[str, Any]) -> str:
        """Write the verdict as a sentence."""
        comparable, why = self.verdict(row)
        printed = f"{row['printed_model']} on {row['dataset']}"
        return f"{self.name} beside {printed}: {verdict_words(comparable)}: {why}"


def verdict_words(comparable: str) -> str:
    """Write "yes", "no" or "not known" in words."""
    words = {"yes": "comparable", "no": "not directly comparable"}
    return words.get(comparable, "nothing is known that forbids a comparison")


def choose_protocol(evaluation: Evaluation, results: Sequence[Mapping[str, Any]]) -> str:
    """Choose the protocol that the print used, if the run has it; else the one to believe."""
    if HELD_OUT in evaluation.protocols and any(row["members"] == HELD_OUT for row in results):
        return HELD_OUT
    optimistic = any(
        str(row["selection"]).startswith("best pass on the test fold") for row in results
    )
    if optimistic and BEST_ON_TEST in evaluation.protocols:
        return BEST_ON_TEST
    return evaluation.headline


def mean(values: Sequence[float]) -> float:
    """Average what is a number; NaN where nothing is."""
    defined = [v for v in values if not math.isnan(v)]
    return fmean(defined) if defined else math.nan


def standard_error(values: Sequence[float]) -> float:
    """Compute the sample's standard deviation over the root of its size; NaN of fewer than two."""
    defined = [v for v in values if not math.isnan(v)]
    return stdev(defined) / math.sqrt(len(defined)) if len(defined) > 1 else math.nan
