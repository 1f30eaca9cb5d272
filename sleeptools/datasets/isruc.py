"""ISRUC-Sleep: subgroup I (100 patients), II (8 patients, two nights), III (10 healthy adults).

A recording's folder holds `N.rec` (EDF by content), and of each of two scorers `N_1.txt` (a digit
per 30-s epoch: 0 W, 1 N1, 2 N2, 3 N3, 5 REM; a tail of blank lines) and the workbook `N_1.xlsx`
(epoch number and stage in the first two columns, with or without headings). Subgroup II has a
folder per night below the subject's. Both scorings are kept; the text is taken, a workbook only
where it is missing. Labels of the signals vary from subject to subject: A1/A2 or M1/M2, auxiliaries
X1, X2, ... or 24, 25, ...; subject 8 of subgroup I has no F3 and F4, subject 40 no references.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools import store
from sleeptools.datasets import (
    PlannedRecording,
    RecordingFiles,
    SimulatedChannel,
    check_plan,
    spreadsheets,
)
from sleeptools.errors import DataError, NoRecordingsError
from sleeptools.formats import edf, labels
from sleeptools.formats.parsing import stage_labels
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording import label_schemes, placing, simulators
from sleeptools.recording.hypnogram import Event, Hypnogram
from sleeptools.recording.recording import Recording, Samples, Signal

CITATION: Final = (
    "S. Khalighi, T. Sousa, J. M. Santos, U. Nunes, ISRUC-Sleep: a comprehensive public dataset "
    "for sleep researchers, Comput. Methods Programs Biomed. 124:180-192, 2016, "
    "doi:10.1016/j.cmpb.2015.10.013. https://sleeptight.isr.uc.pt; no licence is stated: free for "
    "research with this citation."
)
HOW_TO_GET: Final = """\
In a browser, from https://sleeptight.isr.uc.pt (MEGA folders; subgroup I is about 14 GB):
1. Download the archives N.rar of the subgroups you need, into folders named subgroupI (100
   patients), subgroupII (8 patients, two nights) and subgroupIII (10 healthy people).
