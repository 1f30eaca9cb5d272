"""`agree`: any scorings of one or many nights, compared two by two, and their consensus.

Scorings are of any format that `formats` reads, of people or of mice, by human scorers or by
models, of ours or of another program. Nights are matched by name or by a table, epochs by the
clock. A shift by whole epochs is detected and told, and never applied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sleeptools import store
from sleeptools.commands.agree.compare import (
    Comparison,
    OnNight,
    compare_nights,
    compare_scorings,
)
from sleeptools.commands.agree.matching import match_nights, read_pairs
from sleeptools.commands.agree.nights import find_scorings
from sleeptools.commands.agree.options import AgreeOptions
from sleeptools.commands.agree.output import agreement_json, check_out, write_agreement
from sleeptools.commands.agree.reading import ReadScoring, ScoringFile, read_scoring
from sleeptools.errors import DataError, UsageError
from sleeptools.evaluation.agreement import ScoringAgreement
from sleeptools.recording import stage_groups
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording
from sleeptools.store import batch

__all__ = ["AgreeOptions", "Comparison", "agree", "agree_files", "agreement_json", "raise_failures"]


def agree_files(
    sources: Sequence[Path],
    out: Path | None = None,
    on_progress: OnNight = batch.ignore,
    *,
    pairs: Path | None = None,
    recording: Path | None = None,
    options: AgreeOptions | None = None,
) -> Comparison:
    """Compare scorings in files.

    Parameters
    ----------
    sources
        Scorings, each a file, a folder of nights, or a folder that `score` wrote; the first is
        the reference of the others.
    out
        Folder to write: agreement.html, tables, and the consensus of each night.
    pairs
        In place of `sources`: a table with a column for each scoring and a row for each night.
    recording
        The recording, or a folder of them, whose start and length place the scorings.
    on_progress
        Called after every night.

    Returns
    -------
    comparison
        Nights that failed are in its `failures`: see `raise_failures`.

    Raises
    ------
    UsageError
        If there are fewer than two scorings.
    DataError
        If no night is in all scorings, or can be compared.
    OutputError
        If `out` holds something else.
    """
    options = options or AgreeOptions()
    if (pairs is None) == (not sources):
        raise UsageError(
            "give two or more scorings, or `pairs` with a table of them", code="USE-TOGETHER"
        )
    with contextlib.nullcontext() if out is None else store.lock(out):
        if out is not None:
            check_out(out, sources)
        if pairs is not None:
            matched = read_pairs(store.need(pairs))
        else:
            matched = match_nights(find_scorings(sources, options))
        comparison = compare_nights(matched, recording, options, on_progress)
        if out is not None:
            write_agreement(comparison, out)
    return comparison


def raise_failures(comparison: Comparison, out: Path | None) -> None:
    """Raise if a night could not be compared, after the others were.

    Raises
    ------
    DataError
        Naming the first of them, and where all are listed, if `out` was written.
    """
    if not comparison.failures:
        return
    rows = [{"night": night.night} for night in comparison.agreement.nights]
    if out is not None:
        batch.Outcome(rows, dict(comparison.failures), "night").raise_failures(out)
    name, error = next(iter(comparison.failures.items()))
    count = len(comparison.failures)
    raise DataError(
        f"{count} of {count + len(rows)} nights failed, the first of them {name}: {error}",
        hint=error.hint,
        code=error.code,
    )


Compared = Hypnogram | Path | str


def agree(
    *scorings: Compared | Mapping[str, Compared],
    recording: Recording | Path | str | None = None,
    options: AgreeOptions | None = None,
) -> ScoringAgreement:
    """Compare scorings of one night, or of many.

    Parameters
    ----------
    scorings
        Two or more; the first is the reference. Each is a hypnogram, the path of a file or of a
        folder of nights, or a mapping from the name of a night to either.
    recording
        The recording, whose start places hypnograms or files; for folders, a folder of recordings.
    options
        As for the command: groups of stages, names, how files are read, and `same_start` for
        scorings without a clock.

    Returns
    -------
    agreement
        `kappa()`, `confusions`, `metrics()`, `by_night()`, `sleep()`, `bland_altman()`, `hours()`,
        `differing()`, and for each of `nights` its `shifts`, `consensus_hypnogram()`, `notes`.

    Raises
    ------
    SleeptoolsError
        If any night cannot be compared.
    """
    options = options or AgreeOptions()
    if all(isinstance(scoring, str | Path) for scoring in scorings):
        paths = [Path(scoring) for scoring in scorings if isinstance(scoring, str | Path)]
        source = None if recording is None or isinstance(recording, Recording) else Path(recording)
        comparison = agree_files(paths, recording=source, options=options)
        for failure in comparison.failures.values():
            raise failure
        return comparison.agreement
    return _agree_given(scorings, recording, options)


def _agree_given(
    scorings: Sequence[Compared | Mapping[str, Compared]],
    recording: Recording | Path | str | None,
    options: AgreeOptions,
) -> ScoringAgreement:
    """Compare scorings of which some are hypnograms, or mappings of nights."""
    from sleeptools.datasets.shared.edf_settings import read_named

    by_night = [s if isinstance(s, Mapping) else {"night": s} for s in scorings]
    names = options.names or tuple(f"scoring {k}" for k in range(1, len(by_night) + 1))
    if len(by_night) < 2 or len(names) != len(by_night):  # noqa: PLR2004
        raise UsageError("give two or more scorings, and as many names", code="USE-TOGETHER")
    titles = list(by_night[0])
    if any({*nights} != {*titles} for nights in by_night):
        raise UsageError("the scorings are of different nights", code="USE-TOGETHER")
    signals = recording
    if isinstance(signals, str | Path):
        signals = read_named(Path(signals))
    groups = stage_groups.parse_groups(options.stages) if options.stages else ()
    nights = []
    for title in titles:
        read = [_read(s[title], n, options) for s, n in zip(by_night, names, strict=True)]
        nights.append(compare_scorings(title, read, names, groups, options, recording=signals))
    return ScoringAgreement(tuple(names), nights[0].aligned.names, tuple(nights))


def _read(scoring: Compared, name: str, options: AgreeOptions) -> ReadScoring:
    if isinstance(scoring, Hypnogram):
        return ReadScoring(scoring)
    return read_scoring(ScoringFile(Path(scoring)), name, options)
