"""The numbers of a run, from its saved predictions: pooled, per fold, per subject, per night.

The headline pools the test epochs of all folds under one protocol and seed, as the papers do
(10.3389/fnins.2022.973761), and the subjects stand beside it, because the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeptools import folds, metrics, runs, store
from sleeptools.errors import DataError
from sleeptools.metrics import Counts
from sleeptools.runs import Run

if TYPE_CHECKING:
    import polars as pl

KIND = "sleeptools-metrics"
VERSION = 1
LEVELS: Mapping[str, tuple[str, ...]] = {
    "pooled": (),
    "fold": ("fold",),
    "subject": ("fold", "subject"),
    "recording": ("fold", "subject", "recording"),
}
"""What is pooled at each level, and the columns of the tidy table that are filled there."""
PLACE = ("protocol", "seed", "fold", "recording", "subject")
Key = tuple[str, int]
"""Protocol and seed."""


@dataclass(frozen=True)
class Evaluation:
    """What came out of a run.

    Parameters
    ----------
    run
        The run folder.
    table
        Tidy: run, protocol, seed, fold, recording, subject, metric, stage, value; the columns that
        say where are null above their level, `stage` is null for the metrics over all stages.
        Fractions of 1, except the counts `epochs` and `stages` (in the truth).
    confusions
        Per protocol and seed: (stages, stages) pooled over folds, rows truth.
    subjects
        One row per protocol, seed and subject: fold (null where folds share subjects), nights,
        epochs, stages (how many the means over stages are over), the overall metrics, and
        `f1_STAGE`.
    leakage
        One line: what was checked about subjects on two sides of a fold, and what was found.
    notes
        What a reader must know before believing a number; one sentence each.
    """

    run: Run
    table: pl.DataFrame = field(repr=False)
    confusions: Mapping[Key, Counts] = field(repr=False)
    subjects: pl.DataFrame = field(repr=False)
    leakage: str
    notes: tuple[str, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, in the order of the confusion matrices."""
        return self.run.stages

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that were evaluated, the run's first one first."""
        return tuple(dict.fromkeys(protocol for protocol, _ in self.confusions))

    def pooled(self, protocol: str) -> dict[str, float]:
        """Overall metrics pooled over folds, averaged over the seeds of a protocol."""
        each = [metrics.overall(m) for m in self._matrices(protocol)]
        return {name: float(np.mean([one[name] for one in each])) for name in metrics.OVERALL}

    def per_stage(self, protocol: str) -> dict[str, metrics.Values]:
        """Metrics of each stage pooled over folds, averaged over seeds as in `pooled`."""
        each = [metrics.per_stage(m) for m in self._matrices(protocol)]
        return {k: metrics.mean([one[k] for one in each]) for k in metrics.PER_STAGE}

    def support(self, protocol: str) -> Counts:
        """(stages,) true epochs, of the seed that has most: the same for all in a whole run."""
        return metrics.support(max(self._matrices(protocol), key=np.sum))

    def seeds(self, protocol: str) -> int:
        """Count the seeds of a protocol."""
        return len(self._matrices(protocol))

    def _matrices(self, protocol: str) -> list[Counts]:
        return [m for (p, _), m in self.confusions.items() if p == protocol]

    def matrix(self, protocol: str) -> Counts:
        """(stages, stages) confusion matrix of a protocol, summed over its seeds."""
        total: Counts = np.sum(self._matrices(protocol), axis=0)
        return total

    def difference(self) -> dict[str, float]:
        """Subtract leak-free from best-on-test: what choosing on the test fold gains.

        Empty unless both protocols have finished the same folds with the same seeds.
        """
        done = [
            {(t.seed, t.fold) for t in self.run.done if t.protocol == p} for p in folds.PROTOCOLS
        ]
        if not done[0] or done[0] != done[1]:
            return {}
        low, high = self.pooled(folds.LEAK_FREE), self.pooled(folds.BEST_ON_TEST)
        return {name: high[name] - low[name] for name in metrics.OVERALL}

    def as_json(self) -> dict[str, object]:
        """Facts for `--json`; the keys are stable, NaN is null."""
        return {
            "format": KIND,
            "version": VERSION,
            "run": self.run.name,
            "model": self.run.model,
            "stages": list(self.stages),
            "simulated": self.run.simulated,
            "complete": not self.run.missing,
            "missing": [str(t) for t in self.run.missing],
            "leakage": self.leakage,
            "notes": list(self.notes),
            "results": [self._result(key, matrix) for key, matrix in self.confusions.items()],
            "difference": _nulled(self.difference()),
        }

    def _result(self, key: Key, matrix: Counts) -> dict[str, object]:
        import polars as pl

        protocol, seed = key
        mine = self.subjects.filter((pl.col("protocol") == protocol) & (pl.col("seed") == seed))
        each = metrics.per_stage(matrix) | {"epochs": metrics.support(matrix)}
        return {
            "protocol": protocol,
            "seed": seed,
            "optimistic": protocol == folds.BEST_ON_TEST,
            "folds": self.run.count(protocol, seed),
            "subjects": len(mine),
            "recordings": int(mine["nights"].sum()),
            "epochs": int(matrix.sum()),
            "macro_over_stages": metrics.present(matrix),
            "metrics": _nulled(metrics.overall(matrix)),
            "per_stage": {
                name: _nulled({k: v[i].item() for k, v in each.items()})
                for i, name in enumerate(self.stages)
            },
            "confusion": matrix.tolist(),
            "per_subject": [_nulled(r) for r in mine.drop("protocol", "seed").to_dicts()],
        }


