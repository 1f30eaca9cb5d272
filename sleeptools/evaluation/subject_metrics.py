"""Metrics of subjects with 95 % intervals, and the differences of two results by subject.

`SubjectConfusions` holds a confusion matrix per subject and seed. A pooled metric sums the matrices
of the subjects, as the papers do; a "subject mean" is the mean of the subjects' own values, in
which a subject with two nights counts as much as one with one. Seeds are averaged inside the
statistic and never drawn: their spread (`seed_sd`) is another kind of uncertainty and stands beside
the interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation import bootstrap, metrics
from sleeptools.evaluation.bootstrap import Bounds, Interval, Statistic
from sleeptools.evaluation.metrics import Counts, Values

if TYPE_CHECKING:
    import polars as pl

POOLED: Final = "pooled"
SUBJECT_MEAN: Final = "subject mean"
SUBJECT_MEDIAN: Final = "subject median"


@dataclass(frozen=True)
class SubjectConfusions:
    """Confusion matrices of the subjects of one protocol.

    Parameters
    ----------
    subjects
        Subjects, in the order of the first axis.
    seeds
        Seeds, in the order of the second axis.
    counts
        (subjects, seeds, stages, stages), rows truth; all zero where a subject was not tested.
    """

    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    counts: Counts = field(repr=False)

    def select(self, subjects: Sequence[str]) -> Counts:
        """Return the matrices of some subjects, in the order in which they are named."""
        row = {name: i for i, name in enumerate(self.subjects)}
        return self.counts[[row[name] for name in subjects]]


def arrange_by_subject(
    matrices: Mapping[tuple[str, int], Counts], stages: int
) -> SubjectConfusions:
    """Arrange matrices, given by subject and seed, in one array."""
    subjects = tuple(sorted({subject for subject, _ in matrices}))
    seeds = tuple(sorted({seed for _, seed in matrices}))
    counts = np.zeros((len(subjects), len(seeds), stages, stages), np.int64)
    for (subject, seed), matrix in matrices.items():
        counts[subjects.index(subject), seeds.index(seed)] = matrix
    return SubjectConfusions(subjects, seeds, counts)


def all_metrics(matrices: metrics.Matrix) -> Values:
    """Compute every metric of matrices (..., stages, stages): (..., names) as in `metric_names`."""
    overall = [metric(matrices)[..., None] for metric in metrics.OVERALL_METRICS.values()]
    of_stages = [metric(matrices) for metric in metrics.STAGE_METRICS.values()]
    return np.concatenate([*overall, *of_stages], -1)


def metric_names(stages: Sequence[str]) -> list[tuple[str, str | None]]:
    """Metric and stage (None: over all stages) of each number of `all_metrics`."""
    return [
        *((name, None) for name in metrics.OVERALL_METRICS),
        *((name, stage) for name in metrics.STAGE_METRICS for stage in stages),
    ]


def _over_seeds(values: Values) -> Values:
    """Average (..., seeds, names) over the seeds; NaN is left out."""
    defined = ~np.isnan(values)
    count = defined.sum(-2)
    average = np.full(count.shape, np.nan)
    np.divide(np.where(defined, values, 0).sum(-2), count, out=average, where=count > 0)
    return average


def pooled_statistic(counts: Counts) -> Statistic:
    """Make a statistic: every metric of the subjects' pooled epochs, averaged over seeds."""
    return lambda weights: _over_seeds(all_metrics(np.tensordot(weights, counts, 1)))


def interval_table(confusions: SubjectConfusions, stages: Sequence[str]) -> pl.DataFrame:
    """Compute every metric of a protocol with its interval.

    Returns
    -------
    table
        level ("pooled", "subject mean", "subject median"), metric, stage (null over all stages),
        value, low, high (null where there is no interval, as for medians), seed_sd (of the value,
        null with one seed), seeds, subjects (how many have a value).
    """
    import polars as pl

    by_subject_and_seed = all_metrics(confusions.counts)  # (subjects, seeds, names)
    by_subject = _over_seeds(by_subject_and_seed)
    by_seed = all_metrics(confusions.counts.sum(0))  # (seeds, names)
    count = len(confusions.subjects)
    nothing = np.full(by_subject.shape[1], np.nan)
    levels = {
        POOLED: (
            bootstrap.bootstrap_interval(pooled_statistic(confusions.counts), count),
            _sd(by_seed),
        ),
        SUBJECT_MEAN: (
            bootstrap.bootstrap_interval(bootstrap.mean_statistic(by_subject), count),
            _sd(_over_seeds(by_subject_and_seed.swapaxes(0, 1))),
        ),
        SUBJECT_MEDIAN: (Bounds(_medians(by_subject), nothing, nothing), nothing),
    }
    defined = (~np.isnan(by_subject)).sum(0)
    rows = [
        (level, *name, *map(float, numbers), len(confusions.seeds), int(subjects))
        for level, (bounds, sd) in levels.items()
        for name, *numbers, subjects in zip(metric_names(stages), *bounds, sd, defined, strict=True)
    ]
    schema = {
        "level": pl.String,
        "metric": pl.String,
        "stage": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "seed_sd": pl.Float64,
        "seeds": pl.Int64,
        "subjects": pl.Int64,
    }
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def find_interval(
    table: pl.DataFrame, metric: str, *, stage: str | None = None, level: str = POOLED
) -> Interval:
    """Look up a metric with its 95 % interval in an `interval_table`; NaN where it has none."""
    import polars as pl

    row = table.filter(
        pl.col("stage").eq_missing(pl.lit(stage, pl.String)), metric=metric, level=level
    )
    ends = (row[name][0] for name in Interval._fields)
    return Interval(*(float("nan") if end is None else end for end in ends))


