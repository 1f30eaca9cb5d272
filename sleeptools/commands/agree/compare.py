"""Comparing the scorings of matched nights: read, laid on one grid, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools.commands.agree.matching import MatchedNights
from sleeptools.commands.agree.nights import folded, night_key
from sleeptools.commands.agree.options import AgreeOptions
from sleeptools.commands.agree.reading import ReadScoring, read_scoring
from sleeptools.commands.score.paths import possible_names, recordings_among
from sleeptools.datasets.shared.edf_settings import read_named
from sleeptools.errors import DataError, SleeptoolsError
from sleeptools.evaluation.agreement import NightAgreement, ScoringAgreement, compare_night
from sleeptools.evaluation.consensus import Values
from sleeptools.recording import stage_groups
from sleeptools.recording.common_grid import AlignedScorings, align
from sleeptools.recording.recording import Recording
from sleeptools.recording.simulators import SIMULATED
from sleeptools.recording.stage_groups import StageGroup
from sleeptools.store import batch

SIMULATED_NIGHT: Final = "simulated data: generated signals, no sleeper"
OnNight = Callable[[batch.FinishedItem], None]


@dataclass(frozen=True)
class Comparison:
    """Scorings compared, and what could not be.

    Parameters
    ----------
    agreement
        The nights that were compared.
    failures
        Why the others were not, by night.
    files
        Files of each night, in the order of the scorings.
    """

    agreement: ScoringAgreement
    failures: Mapping[str, SleeptoolsError] = field(default_factory=dict)
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict, repr=False)


def compare_nights(
    matched: MatchedNights,
    recording: Path | None,
    options: AgreeOptions,
    on_progress: OnNight = batch.ignore,
) -> Comparison:
    """Compare every night; one that fails stops no other.

    Raises
    ------
    SleeptoolsError
        If no night can be compared: why the first cannot.
    """
    groups = stage_groups.parse_groups(options.stages) if options.stages else ()
    recordings = _recordings(recording, matched)
    failures: dict[str, SleeptoolsError] = dict(matched.problems)
    nights: list[NightAgreement] = []
    names: tuple[str, ...] = ()
    batch.announce(on_progress, len(matched.nights))
    for number, (title, files) in enumerate(matched.nights.items(), 1):
        try:
            scorings = [
                read_scoring(file, name, options)
                for file, name in zip(files, matched.scorings, strict=True)
            ]
            path = recordings.get(folded(title))
            signals = None if path is None else read_named(path)
            night = compare_scorings(
                title, scorings, matched.scorings, groups, options, recording=signals
            )
            names = names or night.aligned.names
            _check_same(title, night.aligned.names, names)
            if any(file.is_simulated for file in files) or _is_simulated(scorings, signals):
                night = replace(night, notes=(SIMULATED_NIGHT, *night.notes))
            nights.append(night)
            text = "; ".join([_summary(night), *night.notes])
        except Exception as e:
            failures[title] = batch.failure_of(e, title)
            text = str(failures[title])
        failed = title in failures
        on_progress(batch.FinishedItem(title, number, len(matched.nights), text, failed))
    if not nights:
        raise _none_compared(failures)
    agreement = ScoringAgreement(matched.scorings, names, tuple(nights), matched.notes)
    paths = {title: [file.path for file in files] for title, files in matched.nights.items()}
    return Comparison(agreement, failures, paths)


def _is_simulated(scorings: Sequence[ReadScoring], recording: Recording | None) -> bool:
    """Tell whether a scoring or the recording says that the night was simulated."""
    by_scorer = any(SIMULATED in s.hypnogram.scorer or s.is_simulated for s in scorings)
    return by_scorer or (recording is not None and bool(recording.facts.get(SIMULATED)))


def _none_compared(failures: Mapping[str, SleeptoolsError]) -> SleeptoolsError:
    """Make the error of a comparison of no night: that of the first."""
    title, error = next(iter(failures.items()))
    if len(failures) == 1:
        return error
    text = f"none of {len(failures)} nights can be compared; {title}: {error}"
    return type(error)(text, hint=error.hint, code=error.code)


def _check_same(title: str, names: tuple[str, ...], first: tuple[str, ...]) -> None:
    if names != first:
        raise DataError(
            f"{title}: has the stages {', '.join(names)}, the nights before it {', '.join(first)}",
            hint="compare nights of people and of mice apart",
            code="HYP-STAGES",
        )


def _summary(night: NightAgreement) -> str:
    pooled = ScoringAgreement(night.aligned.scorings, night.aligned.names, (night,))
    values = [f"{pair} {pooled.kappa(pair):.3f}" for pair in pooled.pairs]
    return f"{int(night.confusions[0].sum())} epochs, kappa {', '.join(values)}"


def _recordings(path: Path | None, matched: MatchedNights) -> dict[str, Path]:
    """Find the recording of each night; a single file is that of a single night."""
    if path is None:
        return {}
    paths, _ = recordings_among([path])
    if len(paths) == len(matched.nights) == 1:
        return {folded(title): paths[0] for title in matched.nights}
    wanted = {folded(title) for title in matched.nights}
    by_title: dict[str, Path] = {}
    for file in paths:
        keys = (folded(night_key(name)[0]) for name in possible_names(file))
        key = next((key for key in keys if key in wanted), None)
        if key and by_title.setdefault(key, file) != file:
            raise DataError(
                f"{path}: two recordings are of {key}: {by_title[key].name}, {file.name}",
                hint="keep one, or compare that night alone, with its recording",
                code="HYP-NIGHTS",
            )
    lacking = [title for title in matched.nights if folded(title) not in by_title]
    if lacking:
        raise DataError(
            f"{path}: holds no recording of {', '.join(lacking[:8])}",
            hint="recordings are matched with nights by their names",
            code="HYP-NIGHTS",
        )
    return by_title


def compare_scorings(
    title: str,
    scorings: Sequence[ReadScoring],
    names: Sequence[str],
    groups: Sequence[StageGroup],
    options: AgreeOptions,
    *,
    recording: Recording | None = None,
) -> NightAgreement:
    """Compare scorings of one night.

    Raises
    ------
    DataError
        As `common_grid.align`, and if there is no epoch that all scored.
    """
    hypnograms = [scoring.hypnogram for scoring in scorings]
    aligned = align(
        hypnograms,
        names,
        recording=recording,
        same_start=options.same_start,
        from_start=all(scoring.is_from_start for scoring in scorings),
        groups=groups,
    )
    laid = [
        None if scoring.probabilities is None else _laid(scoring, aligned, number, groups)
        for number, scoring in enumerate(scorings)
    ]
    notes = [
        f"{name}: {note}" for h, name in zip(hypnograms, names, strict=True) for note in h.notes
    ]
    return compare_night(title, aligned, laid, notes)


def _laid(
    scoring: ReadScoring, aligned: AlignedScorings, number: int, groups: Sequence[StageGroup]
) -> Values:
    """Lay the probabilities of a scoring on the common grid, those of a group's stages added."""
    density = scoring.probabilities
    assert density is not None
    names = scoring.hypnogram.names
    if groups:
        member = [[stage in group.stages for group in groups] for stage in names]
        density = density @ np.array(member, np.float64)
    padded = np.concatenate([density, np.full((1, density.shape[1]), np.nan)])
    return np.asarray(padded[aligned.epoch_numbers[number]], np.float64)
