"""A confusion matrix for everything there is to look at: all epochs, a fold, a subject, a night."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from sleeptools.evaluation import metrics, subject_metrics
from sleeptools.evaluation.metrics import Counts
from sleeptools.evaluation.subject_metrics import Cube

if TYPE_CHECKING:
    import polars as pl

LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "pooled": (),
    "fold": ("fold",),
    "subject": ("fold", "subject"),
    "recording": ("fold", "subject", "recording"),
}
"""What is pooled at each level, and the columns of the tidy table that are filled there."""
PLACE: Final = ("protocol", "seed", "fold", "recording", "subject")
VALUES: Final = ("value", "low", "high", "seed_sd")
Key = tuple[str, int]
"""Protocol and seed."""


class Counted(NamedTuple):
    """The matrices of one level.

    Parameters
    ----------
    level
        Of `LEVELS`.
    places
        One per matrix: protocol, seed, and the values of the level's columns.
    matrices
        (places, stages, stages), rows truth.
    """

    level: str
    places: list[tuple[Any, ...]]
    matrices: Counts


def count(tested: pl.DataFrame, stages: int, *, mixed: bool = False) -> dict[str, Counted]:
    """Count the matrices of every level.

    Parameters
    ----------
    tested
        Test predictions.
    stages
        Their number.
    mixed
        Whether folds share subjects: a subject or a night then has no fold, but None.
    """
    import polars as pl

    found = {}
    for level, columns in LEVELS.items():
        shared = mixed and "subject" in columns
        keys = ["protocol", "seed", *(c for c in columns if not (shared and c == "fold"))]
        pairs = tested.group_by([*keys, "stage", "predicted"], maintain_order=True).agg(pl.len())
        places = pairs.select(keys).unique(maintain_order=True)
        rows = pairs.join(places.with_row_index("row"), on=keys, how="left", maintain_order="left")
        matrices = np.zeros((len(places), stages, stages), np.int64)
        at = tuple(rows[c].to_numpy() for c in ("row", "stage", "predicted"))
        matrices[at] = rows["len"].to_numpy()
        where = [(*p[:2], None, *p[2:]) for p in places.rows()] if shared else places.rows()
        found[level] = Counted(level, where, matrices)
    return found


def cubes(counted: Mapping[str, Counted], stages: int) -> dict[str, Cube]:
    """Matrices of the subjects, by protocol."""
    found: dict[str, dict[tuple[str, int], Counts]] = {}
    of = counted["subject"]
    for (protocol, seed, _, subject), matrix in zip(of.places, of.matrices, strict=True):
        mine = found.setdefault(protocol, {})
        mine[subject, seed] = mine.get((subject, seed), 0) + matrix
    return {protocol: subject_metrics.cube(mine, stages) for protocol, mine in found.items()}


def tidy(
    run: str,
    counted: Mapping[str, Counted],
    with_intervals: Mapping[str, pl.DataFrame],
    stages: Sequence[str],
) -> pl.DataFrame:
    """Lay out every metric of every level, a row each.

    Parameters
    ----------
    run
        Name.
    counted
        Of `count`.
    with_intervals
        `subject_metrics.table` by protocol: the rows without a seed, which are means over seeds.
    stages
        Names.

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
    } | dict.fromkeys(VALUES, real)
    rows: list[tuple[Any, ...]] = []
    for level, places, matrices in counted.values():
        columns = list(_values(matrices, stages))
        for i, where in enumerate(places):
            place = dict(zip(("protocol", "seed", *LEVELS[level]), where, strict=True))
            at = (run, *(place.get(column) for column in PLACE), level)
            rows += [(*at, *name, float(of[i]), None, None, None) for *name, of in columns]
    table = pl.DataFrame(rows, schema, orient="row").with_columns(pl.col("value").fill_nan(None))
    over_seeds = [
        found.select(
            pl.lit(run).alias("run"),
            pl.lit(protocol).alias("protocol"),
            *(pl.lit(None, schema[c]).alias(c) for c in PLACE[1:]),
            "level",
            "metric",
            "stage",
            *VALUES,
        )
        for protocol, found in with_intervals.items()
    ]
    return pl.concat([table, *over_seeds])


def _values(
    matrices: Counts, stages: Sequence[str]
) -> Iterator[tuple[str, str | None, metrics.Values]]:
    """Metric, stage and values (places,) of everything there is to say about matrices."""
    for name, of in metrics.OF_ALL.items():
        yield name, None, of(matrices)
    yield "epochs", None, matrices.sum((1, 2)).astype(float)
    yield "stages", None, (metrics.support(matrices) > 0).sum(-1).astype(float)
    each = {name: of(matrices) for name, of in metrics.OF_STAGE.items()}
    each["epochs"] = metrics.support(matrices).astype(float)
    for name, values in each.items():
        yield from ((name, stage, values[:, i]) for i, stage in enumerate(stages))


def subjects(
    counted: Mapping[str, Counted], tested: pl.DataFrame, stages: Sequence[str]
) -> pl.DataFrame:
    """Lay out the subjects: a row per protocol, seed and subject.

    Returns
    -------
    table
        protocol, seed, fold (null where folds share subjects), subject, nights, epochs, stages (how
        many a mean over stages is over), the overall metrics, and `f1_STAGE`; NaN where undefined.
    """
    import polars as pl

    keys = ["protocol", "seed", "fold", "subject"]
    types = {"protocol": pl.String, "seed": pl.Int64, "fold": pl.Int64, "subject": pl.String}
    of = counted["subject"]
    columns: dict[str, Any] = {
        "epochs": of.matrices.sum((1, 2)),
        "stages": (metrics.support(of.matrices) > 0).sum(-1),
    }
    columns |= {name: metrics.OF_ALL[name](of.matrices) for name in metrics.OVERALL}
    f1 = metrics.f1(of.matrices)
    columns |= {f"f1_{name}": f1[:, i] for i, name in enumerate(stages)}
    places = pl.DataFrame(of.places, types, orient="row")
    who = ["protocol", "seed", "subject"]
    nights = tested.group_by(who).agg(pl.col("recording").n_unique().alias("nights"))
    table = places.hstack(pl.DataFrame(columns))
    table = table.join(nights, on=who, how="left", maintain_order="left")
    return table.select(*keys, "nights", pl.exclude(*keys, "nights"))
