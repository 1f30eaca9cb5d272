"""Data sets of mice: subjects from free file names, one hypnogram per recording, simulation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleeptools.datasets import PlannedRecording, RecordingFiles, SimulatedChannel, check_plan
from sleeptools.datasets.shared.subjects import same_subject, subject_of
from sleeptools.errors import DataError, UsageError
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording

LEAST_OVERLAP: Final = 0.5  # fraction of the signals that the hypnogram must cover
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What the id of a recording may look like: it becomes the name of a file."""
MAX_NUMBER: Final = 99  # simulated mice, and recordings of each: two digits of a file name
RANGE_UV: Final = 2000.0  # range of the simulated amplifier, from minus to plus


def with_hypnogram(
    source: RecordingFiles,
    recording: Recording,
    hypnogram: Hypnogram,
    facts: Mapping[str, str | int | float | bool],
) -> Recording:
    """Return a recording with its hypnogram, cut to the signals, and with the source's names.

    Epoch k of the scoring is the k-th of the signals, whatever the clock says.

    Parameters
    ----------
    source
        Files, id, subject and night of the recording.
    recording
        The signals.
    hypnogram
        The scoring; it may outlast the signals.
    facts
        Facts that are added to the recording's own, beside the numbers of epochs that were cut.

    Raises
    ------
    DataError
        If the hypnogram covers less than half of the signals.
    """
    name = source.files[-1].name
    placed = placing.place(recording, hypnogram, way="number", source=name, any_length=True)
    kept = recording.without(source.ignore_channels)
    scored = replace(
        kept,
        id=source.id,
        subject=source.subject,
        night=source.night,
        facts={**kept.facts, **facts},
    ).scored([placed])
    (clipped,) = scored.scorings
    covered = len(clipped) * clipped.epoch_seconds / recording.seconds
    if covered < LEAST_OVERLAP:
        raise DataError(
            f"{name}: covers only {covered:.0%} of {source.files[0].name}: "
            f"{placing.span_text(recording, placed)}",
            code="HYP-SPAN",
        )
    return scored


def number_nights(groups: Iterable[tuple[str, Sequence[Path], str]]) -> list[RecordingFiles]:
    """Make recordings' files of (stem, files, problem), where only the stem names the subject.

    A subject's nights are numbered in the order of the stems; see `subjects.subject_of`.
    """
    first: dict[str, str] = {}
    nights: Counter[str] = Counter()
    sources = []
    for stem, files, problem in groups:
        subject = first.setdefault(same_subject(stem), subject_of(stem))
        nights[subject] += 1
        invalid = f"{stem!r} cannot be the name of a recording; expected {ID.pattern}"
        reason = problem if ID.fullmatch(stem) else invalid
        sources.append(RecordingFiles(stem, subject, nights[subject], tuple(files), reason))
    return sources


def refuse_subset(subset: str | None) -> None:
    """Refuse a subset of a data set that has none.

    Raises
    ------
    UsageError
        If a subset is given.
    """
    if subset is not None:
        raise UsageError(f"`subset={subset}`; the data set has no subsets", code="USE-TOGETHER")


def plan(
    subjects: int,
    nights: int,
    *,
    sample_rate: float,
    epoch_seconds: float,
    hours: float,
    endings: Sequence[str],
) -> list[PlannedRecording]:
    """Plan the recordings of a simulated data set; `mouse-01-1` is the first of the first mouse.

    Parameters
    ----------
    subjects, nights
        Number of mice, and of recordings of each.
    sample_rate
        Sample rate of EEG and EMG, Hz.
    epoch_seconds
        Length of a scored epoch, s.
    hours
        Length of a recording, h.
    endings
        Endings of a recording's file names after its id.
    """
    check_plan(subjects, MAX_NUMBER, nights, MAX_NUMBER)
    channels = tuple(
        SimulatedChannel(n, n, sample_rate, -RANGE_UV, RANGE_UV) for n in ("EEG", "EMG")
    )
    planned = []
    for number in range(1, subjects + 1):
        for night in range(1, nights + 1):
            subject = f"mouse-{number:02d}"
            id_ = f"{subject}-{night}"
            files = tuple(id_ + end for end in endings)
            planned.append(
                PlannedRecording(
                    id_,
                    subject,
                    night,
                    number,
                    channels,
                    files,
                    hours=hours,
                    animal="mouse",
                    epoch_seconds=epoch_seconds,
                )
            )
    return planned
