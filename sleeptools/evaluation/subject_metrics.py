"""Metrics of subjects with 95 % intervals, and the differences of two results by subject.

`Cube` holds a confusion matrix per subject and seed. A pooled metric sums the matrices of the
subjects, as the papers do; a "subject mean" is the mean of the subjects' own values, in which a
subject with two nights counts as much as one with one. Seeds are averaged inside the statistic and
never drawn: their spread (`seed_sd`) is another kind of uncertainty and stands beside the interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.evaluation import bootstrap, metrics
from sleeptools.evaluation.bootstrap import Bounds, Statistic
from sleeptools.evaluation.metrics import Counts, Values

if TYPE_CHECKING:
    import polars as pl

POOLED: Final = "pooled"
SUBJECT_MEAN: Final = "subject mean"
SUBJECT_MEDIAN: Final = "subject median"
COMPARED: Final = ("accuracy", "macro_f1", "kappa")
"""Metrics in which two results are compared."""


@dataclass(frozen=True)
class Cube:
    """Confusion matrices of the subjects of one protocol.

    Parameters
    ----------
    subjects
        In the order of the first axis.
    seeds
        In the order of the second.
    counts
        (subjects, seeds, stages, stages), rows truth; all zero where a subject was not tested.
    """

    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    counts: Counts = field(repr=False)

    def of(self, subjects: Sequence[str]) -> Counts:
        """Matrices of some subjects, in the order given."""
        place = {name: i for i, name in enumerate(self.subjects)}
        return self.counts[[place[name] for name in subjects]]


def cube(matrices: Mapping[tuple[str, int], Counts], stages: int) -> Cube:
    """Arrange matrices by (subject, seed)."""
    subjects = tuple(sorted({s for s, _ in matrices}))
    seeds = tuple(sorted({seed for _, seed in matrices}))
    counts = np.zeros((len(subjects), len(seeds), stages, stages), np.int64)
    for (subject, seed), matrix in matrices.items():
        counts[subjects.index(subject), seeds.index(seed)] = matrix
    return Cube(subjects, seeds, counts)


def every(matrices: metrics.Matrix) -> Values:
    """Compute all metrics of matrices (..., stages, stages): (..., names), as in `names`."""
    whole = [of(matrices)[..., None] for of in metrics.OF_ALL.values()]
    parts = [of(matrices) for of in metrics.OF_STAGE.values()]
    return np.concatenate([*whole, *parts], -1)


def names(stages: Sequence[str]) -> list[tuple[str, str | None]]:
    """Metric and stage of each number of `every`."""
    return [
        *((name, None) for name in metrics.OF_ALL),
        *((name, stage) for name in metrics.OF_STAGE for stage in stages),
    ]


def _over_seeds(values: Values) -> Values:
    """Average (..., seeds, names) over the seeds; NaN is left out."""
    known = ~np.isnan(values)
    count = known.sum(-2)
    out = np.full(count.shape, np.nan)
    np.divide(np.where(known, values, 0).sum(-2), count, out=out, where=count > 0)
    return out


def pooled(counts: Counts) -> Statistic:
    """Make a statistic: every metric of the subjects' pooled epochs, averaged over seeds."""
    return lambda weights: _over_seeds(every(np.tensordot(weights, counts, 1)))