def _nulled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if v != v else v for k, v in values.items()}  # noqa: PLR0124 - NaN


def compute(run: Run) -> Evaluation:
    """Compute every number of a run from its test predictions.

    Raises
    ------
    DataError
        If predictions are damaged or do not fit the folds, or a subject is on two sides of a fold.
    """
    leakage = _leakage(run)
    tested = runs.predictions(run)
    keys: list[Key] = tested.select("protocol", "seed").unique(maintain_order=True).rows()
    counted = list(_confusions(_places(run, tested), run.stages))
    pooled = {where[:2]: m for level, where, m in counted if level == "pooled"}
    return Evaluation(
        run, _tidy(counted, run), {key: pooled[key] for key in keys},
        _per_subject(counted, tested, run.stages), leakage,
        (*_notes(run), *_absent(pooled, run.stages)),
    )  # fmt: skip


Counted = tuple[str, tuple[Any, ...], Counts]
"""Level, the values of protocol, seed and the level's columns, and the confusion matrix there."""


def _places(run: Run, tested: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """Give the predictions for each level; where folds share subjects, these have no fold."""
    import polars as pl

    whole = tested.with_columns(pl.lit(None, pl.Int64).alias("fold")) if run.mixed else tested
    return {level: whole if "subject" in at else tested for level, at in LEVELS.items()}


def _confusions(tested: Mapping[str, pl.DataFrame], stages: Sequence[str]) -> Iterator[Counted]:
    """Count a confusion matrix for every group of every level."""
    import polars as pl

    for level, columns in LEVELS.items():
        keys = ["protocol", "seed", *columns]
        pairs = (
            tested[level].group_by([*keys, "stage", "predicted"], maintain_order=True).agg(pl.len())
        )
        for where, part in pairs.partition_by(keys, as_dict=True, maintain_order=True).items():
            matrix = np.zeros((len(stages), len(stages)), np.int64)
            matrix[part["stage"].to_numpy(), part["predicted"].to_numpy()] = part["len"].to_numpy()
            yield level, where, matrix


def _tidy(counted: Sequence[Counted], run: Run) -> pl.DataFrame:
    import polars as pl

    text, number = pl.String, pl.Int64
    schema = {
        "run": text, "protocol": text, "seed": number, "fold": number, "recording": text,
        "subject": text, "metric": text, "stage": text, "value": pl.Float64,
    }  # fmt: skip
    rows = []
    for level, where, matrix in counted:
        place = dict(zip(("protocol", "seed", *LEVELS[level]), where, strict=True))
        at = tuple(place.get(column) for column in PLACE)
        rows += [(run.name, *at, *value) for value in _values(matrix, run.stages)]
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.col("value").fill_nan(None))