2. Put the tables Details_subgroup_I_Submission.xlsx and its like beside these folders.
3. Unpack each archive where it lies: cd subgroupIII && for f in *.rar; do 7z x "$f"; done"""
PATTERN: Final = "subgroupI/N/N.rec with N_1.txt and N_2.txt (subgroupII/N/1/1.rec and N/2/2.rec)"
SUBSETS: Final = {
    group: (lambda id_, group=group: id_.startswith(f"{group}-")) for group in ("I", "II", "III")
}
SUBJECTS: Final = {"I": 100, "II": 8, "III": 10}
GROUP: Final = re.compile(
    r"(?:.*sub[-_ ]*group|.*isruc[-_ ]*s)[-_ ]*(I{1,3}|[123])(?:[-_ .].*)?", re.IGNORECASE
)
"""Folder names that give the subgroup, such as "subgroupIII", "ISRUC_S3" or "Subgroup_1"."""
SCORERS: Final = (1, 2)
ENDINGS: Final = tuple(f"_{k}{end}" for k in SCORERS for end in (".txt", ".xlsx"))
SCHEME: Final = "isruc"
EPOCH_SECONDS: Final = 30.0
SCORED_BY: Final = re.compile(r"(\d+)_([12])\.(?:txt|xlsx)", re.IGNORECASE)
"""Names of scorings: number of the recording, and of the scorer."""
LEAST_OVERLAP: Final = 0.5  # fraction of the signals that each hypnogram must cover


# --- finding --------------------------------------------------------------------------------------


def find(root: Path) -> list[RecordingFiles]:
    """Find every recording below a folder, by subgroup and number.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If no file is named like this data set's, all archives are still packed, or no folder's
        name gives the subgroup.
    """
    files = [p for p in store.need(root, "folder").rglob("*") if p.stem.isdecimal()]
    recorded = [p for p in files if p.suffix.lower() == ".rec"]
    unpacked = {parent for p in recorded for parent in p.parents}
    packed = [p for p in files if p.suffix.lower() == ".rar" and p.with_suffix("") not in unpacked]
    if not recorded and packed:
        raise DataError(f"{packed[0]}: is still packed", hint=_unpack(packed[0]), code="SET-PACKED")
    if not recorded:
        raise NoRecordingsError(f"{root}: holds no ISRUC recordings", hint=f"expected {PATTERN}")
    sources = [_source(p, root) for p in recorded] + [_packed(p) for p in packed]
    return sorted(sources, key=lambda s: s.id)


def _unpack(archive: Path) -> str:
    return (
        f"unpack every archive where it lies, for example with 7z: "
        f'cd {archive.parent} && for f in *.rar; do 7z x "$f"; done'
    )


def _group(folder: Path) -> str:
    """Return the subgroup that the name of a folder, or of one around it, gives."""
    for name in (folder.name, *(p.name for p in folder.parents)):
        if match := GROUP.fullmatch(name):
            return match[1].upper() if match[1] in "IIIiii" else "I" * int(match[1])
    raise DataError(
        f"{folder}: no folder's name tells the subgroup",
        hint="name the folder around it subgroupI, subgroupII or subgroupIII",
        code="SET-GROUP",
    )


def _source(rec: Path, root: Path) -> RecordingFiles:
    folder = rec.parent
    group = _group(folder.resolve())
    night = int(rec.stem) if group == "II" else 1
    folders = (folder.parent.name, folder.name) if group == "II" else (folder.name,)
    number = next((name for name in folders if name.isdecimal()), rec.stem)
    subject = f"{group}-{int(number):03d}"
    id_ = f"{subject}-{night}" if group == "II" else subject
    names = [f"{rec.stem}_{k}{end}" for k in SCORERS for end in (".txt", ".xlsx")]
    present = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_file()}
    scorings = [present[name.lower()] for name in names if name.lower() in present]
    problem = "" if scorings else f"{folder}: holds no {rec.stem}_1.txt or {rec.stem}_1.xlsx"
    details = _details(root, group)
    return RecordingFiles(id_, subject, night, (rec, *scorings, *details), problem)


def scorer_of(path: Path) -> tuple[str, int] | None:
    """Tell recording and scorer of a file named as this set's scorings; None for another file.

    Beside it lie the recording, or the same scorer's other file, or the other scorer's.
    """
    match = SCORED_BY.fullmatch(path.name)
    if not match:
        return None
    number, scorer = match[1], int(match[2])
    names = {f"{number}.rec", *(f"{number}{end}" for end in ENDINGS)} - {path.name.lower()}
    beside = {p.name.lower() for p in path.parent.iterdir()}
    return (number, scorer) if names & beside else None


def _packed(archive: Path) -> RecordingFiles:
    subject = f"{_group(archive.parent.resolve())}-{int(archive.stem):03d}"
    return RecordingFiles(subject, subject, 1, (archive,), f"{archive}: is still packed")


def _details(root: Path, group: str) -> list[Path]:
    """Find the subgroup's table of subjects, as published or exported as .csv."""
    stem = f"Details_subgroup_{group}_Submission"
    for folder in (root, root.parent):
        for directory in (folder, folder / "Details"):
            for end in (".xlsx", ".xls", ".csv"):
                if (directory / (stem + end)).is_file():
                    return [directory / (stem + end)]
    return []


