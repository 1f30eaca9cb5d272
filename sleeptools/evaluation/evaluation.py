"""The numbers of a run, from its saved predictions: pooled, per fold, per subject, per night.

The headline pools the test epochs of all folds under one protocol and seed, as the papers do
(10.3389/fnins.2022.973761), and the subjects stand beside it, because the two differ. Intervals are
over subjects (`intervals`), seeds are averaged and their spread is kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools import store
from sleeptools.evaluation import (
    calibration,
    caveats,
    circadian,
    confusion,
    metrics,
    scorers,
    sleep_agreement,
    subject_metrics,
    uncertain_epochs,
)
from sleeptools.evaluation.bootstrap import Interval
from sleeptools.evaluation.confusion import Counted, Key
from sleeptools.evaluation.metrics import Counts
from sleeptools.evaluation.selection import pass_selection
from sleeptools.evaluation.subject_metrics import POOLED, Cube, Result
from sleeptools.runs import nights, predictions
from sleeptools.runs.folds import BEST_ON_TEST, FOLD_PROTOCOLS, LEAK_FREE
from sleeptools.runs.run import Run

if TYPE_CHECKING:
    import polars as pl

KIND = "sleeptools-metrics"
VERSION = 2
TABLES: Final = (
    "sleep",
    "agreement",
    "scorers",
    "day",
    "day_correlation",
    "calibration",
    "reliability",
    "temperatures",
    "selection",
    "gain",
)
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
        Of the validation and the test epochs, as `predictions.read_predictions` gives them.
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
        return confusion.cubes(self.counted, len(self.stages))

    @cached_property
    def subjects(self) -> pl.DataFrame:
        """One row per protocol, seed and subject; see `confusion.subjects`."""
        return confusion.subjects(self.counted, self.tested, self.stages)

    @cached_property
    def intervals(self) -> Mapping[str, pl.DataFrame]:
        """Per protocol: metrics with intervals over subjects; see `subject_metrics.table`."""
        return {p: subject_metrics.table(cube, self.stages) for p, cube in self.cubes.items()}

    @cached_property
    def table(self) -> pl.DataFrame:
        """Everything, tidy: see `confusion.tidy`. Rows without a seed are means over the seeds."""
        return confusion.tidy(self.run.name, self.counted, self.intervals, self.stages)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that were evaluated, the run's first one first."""
        return tuple(dict.fromkeys(protocol for protocol, _ in self.confusions))

    @property
    def headline(self) -> str:
        """The protocol to believe: leak-free where there is one."""
        known = self.protocols
        return LEAK_FREE if LEAK_FREE in known else known[0]

    def interval(
        self, protocol: str, metric: str, *, stage: str | None = None, level: str = POOLED
    ) -> Interval:
        """Look up a metric with its 95 % interval; level as in `subject_metrics.table`."""
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
            {(t.seed, t.fold) for t in self.run.done if t.protocol == p} for p in FOLD_PROTOCOLS
        ]
        return bool(done[0]) and done[0] == done[1]

    @cached_property
    def gain(self) -> pl.DataFrame:
        """Best-on-test less leak-free, with intervals; see `subject_metrics.difference`.

        Empty unless both protocols have finished the same folds with the same seeds.
        """
        import polars as pl

        if not self._both():
            return pl.DataFrame()
        honest, optimistic = (self.cubes[protocol] for protocol in FOLD_PROTOCOLS)
        return subject_metrics.difference(honest, optimistic, self.stages)

    def difference(self) -> dict[str, float]:
        """Subtract leak-free from best-on-test in the overall metrics; empty as `gain`.

        Two things differ: what chose the pass, and that leak-free trains on fewer subjects.
        `selection` tells the first alone.
        """
        if not self._both():
            return {}
        low, high = self.pooled(LEAK_FREE), self.pooled(BEST_ON_TEST)
        return {name: high[name] - low[name] for name in metrics.OVERALL}

    @cached_property
    def selection(self) -> pl.DataFrame:
        """What choosing the pass on the test fold gains; see `selection.pass_selection`."""
        return pass_selection(self.run)

    # --- sleep ------------------------------------------------------------------------------------

    @cached_property
    def known_nights(self) -> pl.DataFrame | None:
        """Table of nights.parquet; None of a run that has none."""
        return nights.read_nights(self.run.folder)

    @cached_property
    def sleep(self) -> pl.DataFrame:
        """Sleep statistics of every night, true and predicted; see `sleep_agreement.per_night`."""
        return sleep_agreement.per_night(
            self.tested, self.known_nights, self.stages, self.run.epoch_seconds
        )

    @cached_property
    def agreement(self) -> pl.DataFrame:
        """Bias and limits of the sleep statistics; see `sleep_agreement.bland_altman`."""
        return sleep_agreement.bland_altman(self.sleep)

    @cached_property
    def scorers(self) -> pl.DataFrame:
        """Model and scorers two by two; see `scorers.compare_scorers`; empty where one scored."""
        return scorers.compare_scorers(self.tested, self.known_nights, self.stages)

    @cached_property
    def day(self) -> pl.DataFrame:
        """Minutes by stage in 2-h bins, of mice; see `circadian.minutes_by_bin`."""
        return circadian.minutes_by_bin(self.tested, self.stages, self.run.epoch_seconds)

    @cached_property
    def day_correlation(self) -> pl.DataFrame:
        """Correlation over these bins; see `circadian.bin_correlations`; empty for people."""
        return circadian.bin_correlations(self.day)

    # --- probabilities ----------------------------------------------------------------------------

    @cached_property
    def _calibrated(self) -> calibration.CalibrationTables:
        return calibration.calibration_tables(self.predictions, self.stages)

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
    def _ranking(self) -> pl.DataFrame:
        return uncertain_epochs.ranked(self.tested.filter(protocol=self.headline), self.stages)

    @cached_property
    def review(self) -> pl.DataFrame:
        """The least certain epochs, under the headline's protocol; `uncertain_epochs.ranked`."""
        return uncertain_epochs.listed(self._ranking)

    def errors_found(self) -> float:
        """Share of the wrong epochs that the review list holds."""
        return uncertain_epochs.errors_found(self._ranking)

    def as_json(self) -> dict[str, object]:
        """Facts as plain values, for JSON; the keys are stable, NaN is null."""
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
                "protocol": self.headline,
                "share": uncertain_epochs.SHARE,
                "epochs": len(self.review),
                **_nulled({"errors_found": self.errors_found()}),
            },
        }

    def _result(self, key: Key, matrix: Counts) -> dict[str, object]:
        import polars as pl

        protocol, seed = key
        mine = self.subjects.filter((pl.col("protocol") == protocol) & (pl.col("seed") == seed))
        each = metrics.per_stage(matrix) | {"epochs": metrics.support(matrix)}
        return {
            "protocol": protocol,
            "seed": seed,
            "optimistic": protocol == BEST_ON_TEST,
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


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [_nulled(row) for row in table.to_dicts()]


def compute(run: Run) -> Evaluation:
    """Compute every number of a run from its predictions.

    Raises
    ------
    DataError
        If predictions are damaged or do not fit the folds, or a subject is on two sides of a fold.
    """
    leakage = caveats.leakage(run)
    found = predictions.read_predictions(run, role=None)
    counted = confusion.count(found.filter(role="test"), len(run.stages), mixed=run.mixed)
    notes = tuple(caveats.every(run, found, counted))
    return Evaluation(run, found, counted, leakage, notes)


def compare(found: Sequence[Evaluation]) -> pl.DataFrame:
    """Compare runs two by two under their headline's protocol; see `subject_metrics.compare`."""
    return subject_metrics.compare(
        [Result(one.run.name, one.headline, one.cubes[one.headline]) for one in found]
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
