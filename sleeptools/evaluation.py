"""The numbers of a run, from its saved predictions: pooled, per fold, per subject, per night.

The headline pools the test epochs of all folds under one protocol and seed, as the papers do
(10.3389/fnins.2022.973761), and the subjects stand beside it, because the two differ. Intervals are
over subjects (`intervals`), seeds are averaged and their spread is kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools import (
    calibration,
    folds,
    intervals,
    levels,
    metrics,
    nights,
    review,
    runs,
    sleep_tables,
    statistics,
    store,
)
from sleeptools.errors import DataError
from sleeptools.intervals import POOLED, Cube, Result
from sleeptools.levels import Counted, Key
from sleeptools.metrics import Counts
from sleeptools.runs import Run
from sleeptools.statistics import Interval

if TYPE_CHECKING:
    import polars as pl

KIND = "sleeptools-metrics"
VERSION = 2
TABLES: Final = (
    "sleep", "agreement", "scorers", "day", "day_correlation", "calibration", "reliability",
    "temperatures", "selection", "gain",
)  # fmt: skip
"""Tables of an evaluation that are written into `evaluation/` of the run, where not empty."""
UNKNOWN: Final = float("nan")


@dataclass(frozen=True)
class Evaluation:
    """What came out of a run.

    Everything beyond the fields is computed when first asked for.

    Parameters
    ----------
    run
        The run folder.
    predictions
        Of the validation and the test epochs, as `runs.predictions` gives them.
    counted
        Confusion matrices of every level.
    leakage
        One line: what was checked about subjects on two sides of a fold, and what was found.
    notes
        What a reader must know before believing a number; one sentence each.
    """

    run: Run
    predictions: pl.DataFrame = field(repr=False)
    counted: Mapping[str, Counted] = field(repr=False)
    leakage: str
    notes: tuple[str, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, in the order of the confusion matrices."""
        return self.run.stages

    @cached_property
    def tested(self) -> pl.DataFrame:
        """Test predictions of every protocol and seed."""
        return self.predictions.filter(role="test")

    @cached_property
    def confusions(self) -> Mapping[Key, Counts]:
        """Per protocol and seed: (stages, stages) pooled over folds, rows truth."""
        of = self.counted["pooled"]
        return {(place[0], place[1]): m for place, m in zip(of.places, of.matrices, strict=True)}

    @cached_property
    def cubes(self) -> Mapping[str, Cube]:
        """Per protocol: the confusion matrices of its subjects and seeds."""
        return levels.cubes(self.counted, len(self.stages))

    @cached_property
    def subjects(self) -> pl.DataFrame:
        """One row per protocol, seed and subject; see `levels.subjects`."""
        return levels.subjects(self.counted, self.tested, self.stages)

    @cached_property
    def intervals(self) -> Mapping[str, pl.DataFrame]:
        """Per protocol: every metric with its interval over subjects; see `intervals.table`."""
        return {p: intervals.table(cube, self.stages) for p, cube in self.cubes.items()}

    @cached_property
    def table(self) -> pl.DataFrame:
        """Everything, tidy: see `levels.tidy`. Rows without a seed are means over the seeds."""
        return levels.tidy(self.run.name, self.counted, self.intervals, self.stages)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that were evaluated, the run's first one first."""
        return tuple(dict.fromkeys(protocol for protocol, _ in self.confusions))

    @property
    def headline(self) -> str:
        """The protocol to believe: leak-free where there is one."""
        known = self.protocols
        return folds.LEAK_FREE if folds.LEAK_FREE in known else known[0]

    def interval(
        self, protocol: str, metric: str, *, stage: str | None = None, level: str = POOLED
    ) -> Interval:
        """Look up a metric with its 95 % interval; level as in `intervals.table`."""
        import polars as pl

        row = self.intervals[protocol].filter(
            pl.col("stage").eq_missing(pl.lit(stage, pl.String)), metric=metric, level=level
        )
        return Interval(*(UNKNOWN if row[c][0] is None else row[c][0] for c in Interval._fields))

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

    # --- the two protocols, and what choosing a pass on the test fold gains -----------------------

    def _both(self) -> bool:
        done = [
            {(t.seed, t.fold) for t in self.run.done if t.protocol == p} for p in folds.PROTOCOLS
        ]
        return bool(done[0]) and done[0] == done[1]

    @cached_property
    def gain(self) -> pl.DataFrame:
        """Best-on-test less leak-free with intervals over subjects; see `intervals.difference`.

        Empty unless both protocols have finished the same folds with the same seeds.
        """
        import polars as pl

        if not self._both():
            return pl.DataFrame()
        honest, optimistic = (self.cubes[protocol] for protocol in folds.PROTOCOLS)
        return intervals.difference(honest, optimistic, self.stages)

    def difference(self) -> dict[str, float]:
        """Subtract leak-free from best-on-test in the overall metrics; empty as `gain`.

        Two things differ: what chose the pass, and that leak-free trains on fewer subjects.
        `selection` tells the first alone.
        """
        if not self._both():
            return {}
        low, high = self.pooled(folds.LEAK_FREE), self.pooled(folds.BEST_ON_TEST)
        return {name: high[name] - low[name] for name in metrics.OVERALL}

    @cached_property
    def selection(self) -> pl.DataFrame:
        """What choosing the pass on the test fold gains within one training.

        Returns
        -------
        table
            protocol, seed, fold, metric (accuracy, kappa, macro_f1), passes, chosen_by, best_pass
            (of the highest test accuracy, as the papers' programs choose), chosen_pass, best,
            chosen, last (the metric on the test fold at that pass), optimism (best less chosen;
            null under best-on-test, which chooses the best itself), against_last (best less last).
            A row per training whose test fold was judged after every pass: under best-on-test
            always, under leak-free with `train --watch-test`.
        """
        return _selection(self.run)

    # --- sleep ------------------------------------------------------------------------------------

    @cached_property
    def known_nights(self) -> pl.DataFrame | None:
        """Table of nights.parquet; None of a run that has none."""
        return nights.read(self.run.folder)

    @cached_property
    def sleep(self) -> pl.DataFrame:
        """Sleep statistics of every night, true and predicted; see `sleep_tables.per_night`."""
        return sleep_tables.per_night(
            self.tested, self.known_nights, self.stages, self.run.epoch_seconds
        )

    @cached_property
    def agreement(self) -> pl.DataFrame:
        """Bias and limits of the sleep statistics; see `sleep_tables.bland_altman`."""
        return sleep_tables.bland_altman(self.sleep)

    @cached_property
    def scorers(self) -> pl.DataFrame:
        """Model and scorers two by two; see `sleep_tables.scorers`; empty where one scored."""
        return sleep_tables.scorers(self.tested, self.known_nights, self.stages)

    @cached_property
    def day(self) -> pl.DataFrame:
        """Minutes of a mouse's stages in 2-h bins; see `sleep_tables.day`; empty for people."""
        return sleep_tables.day(self.tested, self.stages, self.run.epoch_seconds)

    @cached_property
    def day_correlation(self) -> pl.DataFrame:
        """Correlation over these bins; see `sleep_tables.correlations`; empty for people."""
        return sleep_tables.correlations(self.day)

    # --- probabilities ----------------------------------------------------------------------------

    @cached_property
    def _calibrated(self) -> _Calibrated:
        return _calibrate(self.predictions, self.stages)

    @property
    def calibration(self) -> pl.DataFrame:
        """How far to trust the probabilities.

        Returns
        -------
        table
            protocol, variant ("raw", or "scaled": by the temperature of the fold's validation
            epochs, under leak-free alone), measure ("nll", natural logarithm per epoch; "ece", 15
            bins), value, low, high (over subjects), subjects. Averaged over seeds.
        """
        return self._calibrated.measures

    @property
    def reliability(self) -> pl.DataFrame:
        """Reliability diagram.

        Returns
        -------
        table
            protocol, variant, from, to (of the bin), epochs, probability (mean of the predicted
            stage's), right (share); seeds together.
        """
        return self._calibrated.reliability

    @property
    def temperatures(self) -> pl.DataFrame:
        """Fitted temperatures: protocol, seed, fold, temperature, epochs (validation)."""
        return self._calibrated.temperatures

    @cached_property
    def review(self) -> pl.DataFrame:
        """The epochs most worth a second look, under the headline's protocol; `review.listed`."""
        return review.listed(self.tested.filter(protocol=self.headline), self.stages)

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
            "intervals": {p: t.to_dicts() for p, t in self.intervals.items()},
            **{name: _rows(getattr(self, name)) for name in TABLES if name not in {"sleep", "day"}},
            "review": {
                "protocol": self.headline, "share": review.SHARE, "epochs": len(self.review),
                **_nulled({"errors_found": self.errors_found()}),
            },
        }  # fmt: skip

    def errors_found(self) -> float:
        """Share of the wrong epochs that the review list holds."""
        return review.errors_found(
            self.tested.filter(protocol=self.headline), self.review, self.stages
        )

    def _result(self, key: Key, matrix: Counts) -> dict[str, object]:
        import polars as pl

        protocol, seed = key
        mine = self.subjects.filter((pl.col("protocol") == protocol) & (pl.col("seed") == seed))
        each = metrics.per_stage(matrix) | {"epochs": metrics.support(matrix)}
        return {
            "protocol": protocol,
            "seed": seed,
            "optimistic": protocol == folds.BEST_ON_TEST,
            "folds": mine["fold"].n_unique(),
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


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [_nulled(row) for row in table.to_dicts()]


def compute(run: Run) -> Evaluation:
    """Compute every number of a run from its predictions.

    Raises
    ------
    DataError
        If predictions are damaged or do not fit the folds, or a subject is on two sides of a fold.
    """
    leakage = _leakage(run)
    found = runs.predictions(run, role=None)
    counted = levels.count(found.filter(role="test"), len(run.stages))
    notes = (*_notes(run), *_few(counted), *_absent(counted["pooled"], run.stages),
             *_outside(run, found))  # fmt: skip
    return Evaluation(run, found, counted, leakage, notes)


def compare(found: Sequence[Evaluation]) -> pl.DataFrame:
    """Compare runs two by two, each under the protocol of its headline; see `intervals.compare`."""
    return intervals.compare(
        [Result(one.run.name, one.headline, one.cubes[one.headline]) for one in found]
    )


# --- selection and calibration --------------------------------------------------------------------


def _selection(run: Run) -> pl.DataFrame:
    import polars as pl

    rows = []
    keys = ["protocol", "seed", "fold"]
    logs = runs.logs(run).sort(*keys, "pass")
    for where, log in logs.partition_by(keys, as_dict=True, maintain_order=True).items():
        if not len(log) or log["test_accuracy"].null_count():
            continue
        protocol, _, fold = where
        best, last = int(log["test_accuracy"].arg_max() or 0), len(log) - 1
        chosen = int(log["selected"].arg_max() or 0) if log["selected"].any() else last
        by = "test" if protocol == folds.BEST_ON_TEST else "validation"
        by = "last" if fold in run.unchosen(str(protocol)) else by
        for metric in ("accuracy", "kappa", "macro_f1"):
            value = log[f"test_{metric}"]
            at = {"best": value[best], "chosen": value[chosen], "last": value[last]}
            gained = None if by == "test" else _less(at["best"], at["chosen"])
            rows.append(
                dict(zip(keys, where, strict=True))
                | {"metric": metric, "passes": len(log), "chosen_by": by}
                | {"best_pass": log["pass"][best], "chosen_pass": log["pass"][chosen]}
                | at | {"optimism": gained, "against_last": _less(at["best"], at["last"])}
            )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


@dataclass(frozen=True)
class _Calibrated:
    measures: pl.DataFrame
    reliability: pl.DataFrame
    temperatures: pl.DataFrame


def _calibrate(found: pl.DataFrame, stages: Sequence[str]) -> _Calibrated:
    import polars as pl

    measures, diagram, fitted = [], [], []
    for (protocol,), part in found.partition_by("protocol", as_dict=True).items():
        warm = _temperatures(part, stages)
        fitted += [{"protocol": protocol} | row for row in warm.to_dicts()]
        tested = part.filter(role="test")
        variants = {"raw": None} | ({"scaled": warm} if len(warm) else {})
        for variant, by in variants.items():
            sums = _sums(tested, stages, by)
            bounds = calibration.bounds(sums)
            named = zip(("nll", "ece"), *bounds, strict=True)
            measures += [(protocol, variant, *map(_plain, row), len(sums)) for row in named]
            rows = calibration.reliability(sums.sum((0, 1)))
            diagram += [{"protocol": protocol, "variant": variant} | row for row in rows]
    columns = ["protocol", "variant", "measure", "value", "low", "high", "subjects"]
    return _Calibrated(
        pl.DataFrame(measures, columns, orient="row"), pl.DataFrame(diagram), pl.DataFrame(fitted)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if np.isnan(value) else float(value)


def _temperatures(part: pl.DataFrame, stages: Sequence[str]) -> pl.DataFrame:
    """Fit a temperature per seed and fold on its validation epochs; empty without them."""
    import polars as pl

    rows = []
    validated = part.filter(role="val")
    for where, mine in validated.partition_by("seed", "fold", as_dict=True).items():
        warm = calibration.temperature(_p(mine, stages), mine["stage"].to_numpy())
        rows.append((*where, warm, len(mine)))
    schema = {"seed": pl.Int64, "fold": pl.Int64, "temperature": pl.Float64, "epochs": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row").sort("seed", "fold")


def _p(table: pl.DataFrame, stages: Sequence[str]) -> metrics.Matrix:
    return table.select(f"p_{name}" for name in stages).to_numpy()


def _sums(tested: pl.DataFrame, stages: Sequence[str], by: pl.DataFrame | None) -> metrics.Values:
    """(subjects, seeds, ...) sums of `calibration.parts`, with temperatures or without."""
    import polars as pl

    subjects, seeds = tested["subject"].unique().sort(), tested["seed"].unique().sort()
    kind = pl.Enum(subjects)
    group = tested["subject"].cast(kind).to_physical().cast(pl.Int64).to_numpy() * len(seeds)
    group = group + np.searchsorted(seeds.to_numpy(), tested["seed"].to_numpy())
    p = _p(tested, stages)
    if by is not None:
        warm = tested.select("seed", "fold").join(
            by, on=["seed", "fold"], how="left", maintain_order="left"
        )
        # a fold without validation subjects has no temperature and stays as it is
        p = calibration.scaled(p, warm["temperature"].fill_null(1.0).to_numpy()[:, None])
    count = len(subjects) * len(seeds)
    sums = calibration.parts(p, tested["stage"].to_numpy(), group, count)
    return sums.reshape(len(subjects), len(seeds), -1)


# --- what a reader must know ----------------------------------------------------------------------


def _leakage(run: Run) -> str:
    if "external" in run.facts:
        return str(run.facts["external"]["leakage"])
    found = runs.leaks(run)
    checked = len({(t.protocol, t.fold) for t in run.done})
    if found and not run.facts.get("leaky"):
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
    read = runs.readings(run, watching=False).get(folds.LEAK_FREE, 1)
    if read > 1:
        yield f"A leak-free test fold was read {read} times; once, at the end, is right."
    elif runs.readings(run).get(folds.LEAK_FREE, 1) > read:
        yield (
            "The leak-free test folds were watched after every pass (--watch-test), to measure "
            "what choosing on them would gain; no pass was chosen by it."
        )
    last = run.unchosen(folds.LEAK_FREE)
    if last and any(t.protocol == folds.LEAK_FREE for t in run.done):
        which = ", ".join(map(str, last))
        yield f"leak-free, fold {which}: nothing chose the pass, the last one is kept."
    if any(t.protocol == folds.BEST_ON_TEST for t in run.done):
        yield (
            "best-on-test keeps the pass that is best on the scored fold: optimistic, only for "
            "comparison with publications that do the same."
        )
    yield from run.facts.get("external_notes", [])


def _few(counted: Mapping[str, Counted]) -> Iterator[str]:
    count = len({place[3] for place in counted["subject"].places})
    if count < statistics.FEW:
        yield (
            f"The intervals are over {count} subject{'' if count == 1 else 's'}: with fewer than "
            f"{statistics.FEW} a bootstrap is known to be too narrow."
        )


def _absent(pooled: Counted, stages: Sequence[str]) -> Iterator[str]:
    """Say where a mean over stages is over fewer than there are."""
    lines = {}
    for where, matrix in zip(pooled.places, pooled.matrices, strict=True):
        lacking = [n for n, c in zip(stages, metrics.support(matrix), strict=True) if not c]
        if lacking:
            lines[where[0], *lacking] = (
                f"{where[0]}: pooled means over stages are over {metrics.present(matrix)} of "
                f"{len(stages)} stages, nothing is scored {' or '.join(lacking)}."
            )
    yield from lines.values()


def _outside(run: Run, found: pl.DataFrame) -> Iterator[str]:
    """Say where scored sleep was never predicted, as under the rule drop-last."""
    lost = sleep_tables.unpredicted_sleep(found.filter(role="test"), nights.read(run.folder))
    if len(lost):
        what = f"{len(lost)} night{'' if len(lost) == 1 else 's'}"
        minutes = float(np.median(lost["minutes"].to_numpy()))
        yield (
            f"In {what} scored sleep was left out before the model saw it, {minutes:g} min in the "
            "median night of these: total sleep time and the end of the night are those of the "
            "epochs that it saw."
        )


# --- files ----------------------------------------------------------------------------------------


def write(found: Evaluation) -> Path:
    """Write metrics.parquet, review.csv and `evaluation/`; return the path of metrics.parquet."""
    folder = found.run.folder
    path = folder / "metrics.parquet"
    store.write_table(path, found.table, csv=True)
    store.write_text(folder / "review.csv", found.review.write_csv())
    for name in TABLES:
        table, to = getattr(found, name), folder / "evaluation" / f"{name}.parquet"
        if len(table):
            store.write_table(to, table, csv=True)
        else:  # of an earlier evaluation
            to.unlink(missing_ok=True)
            to.with_suffix(".csv").unlink(missing_ok=True)
    return path
