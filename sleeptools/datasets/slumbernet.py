"""SlumberNet: EEG and EMG of mice over three days, scored in 4-s epochs.

`STEM-256Hz.txt` holds two columns of samples (EEG, EMG; 256 Hz), `STEM*sco.txt` the scoring as
SleepSign exports it: W, N and R; the authors take every other label for an artefact. Epoch k is
samples 1024 k to 1024 k + 1023. Units are not written; microvolts are assumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sleeptools import formats, store
from sleeptools.datasets import PlannedRecording, RecordingFiles
from sleeptools.datasets.shared import mice
from sleeptools.datasets.shared.mice import number_nights, with_hypnogram
from sleeptools.errors import DataError, NoRecordingsError
from sleeptools.formats import columns, sleepsign
from sleeptools.recording import simulators
from sleeptools.recording.hypnogram import Event
from sleeptools.recording.recording import Recording

CITATION: Final = (
    "P. K. Jha, U. K. Valekunja, A. B. Reddy, SlumberNet: deep learning classification of sleep "
    "stages using residual neural networks, Sci. Rep. 14:4797, 2024, "
    "doi:10.1038/s41598-024-54727-0. Data: Zenodo, doi:10.5281/zenodo.7899654; licence as stated "
    "there."
)
HOW_TO_GET: Final = """\
In a browser, from Zenodo: https://doi.org/10.5281/zenodo.7899654 (record 7899655, 24.1 GB):
1. Download the archives and unpack them into one folder; folders within it may stay.
2. What is read: the pairs STEM-256Hz.txt (EEG and EMG) and STEM...sco.txt (scoring)."""
PATTERN: Final = "STEM-256Hz.txt with STEM*sco.txt"
SIGNALS, SCORING = "-256Hz.txt", "sco.txt"
ENDINGS: Final = ("hz.txt", "sco.txt")
FREE_NAMES: Final = True
LETTERS: Final = ("W", "N", "R", "M")  # the last, an artefact, is stage -1
EPOCH_SECONDS: Final = 4.0
SAMPLE_RATE: Final = 256.0
HOURS: Final = 24.0  # a simulated recording; the real ones last 72
HEAD_LINES: Final = 19  # lines of a scoring before its table
SIMULATED: Final = "simulated by sleeptools"


def find(root: Path) -> list[RecordingFiles]:
    """Find every recording below a folder, sorted.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    NoRecordingsError
        If no file in it is named like this data set's.
    """
    texts = sorted(p for p in store.need(root, "folder").rglob("*") if _ends(p, SIGNALS, SCORING))
    stems = [p.name[: -len(SIGNALS)] for p in texts if _ends(p, SIGNALS)]
    groups: dict[str, list[Path]] = {stem: [] for stem in sorted(stems)}
    for path in texts:
        groups.setdefault(_stem(path.name, stems), []).append(path)
    if not groups:
        raise NoRecordingsError(
            f"{root}: holds no SlumberNet recordings", hint=f"expected files named {PATTERN}"
        )
    return number_nights(
        (stem, sorted(files, key=lambda p: not _ends(p, SIGNALS)), _problem(stem, files))
        for stem, files in groups.items()
    )


def _stem(name: str, stems: Iterable[str]) -> str:
    """Return the stem that a file belongs to: the longest one that its name begins with."""
    owners = [stem for stem in stems if name.startswith(stem)]
    return max(owners, key=len) if owners else name[: -len(SCORING)]


def _ends(path: Path, *endings: str) -> bool:
    """Return whether a file's name has one of these endings, in any case."""
    return path.name.lower().endswith(tuple(end.lower() for end in endings))


def _problem(stem: str, files: list[Path]) -> str:
    signals = sum(_ends(p, SIGNALS) for p in files)
    if signals == 1 and len(files) == 2:  # noqa: PLR2004 - signals and scoring
        return ""
    return (
        f"{signals} signal files and {len(files) - signals} scorings begin with {stem}; "
        "expected one of each"
    )


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnogram, cut to the length of the signals.

    Parameters
    ----------
    source
        The recording's files, from `find`.
    allow_truncated
        Without effect: only the scoring's length shows that a text is cut short.

    Raises
    ------
    DataError
        If a file is damaged, or the hypnogram covers less than half of the signals.
    """
    del allow_truncated
    if source.problem:
        raise DataError(source.problem, code="SET-PAIR")
    signals, scoring = source.files
    recording = columns.read(signals)
    hypnogram = sleepsign.read_hypnogram(scoring, scheme="slumbernet", epoch_seconds=EPOCH_SECONDS)
    facts: dict[str, str | int | bool] = {"data_set": "slumbernet"}
    with scoring.open("rb") as file:
        head = file.read(formats.HEAD_BYTES).decode("latin-1")
    memo = next((line for line in head.splitlines() if SIMULATED in line), "")
    if memo:
        facts |= simulators.facts_of_note(memo)
    return with_hypnogram(source, recording, hypnogram, facts)


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
        epoch_seconds=EPOCH_SECONDS,
        hours=HOURS,
        endings=(SIGNALS, f"-{SCORING}"),
    )


def write(recording: Recording, root: Path, events: Iterable[Event]) -> tuple[Path, ...]:
    """Write a recording and its hypnogram as two texts; `events` are not used."""
    del events
    signals, scoring = root / f"{recording.id}{SIGNALS}", root / f"{recording.id}-{SCORING}"
    columns.write(signals, [recording.signal(label).samples() for label in columns.LABELS])
    store.write_text(scoring, "\r\n".join([*_head(recording), *_rows(recording), ""]))
    return signals, scoring


def _head(recording: Recording) -> list[str]:
    """Return the lines before the table, as many as SleepSign writes."""
    note = simulators.note(recording.facts).replace("simulated", SIMULATED)
    facts = [f"File name,{recording.id}.kcd", f"Subject,{recording.subject}", f"Memo,{note}"]
    comments = [f"Free comment {i}," for i in range(1, HEAD_LINES - len(facts))]
    return [*facts, *comments, "Time,Epoch No.,Stage,"]


def _rows(recording: Recording) -> list[str]:
    scoring = recording.hypnogram
    assert scoring is not None
    begin = recording.start or datetime(2000, 1, 1)
    return [
        f"{begin + timedelta(seconds=k * EPOCH_SECONDS):%d/%m/%Y %H:%M:%S},{k + 1},"
        f"{LETTERS[stage]},0,"
        for k, stage in enumerate(scoring.stages.tolist())
    ]