def _values(matrix: Counts, stages: Sequence[str]) -> Iterator[tuple[str, str | None, float]]:
    """Metric, stage and value of everything there is to say about one matrix."""
    for name, value in metrics.overall(matrix).items():
        yield name, None, value
    yield "epochs", None, float(matrix.sum())
    yield "stages", None, float(metrics.present(matrix))
    each = metrics.per_stage(matrix) | {"epochs": metrics.support(matrix).astype(float)}
    for name, values in each.items():
        yield from ((name, stage, float(v)) for stage, v in zip(stages, values, strict=True))


def _per_subject(
    counted: Sequence[Counted], tested: pl.DataFrame, stages: Sequence[str]
) -> pl.DataFrame:
    import polars as pl

    rows = []
    for level, where, matrix in counted:
        if level == "subject":
            place = dict(zip(("protocol", "seed", "fold", "subject"), where, strict=True))
            f1 = zip(stages, metrics.f1(matrix).tolist(), strict=True)
            rows.append(
                place | {"epochs": int(matrix.sum()), "stages": metrics.present(matrix)}
                | metrics.overall(matrix) | {f"f1_{name}": value for name, value in f1}
            )  # fmt: skip
    keys = ["protocol", "seed", "subject"]
    nights = tested.group_by(keys).agg(pl.col("recording").n_unique().alias("nights"))
    table = pl.DataFrame(rows).join(nights, on=keys, how="left", maintain_order="left")
    keys.insert(2, "fold")
    return table.select(*keys, "nights", pl.exclude(*keys, "nights"))


def _leakage(run: Run) -> str:
    found = runs.leaks(run)
    checked = len({(t.protocol, t.fold) for t in run.done})
    if found and not run.leaky:
        raise DataError(
            f"{run.folder / 'folds.parquet'}: subjects on two sides of a fold: {'; '.join(found)}",
            hint="train again: every fold must be divided by subject",
        )
    if found:
        return f"LEAKY: subjects on two sides of a fold, by request: {'; '.join(found)}"
    return f"no subject trains or validates and is tested in the same fold ({checked} checked)"


def _notes(run: Run) -> Iterator[str]:
    if run.simulated:
        yield "The data is simulated: these numbers say nothing about sleep in people or animals."
    elif run.simulated is None:
        yield "No file of the run says whether its data is simulated."
    if run.missing:
        total = len(run.done) + len(run.missing)
        yield f"The run is incomplete: {len(run.missing)} of {total} trainings are missing."
    read = runs.readings(run).get(folds.LEAK_FREE, 1)
    if read > 1:
        yield f"A leak-free test fold was read {read} times; once, at the end, is right."
    last = run.unchosen(folds.LEAK_FREE)
    if last and any(t.protocol == folds.LEAK_FREE for t in run.done):
        which = ", ".join(map(str, last))
        yield f"leak-free, fold {which}: nothing chose the pass, the last one is kept."
    if any(t.protocol == folds.BEST_ON_TEST for t in run.done):
        yield (
            "best-on-test keeps the pass that is best on the scored fold: optimistic, only for "
            "comparison with publications that do the same."
        )


def _absent(pooled: Mapping[tuple[Any, ...], Counts], stages: Sequence[str]) -> Iterator[str]:
    """Say where a mean over stages is over fewer than there are."""
    lines = {}
    for where, matrix in pooled.items():
        lacking = [n for n, c in zip(stages, metrics.support(matrix), strict=True) if not c]
        if lacking:
            lines[where[0], *lacking] = (
                f"{where[0]}: pooled means over stages are over {metrics.present(matrix)} of "
                f"{len(stages)} stages, nothing is scored {' or '.join(lacking)}."
            )
    yield from lines.values()


def write(found: Evaluation) -> Path:
    """Write metrics.parquet and metrics.csv into the run; return the parquet's path."""
    path = found.run.folder / "metrics.parquet"
    store.write_table(path, found.table, csv=True)
    return path