# --- reading --------------------------------------------------------------------------------------


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with both scorers' hypnograms, cut to the length of the signals.

    Parameters
    ----------
    source
        The recording's files, from `find`.
    allow_truncated
        Read the complete data records of a file that is cut short.

    Raises
    ------
    DataError
        If a file is damaged, a label is unknown, or a hypnogram covers less than half of the
        signals.
    """
    if source.problem:
        packed = source.files[0].suffix.lower() == ".rar"
        raise DataError(
            source.problem, hint=_unpack(source.files[0]) if packed else None, code="SET-PAIR"
        )
    rec = source.files[0]
    ignored = edf.present_channels(rec, source.ignore_channels)
    signals = edf.read(rec, allow_truncated=allow_truncated, ignore_channels=ignored)
    notes = [str(signals.facts["notes"])] if "notes" in signals.facts else []
    scorings = [
        placing.place(signals, h, source=f"{source.id}: {h.scorer}", any_length=True)
        for k in SCORERS
        if (h := _read_scorer(source, k, notes))
    ]
    for scoring in scorings:
        covered = len(scoring) * EPOCH_SECONDS / signals.seconds
        if not LEAST_OVERLAP <= covered <= 1 / LEAST_OVERLAP:
            raise DataError(
                f"{source.id}: {scoring.scorer} scored {'only ' * (covered < 1)}{covered:.0%} of "
                f"it: {placing.span_text(signals, scoring)}",
                code="HYP-SPAN",
            )
    provenance = {"data_set": "isruc", "scoring_rules": "AASM", "notes": "; ".join(notes)}
    facts = {**signals.facts, **_subject(source), **{k: v for k, v in provenance.items() if v}}
    recording = replace(
        signals, id=source.id, subject=source.subject, night=source.night, facts=facts
    )
    return recording.scored(scorings)


def _read_scorer(source: RecordingFiles, scorer: int, notes: list[str]) -> Hypnogram | None:
    """Read one scorer's hypnogram; where the text and the workbook differ, note it."""
    files = {f.suffix.lower(): f for f in source.files if f.stem.endswith(f"_{scorer}")}
    if not files and scorer == 1:
        raise DataError(f"{source.id}: holds no scoring of scorer 1", code="HYP-SCORER")
    if not files:
        notes.append(f"no scoring of scorer {scorer}")
        return None
    if ".txt" not in files:
        notes.append(f"scorer {scorer} is read from {files['.xlsx'].name}")
        return _workbook(files[".xlsx"], scorer)
    scoring = _text(files[".txt"], scorer)
    if ".xlsx" in files:
        notes += _differences(scoring, files[".xlsx"], scorer)
    return scoring


def _differences(scoring: Hypnogram, workbook: Path, scorer: int) -> list[str]:
    try:
        second = _workbook(workbook, scorer)
    except DataError as e:
        return [str(e)]
    ahead = second.first_epoch - scoring.first_epoch
    shared = max(0, min(len(scoring) - ahead, len(second)))
    theirs = second.stages[:shared]
    count = int((scoring.stages[ahead : ahead + shared] != theirs).sum())
    notes = [f"{workbook.name} differs in {count} of {shared} epochs"] if count else []
    if len(second) + ahead != len(scoring):
        notes.append(f"{workbook.name} has {len(second) + ahead} epochs, the text {len(scoring)}")
    return notes


def _text(path: Path, scorer: int) -> Hypnogram:
    """Read a digit per line; blank lines, which would shift stages, are allowed at the end only."""
    scoring = labels.read_hypnogram(path, scheme=SCHEME, epoch_seconds=EPOCH_SECONDS)
    return replace(scoring, scorer=f"scorer {scorer}")


def _workbook(path: Path, scorer: int) -> Hypnogram:
    return replace(read_workbook(path), scorer=f"scorer {scorer}")