def table(found: Cube, stages: Sequence[str]) -> pl.DataFrame:
    """Compute every metric of a protocol with its interval.

    Returns
    -------
    table
        level ("pooled", "subject mean", "subject median"), metric, stage (null over all stages),
        value, low, high (null where there is no interval, as for medians), seed_sd (of the value,
        null with one seed), seeds, subjects (how many have a value).
    """
    import polars as pl

    each = every(found.counts)  # (subjects, seeds, names)
    own = _over_seeds(each)
    count = len(found.subjects)
    by_seed = every(found.counts.sum(0))  # (seeds, names)
    median = np.full(own.shape[1], np.nan)
    for i, column in enumerate(own.T):
        if len(known := column[~np.isnan(column)]):
            median[i] = np.median(known)
    nothing = np.full(own.shape[1], np.nan)
    levels = {
        POOLED: (bootstrap.bootstrap(pooled(found.counts), count), _sd(by_seed)),
        SUBJECT_MEAN: (
            bootstrap.bootstrap(bootstrap.mean(own), count),
            _sd(_over_seeds(each.swapaxes(0, 1))),
        ),
        SUBJECT_MEDIAN: (Bounds(median, nothing, nothing), nothing),
    }
    rows = [
        (level, *name, *(float(x) for x in numbers), len(found.seeds), int(known))
        for level, (bounds, sd) in levels.items()
        for name, *numbers, known in zip(
            names(stages), *bounds, sd, (~np.isnan(own)).sum(0), strict=True
        )
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


def _sd(values: Values) -> Values:
    """Sample standard deviation of (seeds, names) over the seeds; NaN with one."""
    if len(values) < 2:  # noqa: PLR2004
        return np.full(values.shape[1], np.nan)
    spread: Values = values.std(0, ddof=1)
    return spread


def difference(first: Cube, second: Cube, stages: Sequence[str]) -> pl.DataFrame:
    """Second less first, pooled over the subjects of both, with intervals over these subjects.

    Returns
    -------
    table
        metric, stage, value, low, high, subjects.
    """
    import polars as pl

    both = sorted({*first.subjects} & {*second.subjects})
    one, other = pooled(first.of(both)), pooled(second.of(both))
    bounds = bootstrap.bootstrap(lambda w: other(w) - one(w), len(both))
    rows = [
        (*name, *map(float, numbers), len(both))
        for name, *numbers in zip(names(stages), *bounds, strict=True)
    ]
    columns = ["metric", "stage", "value", "low", "high", "subjects"]
    return pl.DataFrame(rows, columns, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


@dataclass(frozen=True)
class Result:
    """What is compared with others: a run under one protocol.

    Parameters
    ----------
    run
        Name.
    protocol
        Of the cube.
    cube
        Its subjects.
    """

    run: str
    protocol: str
    cube: Cube


def compare(results: Sequence[Result]) -> pl.DataFrame:
    """Compare results two by two, on the subjects that both have.

    Returns
    -------
    table
        first, second (runs), protocol (of both, or "leak-free / best-on-test"), metric, subjects,
        value, low, high (mean over subjects of second less first), better, worse (subjects), p
        (Wilcoxon), p_holm (adjusted for all rows), pooled, pooled_low, pooled_high (of the pooled
        metric), same_epochs (whether the subjects were tested on as many epochs of each stage).
    """
    import polars as pl

    rows = [row for i, a in enumerate(results) for b in results[i + 1 :] for row in _pair(a, b)]
    adjusted = bootstrap.holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted.tolist(), strict=True):
        row["p_holm"] = p
    return pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))


def _pair(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    both = sorted({*a.cube.subjects} & {*b.cube.subjects})
    if not both:
        return
    one, other = a.cube.of(both), b.cube.of(both)
    same = np.array_equal(one[:, 0].sum(-1), other[:, 0].sum(-1))
    for name in COMPARED:
        of = metrics.OF_ALL[name]
        found = bootstrap.paired(*(_over_seeds(of(c)[..., None])[..., 0] for c in (one, other)))

        def apart(weights: metrics.Matrix, of: metrics.Metric = of) -> Values:
            first, second = (np.tensordot(weights, c, 1) for c in (one, other))
            value: Values = of(second).mean(-1) - of(first).mean(-1)
            return value

        whole = bootstrap.bootstrap(apart, len(both))
        yield {
            "first": a.run,
            "second": b.run,
            "protocol": a.protocol if a.protocol == b.protocol else f"{a.protocol} / {b.protocol}",
            "metric": name,
            "subjects": found.subjects,
            **found.difference._asdict(),
            "better": found.better,
            "worse": found.worse,
            "p": found.p,
            "p_holm": found.p,
            "pooled": float(whole.value),
            "pooled_low": float(whole.low),
            "pooled_high": float(whole.high),
            "same_epochs": same,
        }
