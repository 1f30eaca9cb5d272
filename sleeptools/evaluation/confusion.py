"""Confusion matrices of a run at every level: all epochs, each fold, each subject, each night."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from sleeptools.evaluation import metrics, subject_metrics
from sleeptools.evaluation.metrics import Counts, Values
from sleeptools.evaluation.subject_metrics import SubjectConfusions

if TYPE_CHECKING:
    import polars as pl

LEVEL_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "pooled": (),
    "fold": ("fold",),
    "subject": ("fold", "subject"),
    "recording": ("fold", "subject", "recording"),
}
"""Level to the columns that tell its matrices apart, beside protocol and seed."""
KEY_COLUMNS: Final = ("protocol", "seed", "fold", "recording", "subject")
"""Columns of the tidy table that say which epochs a number is about."""
VALUE_COLUMNS: Final = ("value", "low", "high", "seed_sd")
"""Columns of the tidy table with the number, its interval, and its spread over the seeds."""


class LevelConfusions(NamedTuple):
    """The confusion matrices of one level.

    Parameters
    ----------
    level
        One of `LEVEL_COLUMNS`.
    keys
        One per matrix: protocol, seed, and the values of the level's columns.
    matrices
        (keys, stages, stages), rows truth.
    """

    level: str
    keys: list[tuple[Any, ...]]
    matrices: Counts


@dataclass(frozen=True)
class PooledConfusions:
    """The confusion matrices of one protocol, pooled over its folds.

    Parameters
    ----------
    seeds
        Seeds, in the order of the first axis.
    matrices
        (seeds, stages, stages), rows truth.
    """

    seeds: tuple[int, ...]
    matrices: Counts = field(repr=False)

    @property
    def summed(self) -> Counts:
        """(stages, stages): the sum over the seeds."""
        total: Counts = self.matrices.sum(0)
        return total

    @property
    def support(self) -> Counts:
        """(stages,) true epochs, of the seed with the most: a complete run has as many in each."""
        return metrics.support(max(self.matrices, key=np.sum))

    def overall_metrics(self) -> dict[str, float]:
        """Metrics over all stages, averaged over the seeds."""
        by_seed = [metrics.overall_metrics(matrix) for matrix in self.matrices]
        return {name: float(np.mean([m[name] for m in by_seed])) for name in metrics.OVERALL}

    def stage_metrics(self) -> dict[str, Values]:
        """Metrics of each stage (stages,), averaged over the seeds."""
        by_seed = [metrics.stage_metrics(matrix) for matrix in self.matrices]
        return {
            name: metrics.mean_over_arrays([m[name] for m in by_seed]) for name in metrics.PER_STAGE
        }


def count_confusions(
    tested: pl.DataFrame, stages: int, *, mixed: bool = False
) -> dict[str, LevelConfusions]:
    """Count the confusion matrices of every level.

    Parameters
    ----------
    tested
        Predictions of test epochs.
    stages
        Number of stages.
    mixed
        Whether folds share subjects; the fold of a subject or a night is then None.
    """
    import polars as pl

    confusions = {}
    for level, columns in LEVEL_COLUMNS.items():
        shared = mixed and "subject" in columns
        names = ["protocol", "seed", *(c for c in columns if not (shared and c == "fold"))]
        pairs = tested.group_by([*names, "stage", "predicted"], maintain_order=True).agg(pl.len())
        keys = pairs.select(names).unique(maintain_order=True)
        rows = pairs.join(keys.with_row_index("row"), on=names, how="left", maintain_order="left")
        matrices = np.zeros((len(keys), stages, stages), np.int64)
        index = tuple(rows[c].to_numpy() for c in ("row", "stage", "predicted"))
        matrices[index] = rows["len"].to_numpy()
        tuples = [(*key[:2], None, *key[2:]) for key in keys.rows()] if shared else keys.rows()
        confusions[level] = LevelConfusions(level, tuples, matrices)
    return confusions


def pooled_by_protocol(confusions: Mapping[str, LevelConfusions]) -> dict[str, PooledConfusions]:
    """Gather the pooled matrices of each protocol, one per seed."""
    _, keys, matrices = confusions["pooled"]
    return {
        protocol: PooledConfusions(
            tuple(seed for name, seed in keys if name == protocol),
            matrices[[name == protocol for name, _ in keys]],
        )
        for protocol in dict.fromkeys(name for name, _ in keys)
    }


def confusions_by_subject(
    confusions: Mapping[str, LevelConfusions], stages: int
) -> dict[str, SubjectConfusions]:
    """Gather the matrices of each protocol's subjects, added up over the folds of a subject."""
    _, keys, matrices = confusions["subject"]
    by_protocol: dict[str, dict[tuple[str, int], Counts]] = {}
    for (protocol, seed, _, subject), matrix in zip(keys, matrices, strict=True):
        sums = by_protocol.setdefault(protocol, {})
        sums[subject, seed] = sums.get((subject, seed), 0) + matrix
    return {
        protocol: subject_metrics.arrange_by_subject(sums, stages)
        for protocol, sums in by_protocol.items()
    }