def _medians(values: Values) -> Values:
    """Median of each column of (subjects, names) without its NaN; NaN where nothing is defined."""
    medians = np.full(values.shape[1], np.nan)
    for i, column in enumerate(values.T):
        if len(defined := column[~np.isnan(column)]):
            medians[i] = np.median(defined)
    return medians


def _sd(values: Values) -> Values:
    """Sample standard deviation of (seeds, names) over the seeds; NaN with one."""
    if len(values) < 2:  # noqa: PLR2004
        return np.full(values.shape[1], np.nan)
    spread: Values = values.std(0, ddof=1)
    return spread


def metric_differences(
    first: SubjectConfusions, second: SubjectConfusions, stages: Sequence[str]
) -> pl.DataFrame:
    """Second less first, pooled over the subjects of both, with intervals over these subjects.

    Returns
    -------
    table
        metric, stage, value, low, high, subjects.
    """
    import polars as pl

    shared = sorted({*first.subjects} & {*second.subjects})
    minuend, subtrahend = (pooled_statistic(c.select(shared)) for c in (second, first))
    bounds = bootstrap.bootstrap_interval(lambda w: minuend(w) - subtrahend(w), len(shared))
    rows = [
        (*name, *map(float, numbers), len(shared))
        for name, *numbers in zip(metric_names(stages), *bounds, strict=True)
    ]
    columns = ["metric", "stage", "value", "low", "high", "subjects"]
    return pl.DataFrame(rows, columns, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


@dataclass(frozen=True)
class ComparedRun:
    """A run under one protocol, to be compared with others.

    Parameters
    ----------
    name
        Name of the run.
    protocol
        Protocol of the matrices.
    confusions
        Confusion matrices of its subjects.
    """

    name: str
    protocol: str
    confusions: SubjectConfusions


def compare_runs(runs: Sequence[ComparedRun]) -> pl.DataFrame:
    """Compare runs two by two, on the subjects that both tested.

    Returns
    -------
    table
        first, second (runs), protocol (of both, or "leak-free / best-on-test"), metric, subjects,
        value, low, high (mean over subjects of second less first), better, worse (subjects), p
        (Wilcoxon), p_holm (adjusted for all rows), pooled, pooled_low, pooled_high (of the pooled
        metric), same_epochs (whether the subjects were tested on as many epochs of each stage).
    """
    import polars as pl

    rows = [row for i, a in enumerate(runs) for b in runs[i + 1 :] for row in _compare_two(a, b)]
    adjusted = bootstrap.holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted.tolist(), strict=True):
        row["p_holm"] = p
    return pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))


def _compare_two(a: ComparedRun, b: ComparedRun) -> Iterator[dict[str, Any]]:
    shared = sorted({*a.confusions.subjects} & {*b.confusions.subjects})
    if not shared:
        return
    counts = a.confusions.select(shared), b.confusions.select(shared)
    same_epochs = np.array_equal(*(c[:, 0].sum(-1) for c in counts))
    for name in metrics.COMPARED:
        metric = metrics.OVERALL_METRICS[name]
        by_subject = (_over_seeds(metric(c)[..., None])[..., 0] for c in counts)
        paired = bootstrap.paired_comparison(*by_subject)

        def pooled_difference(weights: metrics.Matrix, metric: metrics.Metric = metric) -> Values:
            first, second = (metric(np.tensordot(weights, c, 1)).mean(-1) for c in counts)
            difference: Values = second - first
            return difference

        pooled = bootstrap.bootstrap_interval(pooled_difference, len(shared))
        yield {
            "first": a.name,
            "second": b.name,
            "protocol": a.protocol if a.protocol == b.protocol else f"{a.protocol} / {b.protocol}",
            "metric": name,
            "subjects": paired.subjects,
            **paired.difference._asdict(),
            "better": paired.better,
            "worse": paired.worse,
            "p": paired.p,
            "p_holm": paired.p,
            "pooled": float(pooled.value),
            "pooled_low": float(pooled.low),
            "pooled_high": float(pooled.high),
            "same_epochs": same_epochs,
        }