def read_workbook(path: Path) -> Hypnogram:
    """Read a workbook's rows of epoch number and stage, up to the last row that has a stage.

    The row of headings and the epoch numbers are optional; a number must be that of its row.

    Raises
    ------
    DataError
        If the workbook is damaged, a number is not that of its row, or a label is unknown.
    """
    rows = spreadsheets.read_table(path)
    rows = rows[1:] if rows and isinstance(rows[0][0], str) else rows
    pairs = [(row[0], str(row[1] or "")) for row in rows if len(row) > 1]
    while pairs and not pairs[-1][1]:
        pairs.pop()
    first = next((int(n) - i for i, (n, _) in enumerate(pairs) if isinstance(n, float)), 1)
    for due, (number, _) in enumerate(pairs, start=first):
        if number not in (None, due):
            raise DataError(f"{path.name}: epoch {due} is numbered {number}", code="HYP-NUMBER")
    if first < 1:
        raise DataError(f"{path.name}: the first epoch is numbered {first}", code="HYP-NUMBER")
    names = [stage or "unannotated" for _, stage in pairs]
    scoring = stage_labels.from_labels(
        names, scheme=SCHEME, epoch_seconds=EPOCH_SECONDS, source=path.name
    )
    return stage_labels.numbered(scoring, range(first, first + len(pairs)), path.name)


def _subject(source: RecordingFiles) -> dict[str, str | int]:
    """Look up age and sex in the subgroup's table, in row "8", or "8_Rec.1" in subgroup II."""
    facts: dict[str, str | int] = {}
    for path in (f for f in source.files if f.stem.startswith("Details_subgroup")):
        rows = spreadsheets.read_table(path)
        heads, (subject, age, sex) = spreadsheets.find_columns(
            rows, "Subject", "Age", "Sex", source=path
        )
        for row in rows[heads + 1 :]:
            match = re.match(r"\d+", str(row[subject] or ""))
            if not match or int(match[0]) != int(source.subject.rsplit("-", 1)[1]):
                continue
            years, letter = row[age], str(row[sex] or "").upper()[:1]
            if isinstance(years, float):
                facts.setdefault("age", int(years))
            if letter in ("F", "M"):
                facts.setdefault("sex", letter)
    return facts


# --- writing the same layout ----------------------------------------------------------------------

HOURS: Final = 7.5  # about 890 epochs
PERSONS: Final = {"I": 300, "II": 400, "III": 500}  # added to a number: persons of no other set
RATE: Final = 200.0
RANGE: Final = 3276.8  # uV; with 16 bits a step of 0.1 uV
PAIRS: Final = {
    "LOC-A2": "EOG left",
    "ROC-A1": "EOG right",
    "F3-A2": "EEG F3-M2",
    "C3-A2": "EEG C3-M2",
    "O1-A2": "EEG O1-M2",
    "F4-A1": "EEG F4-M1",
    "C4-A1": "EEG C4-M1",
    "O2-A1": "EEG O2-M1",
    "X1": "EMG chin",
    "X2": "ECG",
    "X3": "EMG leg",
}
CHANNELS: Final = tuple(
    SimulatedChannel(label, source, RATE, -RANGE, RANGE) for label, source in PAIRS.items()
)
WITH_A: Final = {*range(1, 11), 12, 15, 16, 18, 22, 24, 26}
"""Subjects of subgroup I, of 1 to 35, whose labels say A1/A2; the others say M1/M2."""
WITHOUT_FRONTAL, UNREFERENCED = 8, 40  # subjects of subgroup I
MASTOIDS: Final = {"A1": "C3-A2", "A2": "C4-A1"}  # the signal that serves as a mastoid's own


def plan(subjects: int, nights: int, subset: str | None) -> list[PlannedRecording]:
    """Plan the recordings of a simulated subgroup; of III if none is named.

    Raises
    ------
    UsageError
        For an unknown subgroup, or more subjects or nights than it has.
    """
    group = subset or "III"
    max_subjects, max_nights = SUBJECTS.get(group, 0), 2 if group == "II" else 1
    check_plan(subjects, max_subjects, nights, max_nights, subset, SUBJECTS)
    planned = []
    for number in range(1, subjects + 1):
        for night in range(1, nights + 1):
            subject = f"{group}-{number:03d}"
            id_ = f"{subject}-{night}" if group == "II" else subject
            files = _files(group, number, night)
            person = PERSONS[group] + number
            planned.append(PlannedRecording(id_, subject, night, person, CHANNELS, files, 2, HOURS))
    return planned


