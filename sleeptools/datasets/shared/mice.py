"""What data sets of single animals have in common: names that are free, and one scoring a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleeptools.datasets import Channel, Planned, Source, check_plan
from sleeptools.errors import DataError, UsageError
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording

LEAST_OVERLAP: Final = 0.5  # of the signals that the hypnogram must cover
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What the id of a recording may look like: it becomes the name of a file."""
MOST: Final = 99  # simulated mice, and recordings of each: two digits of a name
RANGE_UV: Final = 2000.0  # of a simulated amplifier


def join(
    source: Source,
    recording: Recording,
    hypnogram: Hypnogram,
    facts: Mapping[str, str | int | float | bool],
) -> Recording:
    """Put a hypnogram to its signals, cut to their length, under the source's names.

    Parameters
    ----------
    facts
        What the data set adds to the recording's own; "epochs past the signals" counts what is
        cut.

    Raises
    ------
    DataError
        If the two overlap too little.
    """
    kept = hypnogram.clipped(recording.seconds)
    covered = len(kept) * kept.epoch_seconds / recording.seconds
    if covered < LEAST_OVERLAP:
        raise DataError(
            f"{source.files[-1].name}: covers only {covered:.0%} of {source.files[0].name}"
        )
    past = {"epochs past the signals": len(hypnogram) - len(kept)}
    return replace(
        recording,
        id=source.id,
        subject=source.subject,
        night=source.night,
        hypnogram=kept,
        facts={**recording.facts, **facts, **past},
    )


def numbered(found: Iterable[tuple[str, Sequence[Path], str]]) -> list[Source]:
    """Make sources of (stem, files, problem), where only the stem says who and which night.

    A subject's nights are numbered in the order of their stems; see `subject_of`.
    """
    nights: Counter[str] = Counter()
    sources = []
    for stem, files, problem in found:
        subject = subject_of(stem)
        nights[subject] += 1
        strange = f"{stem!r} cannot be the name of a recording; expected {ID.pattern}"
        wrong = problem if ID.fullmatch(stem) else strange
        sources.append(Source(stem, subject, nights[subject], tuple(files), wrong))
    return sources


def subject_of(stem: str) -> str:
    """Tell the animal from a file's name: all up to its first part that is a number.

    Files of `chr2_590_freq` and `chr2_590_base` are of one animal, `chr2_590`; a name without a
    number is an animal of its own. Where the rule is wrong it rather puts two animals together
    than one on both sides of a split.
    """
    match = re.match(r"(?:.*?[_ -])??\d{1,5}(?=[_ -]|$)", stem)  # longer numbers are dates
    return match[0] if match else stem


def refuse_subset(subset: str | None) -> None:
    """Refuse a subset of a data set that has none.

    Raises
    ------
    UsageError
        Naming the option.
    """
    if subset is not None:
        raise UsageError(f"`subset={subset}`; the data set has no subsets")


def plan(
    subjects: int,
    nights: int,
    *,
    sample_rate: float,
    epoch_seconds: float,
    hours: float,
    endings: Sequence[str],
) -> list[Planned]:
    """List the mice of a simulated data set, `mouse-01-1` the first recording of the first.

    Parameters
    ----------
    endings
        Of the names of the files that a recording has.
    """
    check_plan(subjects, MOST, nights, MOST)
    channels = tuple(Channel(n, n, sample_rate, -RANGE_UV, RANGE_UV) for n in ("EEG", "EMG"))
    planned = []
    for number in range(1, subjects + 1):
        for night in range(1, nights + 1):
            subject = f"mouse-{number:02d}"
            id_ = f"{subject}-{night}"
            files = tuple(id_ + end for end in endings)
            planned.append(
                Planned(
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
