"""Agreement of scorings two by two, night by night and over all nights, with intervals over nights.

Pairs are compared on the epochs that all scorings have a stage for, so that their numbers are of
the same epochs. In a pair the earlier scoring is the reference, which stands where
`evaluation.metrics` says truth: kappa and PABAK are the same either way, F1 of a stage too; what a
mean over stages leaves out depends on the reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.errors import DataError
from sleeptools.evaluation import bootstrap, metrics
from sleeptools.evaluation.consensus import Consensus, Values, consensus
from sleeptools.evaluation.shift import Shift, find_shift
from sleeptools.evaluation.sleep_agreement import bland_altman_table
from sleeptools.evaluation.sleep_statistics import UNITS, Clock, measure_night
from sleeptools.recording.common_grid import MOUSE_EPOCH, AlignedScorings
from sleeptools.recording.hypnogram import Hypnogram, add_seconds
from sleeptools.recording.stages import REASONS, SCORED, UNANNOTATED, UNSCORED

if TYPE_CHECKING:
    import polars as pl

OVERALL: Final[Mapping[str, Callable[[metrics.Matrix], Values]]] = {
    "kappa": metrics.kappa,
    "accuracy": metrics.accuracy,
    "macro_f1": metrics.macro_f1,
    "pabak": metrics.pabak,
}
BY_STAGE: Final[Mapping[str, Callable[[metrics.Matrix], Values]]] = {
    "kappa": metrics.stage_kappa,
    "f1": metrics.f1,
    "pabak": metrics.stage_pabak,
    "precision": metrics.precision,
    "recall": metrics.recall,
}
"""Metrics over all stages, and of each stage against the others."""
POOLED: Final = "pooled"
NIGHT_MEAN: Final = "night mean"
HOUR: Final = 3600.0  # s
NREM: Final = "NREM"
MERGED: Final = "N1+N2+N3"


@dataclass(frozen=True)
class NightAgreement:
    """The scorings of one night, compared.

    Parameters
    ----------
    night
        Name of the night.
    aligned
        The scorings on one grid.
    confusions
        (pairs, stages, stages), rows the reference; pairs as in `pairs_of`.
    shifts
        Where each pair agrees best.
    consensus
        The consensus of all.
    notes
        What is to be said of the night.
    """

    night: str
    aligned: AlignedScorings = field(repr=False)
    confusions: metrics.Counts = field(repr=False)
    shifts: tuple[Shift, ...]
    consensus: Consensus
    notes: tuple[str, ...] = ()

    def consensus_hypnogram(self) -> Hypnogram:
        """Return the consensus as a hypnogram; an epoch that nobody covers is unannotated."""
        stages, covered = self.consensus.stages, (self.aligned.epoch_numbers >= 0).any(0)
        reasons = np.where(covered, REASONS.index("unknown"), UNANNOTATED)
        reasons = np.where(stages != UNSCORED, SCORED, reasons).astype(np.int8)
        aligned = self.aligned
        return Hypnogram(
            stages,
            aligned.names,
            aligned.epoch_seconds,
            aligned.onset,
            reasons,
            f"consensus of {', '.join(aligned.scorings)}",
            aligned.begin,
        )

    def differing(self) -> Iterator[tuple[int, float, str, tuple[str, ...]]]:
        """Give the epochs in which no two scorings agree: number, onset, s, clock, stages."""
        stages = self.aligned.stages
        scored = np.flatnonzero(self.aligned.scored)
        ordered = np.sort(stages[:, scored], 0)
        for epoch in scored[(np.diff(ordered, axis=0) != 0).all(0)].tolist():
            seconds = epoch * self.aligned.epoch_seconds
            moment = add_seconds(self.aligned.begin, seconds)
            clock = "" if moment is None else f"{moment:%H:%M:%S}"
            names = tuple(self.aligned.names[s] for s in stages[:, epoch].tolist())
            yield epoch, self.aligned.onset + seconds, clock, names


def pairs_of(count: int) -> list[tuple[int, int]]:
    """List the pairs of so many scorings: reference and the other."""
    return list(itertools.combinations(range(count), 2))


def pair_names(scorings: Sequence[str]) -> list[str]:
    """Name each pair "B - A", in which A is the reference."""
    return [f"{scorings[j]} - {scorings[i]}" for i, j in pairs_of(len(scorings))]


def compare_night(
    night: str,
    aligned: AlignedScorings,
    probabilities: Sequence[Values | None],
    notes: Sequence[str] = (),
) -> NightAgreement:
    """Compare the scorings of one night.

    Parameters
    ----------
    probabilities
        As of `consensus.consensus`.
    notes
        What was said when they were read.

    Raises
    ------
    DataError
        If there is no epoch that all scored.
    """
    scored, count = aligned.scored, len(aligned.names)
    if not scored.any():
        raise DataError(
            f"{night}: there is no epoch that {', '.join(aligned.scorings)} all scored",
            hint="are they of one night?",
            code="HYP-SPAN",
        )
    pairs = [(aligned.stages[i], aligned.stages[j]) for i, j in pairs_of(len(aligned.scorings))]
    confusions = [metrics.confusion_matrix(a[scored], b[scored], count) for a, b in pairs]
    shifts = tuple(find_shift(a, b, count) for a, b in pairs)
    texts = [
        shift.text(aligned.scorings[j]) + f" (reference: {aligned.scorings[i]})"
        for (i, j), shift in zip(pairs_of(len(aligned.scorings)), shifts, strict=True)
        if shift.epochs
    ]
    agreed = consensus(aligned.stages, count, probabilities)
    all_notes = (*texts, *aligned.notes, *notes)
    return NightAgreement(night, aligned, np.stack(confusions), shifts, agreed, all_notes)


@dataclass(frozen=True)
class ScoringAgreement:
    """Scorings compared over nights.

    Parameters
    ----------
    scorings
        Names of the scorings, in their order.
    names
        The stages.
    nights
        The nights.
    notes
        What concerns all nights, such as those that not all scored.
    """

    scorings: tuple[str, ...]
    names: tuple[str, ...]
    nights: tuple[NightAgreement, ...] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[str]:
        """Names of the pairs, "B - A" for B against the reference A."""
        return pair_names(self.scorings)

    @property
    def confusions(self) -> metrics.Counts:
        """(pairs, stages, stages) epochs of all nights, rows the reference."""
        total: metrics.Counts = np.sum([night.confusions for night in self.nights], 0)
        return total

    def kappa(self, pair: str = "") -> float:
        """Cohen's kappa of a pair over the epochs of all nights; of the first if left out."""
        number = self.pairs.index(pair) if pair else 0
        return float(metrics.kappa(self.confusions[number]))

    def metrics(self) -> pl.DataFrame:
        """Compute the metrics of every pair with 95 % intervals over nights.

        Returns
        -------
        table
            pair, level ("pooled" epochs, or "night mean"), metric, stage (null over all), value,
            low, high (null where there is no interval), nights, epochs.
        """
        return self._metrics

    @cached_property
    def _metrics(self) -> pl.DataFrame:
        import polars as pl

        rows = [
            row
            for number, pair in enumerate(self.pairs)
            for row in _metric_rows(
                pair, np.stack([night.confusions[number] for night in self.nights]), self.names
            )
        ]
        text, real, count = pl.String, pl.Float64, pl.Int64
        names = ["pair", "level", "metric", "stage", "value", "low", "high", "nights", "epochs"]
        kinds = [text, text, text, text, real, real, real, count, count]
        schema = dict(zip(names, kinds, strict=True))
        return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(real).fill_nan(None))

    def sleep(self) -> pl.DataFrame:
        """Measure the sleep of every night by both scorings of each pair, on the same epochs.

        Returns
        -------
        table
            pair, night, statistic, stage, unit, reference, other, difference (other less
            reference); null where undefined, as where lights off is not known.
        """
        return self._sleep

    @cached_property
    def _sleep(self) -> pl.DataFrame:
        import polars as pl

        rows = [row for night in self.nights for row in _sleep_rows(night)]
        text, real = pl.String, pl.Float64
        names = ["pair", "night", "statistic", "stage", "unit", "reference", "other", "difference"]
        schema = dict(zip(names, [text] * 5 + [real] * 3, strict=True))
        return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col(real).fill_nan(None))

    def bland_altman(self) -> pl.DataFrame:
        """Compute bias and limits of agreement of every statistic that any night has.

        Returns
        -------
        table
            pair, then as `sleep_agreement.bland_altman_table`; intervals are over nights.
        """
        return self._bland_altman

    @cached_property
    def _bland_altman(self) -> pl.DataFrame:
        import polars as pl

        measured = self.sleep().select(
            pl.col("pair").alias("protocol"),
            pl.lit(0).alias("seed"),
            pl.col("night").alias("recording"),
            pl.col("night").alias("subject"),
            "statistic",
            "stage",
            "unit",
            pl.col("reference").alias("truth"),
            pl.col("other").alias("predicted"),
        )
        table = bland_altman_table(measured).rename({"protocol": "pair"}).drop("subjects")
        return table.filter(pl.col("nights") > 0)

    def hours(self) -> pl.DataFrame:
        """Compute agreement over the night, by hours from the first epoch that all scored.

        Returns
        -------
        table
            pair, hour (from 0), nights, epochs, accuracy, kappa (null where undefined).
        """
        import polars as pl

        rows = []
        for number, pair in enumerate(self.pairs):
            by_hour: dict[int, list[metrics.Counts]] = {}
            for night in self.nights:
                for hour, matrix in _hourly(night, number):
                    by_hour.setdefault(hour, []).append(matrix)
            for hour, matrices in sorted(by_hour.items()):
                total = np.sum(matrices, 0)
                values = float(metrics.accuracy(total)), float(metrics.kappa(total))
                rows.append((pair, hour, len(matrices), int(total.sum()), *values))
        columns = ["pair", "hour", "nights", "epochs", "accuracy", "kappa"]
        table = pl.DataFrame(rows, columns, orient="row")
        return table.with_columns(pl.col("accuracy", "kappa").cast(pl.Float64).fill_nan(None))

    def differing(self) -> pl.DataFrame:
        """List the epochs in which no two scorings agree.

        Returns
        -------
        table
            night, epoch (from 0), onset (s), time (of day, or ""), and a column per scoring.
        """
        import polars as pl

        rows = [
            (night.night, epoch, onset, clock, *stages)
            for night in self.nights
            for epoch, onset, clock, stages in night.differing()
        ]
        fixed = {"night": pl.String, "epoch": pl.Int64, "onset": pl.Float64, "time": pl.String}
        schema = fixed | dict.fromkeys(self.scorings, pl.String)
        return pl.DataFrame(rows, schema, orient="row")

    def by_night(self) -> pl.DataFrame:
        """Give each night's agreement.

        Returns
        -------
        table
            night, pair, epochs, differ, kappa, accuracy, macro_f1, shift (epochs by which the
            other must be laid later to agree best; 0 where none is found), shifted_kappa,
            doubtful (whether the shift may be chance); null without a shift.
        """
        import polars as pl

        rows = []
        for night in self.nights:
            for pair, matrix, shift in zip(self.pairs, night.confusions, night.shifts, strict=True):
                total = int(matrix.sum())
                values = [
                    float(OVERALL[name](matrix)) for name in ("kappa", "accuracy", "macro_f1")
                ]
                differ = total - int(np.trace(matrix))
                moved = (shift.kappa, shift.is_doubtful) if shift.epochs else (None, None)
                rows.append((night.night, pair, total, differ, *values, shift.epochs, *moved))
        schema = {
            "night": pl.String,
            "pair": pl.String,
            "epochs": pl.Int64,
            "differ": pl.Int64,
            **dict.fromkeys(("kappa", "accuracy", "macro_f1"), pl.Float64),
            "shift": pl.Int64,
            "shifted_kappa": pl.Float64,
            "doubtful": pl.Boolean,
        }
        table = pl.DataFrame(rows, schema, orient="row")
        return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def _metric_rows(
    pair: str, counts: metrics.Counts, names: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Rows of `ScoringAgreement.metrics` of a pair from its matrices (nights, stages, stages)."""
    keys = [(name, None) for name in OVERALL]
    keys += [(name, stage) for name in BY_STAGE for stage in names]  # type: ignore[misc]
    epochs = counts.sum((1, 2))
    by_stage = counts.sum((0, 2))
    levels = {
        POOLED: lambda weights: _values(np.tensordot(weights, counts, 1)),
        NIGHT_MEAN: bootstrap.mean_statistic(_values(counts)),
    }
    for level, statistic in levels.items():
        bounds = bootstrap.bootstrap_interval(statistic, len(counts))
        for (metric, stage), *numbers in zip(keys, *bounds, strict=True):
            total = epochs.sum() if stage is None else by_stage[list(names).index(stage)]
            yield pair, level, metric, stage, *map(float, numbers), len(counts), int(total)


def _values(matrices: metrics.Matrix) -> Values:
    """(..., metrics) of matrices (..., stages, stages), as `_metric_rows` orders them."""
    overall = [metric(matrices)[..., None] for metric in OVERALL.values()]
    return np.concatenate([*overall, *(metric(matrices) for metric in BY_STAGE.values())], -1)


def _sleep_rows(night: NightAgreement) -> Iterator[tuple[Any, ...]]:
    aligned = night.aligned
    scored = np.flatnonzero(aligned.scored)
    onset = np.asarray(aligned.onset + scored * aligned.epoch_seconds, np.float64)
    clock = Clock(aligned.epoch_seconds)
    is_mouse = aligned.epoch_seconds <= MOUSE_EPOCH
    # NREM, merged from a person's stages, is not that of a mouse, which sleeps around the clock
    names = [n if is_mouse or n != NREM else MERGED for n in aligned.names]
    measured = [
        measure_night(row[scored].astype(np.int64), onset, names, clock) for row in aligned.stages
    ]
    pairs = pairs_of(len(aligned.scorings))
    for pair, (i, j) in zip(pair_names(aligned.scorings), pairs, strict=True):
        for (statistic, stage), first in measured[i].items():
            second = measured[j][statistic, stage]
            values = UNITS[statistic], first, second, second - first
            yield pair, night.night, statistic, NREM if stage == MERGED else stage, *values


def _hourly(night: NightAgreement, number: int) -> Iterator[tuple[int, metrics.Counts]]:
    """Matrices of a pair by the hour since the first epoch that all scored."""
    aligned = night.aligned
    i, j = pairs_of(len(aligned.scorings))[number]
    scored = np.flatnonzero(aligned.scored)
    hours = ((scored - scored[0]) * aligned.epoch_seconds // HOUR).astype(int)
    for hour in np.unique(hours).tolist():
        epochs = scored[hours == hour]
        first, second = aligned.stages[i, epochs], aligned.stages[j, epochs]
        yield hour, metrics.confusion_matrix(first, second, len(aligned.names))