def _files(group: str, number: int, night: int) -> tuple[str, ...]:
    stem = str(night) if group == "II" else str(number)
    folder = f"subgroup{group}/{number}" + (f"/{night}" if group == "II" else "")
    scorings = (f"{folder}/{stem}_{k}{end}" for k in SCORERS for end in (".txt", ".xlsx"))
    return (f"{folder}/{stem}.rec", *scorings)


def write(recording: Recording, root: Path, events: Iterable[Event]) -> tuple[Path, ...]:
    """Write a recording in the layout of ISRUC: a .rec, and a text and a workbook of each scorer.

    Parameters
    ----------
    recording
        A recording with the signals of `CHANNELS` and two hypnograms; its number decides how the
        signals are labelled.
    root
        Folder to write.
    events
        Not used: the hypnograms hold all that the texts do.
    """
    del events
    group, number = recording.subject.split("-")
    names = _files(group, int(number), recording.night)
    rec, *label_paths = paths = tuple(root / name for name in names)
    variant = _variant(recording, group, int(number))
    heads = [
        SignalHeader(label, "", "uV", -RANGE, RANGE, -32768, 32767, "", int(RATE), 0)
        for label in variant.signals
    ]
    note = simulators.note(recording.facts)
    edf.write(rec, variant, heads, record_seconds=1.0, note=note)
    for i, scoring in enumerate(recording.scorings):
        _write_labels(scoring, label_paths[2 * i], label_paths[2 * i + 1])
    return paths


def _write_labels(scoring: Hypnogram, text: Path, workbook: Path) -> None:
    names = [scoring.names[max(s, 0)] for s in scoring.stages]  # AASM knows no movement: wake
    digits = {name: digit for digit, name in label_schemes.label_scheme(SCHEME).labels.items()}
    lines = [digits[name] for name in names]
    store.write_text(text, "\r\n".join(lines) + "\r\n\r\n")
    rows: list[spreadsheets.TableRow] = [["Epoch", "Stage"]]
    rows += [[float(i), "R" if name == "REM" else name] for i, name in enumerate(names, start=1)]
    spreadsheets.write_xlsx(workbook, rows)


def _variant(recording: Recording, group: str, number: int) -> Recording:
    """Label the signals as the real recording of that number does."""
    signals = dict(recording.signals)
    if (group, number) == ("I", WITHOUT_FRONTAL):
        del signals["F3-A2"], signals["F4-A1"]
    if (group, number) == ("I", UNREFERENCED):
        signals = _unreferenced(signals)
    elif group == "I" and number not in WITH_A:
        numbered = number % 2 == 0
        signals = {_mastoid_name(label, numbered=numbered): s for label, s in signals.items()}
    renamed = {label: replace(s, label=label) for label, s in signals.items()}
    return replace(recording, signals=renamed)


def _mastoid_name(label: str, *, numbered: bool) -> str:
    """Turn F3-A2 into F3-M2 and LOC-A2 into E1-M2; with `numbered`, X1 into 24."""
    if numbered and label.startswith("X"):
        return str(23 + int(label[1:]))
    return label.replace("-A", "-M").replace("LOC", "E1").replace("ROC", "E2")


def _unreferenced(signals: dict[str, Signal]) -> dict[str, Signal]:
    """Split the derivations into the electrodes whose differences they are."""
    mastoids = {
        name: np.float32(0.3) * signals[donor].samples() for name, donor in MASTOIDS.items()
    }
    electrodes = {name: _with(signals["C3-A2"], values) for name, values in mastoids.items()}
    for label, signal in signals.items():
        electrode, _, reference = label.partition("-")
        values = signal.samples()
        electrodes[electrode] = _with(signal, values + mastoids[reference] if reference else values)
    return electrodes


def _with(signal: Signal, samples: Samples) -> Signal:
    return replace(signal, read=lambda: samples, gain=1.0, offset=0.0, dtype=np.dtype(np.float32))
