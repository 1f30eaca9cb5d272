"""Kjaerby et al. 2022: EEG and EMG of mice, about 4 h each, scored every second.

One MATLAB file per animal, as `formats.matlab` describes it, scored as 0 wake, 1 NREM, 2 REM, -1 or
NaN unknown. In some files the scores outlast the signals: the scores past the signals are cut and
counted, and a file in which either covers less than half of the other is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.datasets import PlannedRecording, RecordingFiles
from sleeptools.datasets.shared import mice
from sleeptools.datasets.shared.mice import LEAST_OVERLAP, number_nights, with_hypnogram
from sleeptools.errors import DataError, NoRecordingsError
from sleeptools.formats import matlab
from sleeptools.recording.hypnogram import Event
from sleeptools.recording.recording import Recording

CITATION: Final = (
    "C. Kjaerby, M. Andersen, N. Hauglund, et al., Memory-enhancing properties of sleep depend on "
    "the oscillatory amplitude of norepinephrine, Nat. Neurosci. 25:1059-1070, 2022, "
    "doi:10.1038/s41593-022-01102-9. The recordings come from the authors, under their terms."
)
HOW_TO_GET: Final = """\
There is no public download: the recordings come from the authors of the paper,
https://doi.org/10.1038/s41593-022-01102-9, under their terms.
1. Put one NAME.mat an animal into a folder, with eeg, emg, eeg_frequency and sleep_scores.
2. Files of MATLAB version 7.3 need h5py: pip install h5py."""
PATTERN: Final = "NAME.mat with eeg, emg, eeg_frequency and sleep_scores"
ENDINGS: Final = (".mat",)
FREE_NAMES: Final = True
SAMPLE_RATE: Final = 511.95964
HOURS: Final = 4.0


def find(root: Path) -> list[RecordingFiles]:
    """Find every recording below a folder, sorted.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If it holds no MATLAB file.
    """
    groups: dict[str, list[Path]] = {}
    files = [p for p in store.need(root, "folder").rglob("*") if p.suffix.lower() == ENDINGS[0]]
    for path in sorted(files, key=lambda p: p.stem):
        groups.setdefault(path.stem, []).append(path)
    if not groups:
        raise NoRecordingsError(f"{root}: holds no MATLAB files", hint=f"expected {PATTERN}")
    return number_nights((stem, files, _problem(stem, files)) for stem, files in groups.items())


def _problem(stem: str, files: list[Path]) -> str:
    return "" if len(files) == 1 else f"{len(files)} files are named {stem}.mat; expected one"


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnogram, cut to the length of the signals.

    Parameters
    ----------
    source
        The recording's files, from `find`.
    allow_truncated
        Without effect: only the number of scores shows that a vector is cut short.

    Raises
    ------
    DataError
        If the file is damaged, or scores or signals cover less than half of the other.
    """
    del allow_truncated
    if source.problem:
        raise DataError(source.problem, code="SET-PAIR")
    (path,) = source.files
    recording, hypnogram = matlab.read(path), matlab.read_hypnogram(path)
    if recording.seconds < LEAST_OVERLAP * len(hypnogram) * hypnogram.epoch_seconds:
        raise DataError(
            f"{path.name}: signals of {recording.seconds:g} s for {len(hypnogram)} scored seconds",
            hint="the recording was cut short when the file was written",
            code="HYP-LENGTH",
        )
    return with_hypnogram(source, recording, hypnogram, {"data_set": "kjaerby"})


# --- writing the same layout ----------------------------------------------------------------------


def plan(subjects: int, nights: int, subset: str | None = None) -> list[PlannedRecording]:
    """Plan simulated recordings; the data set has no subsets.

    Raises
    ------
    UsageError
        For a subset, or more than 99 subjects or nights.
    """
    mice.refuse_subset(subset)
    return mice.plan(
        subjects,
        nights,
        sample_rate=SAMPLE_RATE,
        epoch_seconds=matlab.EPOCH_SECONDS,
        hours=HOURS,
        endings=(".mat",),
    )


def write(recording: Recording, root: Path, events: Iterable[Event]) -> tuple[Path, ...]:
    """Write a recording and its hypnogram as a MATLAB file of version 5; `events` are not used."""
    del events
    assert recording.hypnogram is not None
    path = root / f"{recording.id}.mat"
    matlab.write(path, recording, recording.hypnogram.stages.astype(float))
    return (path,)