def tidy_metrics(
    run: str,
    confusions: Mapping[str, LevelConfusions],
    intervals: Mapping[str, pl.DataFrame],
    stages: Sequence[str],
) -> pl.DataFrame:
    """Lay out every metric of every level, one row each.

    Parameters
    ----------
    run
        Name of the run.
    confusions
        Confusion matrices as `count_confusions` gives them.
    intervals
        `subject_metrics.interval_table` by protocol: the rows without a seed, means over seeds.
    stages
        Stage names.

    Returns
    -------
    table
        run, protocol, seed, fold, recording, subject, level, metric, stage, value, low, high,
        seed_sd.
    """
    import polars as pl

    text, number, real = pl.String, pl.Int64, pl.Float64
    schema = {
        "run": text,
        "protocol": text,
        "seed": number,
        "fold": number,
        "recording": text,
        "subject": text,
        "level": text,
        "metric": text,
        "stage": text,
    } | dict.fromkeys(VALUE_COLUMNS, real)
    rows: list[tuple[Any, ...]] = []
    for level, keys, matrices in confusions.values():
        columns = list(_metric_columns(matrices, stages))
        for i, key in enumerate(keys):
            named = dict(zip(("protocol", "seed", *LEVEL_COLUMNS[level]), key, strict=True))
            origin = (run, *(named.get(column) for column in KEY_COLUMNS), level)
            rows += [
                (*origin, metric, stage, float(values[i]), None, None, None)
                for metric, stage, values in columns
            ]
    table = pl.DataFrame(rows, schema, orient="row").with_columns(pl.col("value").fill_nan(None))
    over_seeds = [
        interval_table.select(
            pl.lit(run).alias("run"),
            pl.lit(protocol).alias("protocol"),
            *(pl.lit(None, schema[column]).alias(column) for column in KEY_COLUMNS[1:]),
            "level",
            "metric",
            "stage",
            *VALUE_COLUMNS,
        )
        for protocol, interval_table in intervals.items()
    ]
    return pl.concat([table, *over_seeds])


def _metric_columns(
    matrices: Counts, stages: Sequence[str]
) -> Iterator[tuple[str, str | None, Values]]:
    """Give metric, stage and values (keys,) of every number that `tidy_metrics` lays out."""
    for name, metric in metrics.OVERALL_METRICS.items():
        yield name, None, metric(matrices)
    yield "epochs", None, matrices.sum((1, 2)).astype(float)
    yield "stages", None, (metrics.support(matrices) > 0).sum(-1).astype(float)
    of_stages = {name: metric(matrices) for name, metric in metrics.STAGE_METRICS.items()}
    of_stages["epochs"] = metrics.support(matrices).astype(float)
    for name, values in of_stages.items():
        yield from ((name, stage, values[:, i]) for i, stage in enumerate(stages))


def subject_table(
    confusions: Mapping[str, LevelConfusions], tested: pl.DataFrame, stages: Sequence[str]
) -> pl.DataFrame:
    """Lay out the metrics of the subjects, a row per protocol, seed and subject.

    Returns
    -------
    table
        protocol, seed, fold (null where folds share subjects), subject, nights, epochs, stages (how
        many stages a mean is over), the overall metrics, and `f1_STAGE`; NaN where undefined.
    """
    import polars as pl

    _, keys, matrices = confusions["subject"]
    types = {"protocol": pl.String, "seed": pl.Int64, "fold": pl.Int64, "subject": pl.String}
    columns: dict[str, Any] = {
        "epochs": matrices.sum((1, 2)),
        "stages": (metrics.support(matrices) > 0).sum(-1),
    }
    columns |= {name: metrics.OVERALL_METRICS[name](matrices) for name in metrics.OVERALL}
    f1 = metrics.f1(matrices)
    columns |= {f"f1_{name}": f1[:, i] for i, name in enumerate(stages)}
    subjects = ["protocol", "seed", "subject"]
    nights = tested.group_by(subjects).agg(pl.col("recording").n_unique().alias("nights"))
    table = pl.DataFrame(keys, types, orient="row").hstack(pl.DataFrame(columns))
    table = table.join(nights, on=subjects, how="left", maintain_order="left")
    return table.select(*types, "nights", pl.exclude(*types, "nights"))
