"""EDF, EDF+, BDF and BDF+ files: read and write signals and annotations.

Samples are memory-mapped and decoded one signal at a time. Every signal keeps its own sample rate,
whereas some other readers bring all channels to the highest one.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import AnnotationsOnlyError, DataError, NoStagesError, StorageError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.formats.parsing.edf_annotations import read_tals
from sleeptools.formats.parsing.edf_header import (
    HEADER_BYTES,
    NO_DATE,
    Header,
    SignalHeader,
    read_header,
    starts_like_edf,
)
from sleeptools.formats.parsing.edf_records import read_digital
from sleeptools.recording import label_schemes, montage, placing, simulators
from sleeptools.recording.hypnogram import (
    PLACEHOLDER,
    UNREADABLE,
    Event,
    Hypnogram,
    add_seconds,
)
from sleeptools.recording.recording import Recording, Signal, Stored, ignored_facts, none_left

SUFFIXES: Final = (".edf",)
TEXTS: Final = {
    "W": "Sleep stage W",
    "Wake": "Sleep stage W",
    "N1": "Sleep stage N1",
    "N2": "Sleep stage N2",
    "N3": "Sleep stage N3",
    "NREM": "Sleep stage N",
    "REM": "Sleep stage R",
    "unknown": "Sleep stage ?",
    "movement": "Movement time",
}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise an EDF or BDF file by its first bytes."""
    del path
    return starts_like_edf(head)


def read(
    path: Path, *, allow_truncated: bool = False, ignore_channels: Sequence[str] = ()
) -> Recording:
    """Read a recording; samples stay on the disk until they are used.

    The patient's name and birthday in the header are not read. `facts["notes"]` lists deviations
    from the standard that could be read nevertheless, malformed annotations among them. The start
    includes the first record's time stamp; where only the time of day is known, `start` is None and
    `facts["time_of_day"]` has it; where it is a placeholder, `facts["anonymised"]` is true.

    Parameters
    ----------
    allow_truncated
        Take the complete data records of a file that is shorter than its header says.
    ignore_channels
        Labels of signals to leave out, whose ranges in the header may be unreadable.

    Raises
    ------
    DataError
        If the file is damaged, or has no signal of a label to be left out; `present_channels` tells
        which of several it has.
    AnnotationsOnlyError
        If it holds annotations only.
    """
    header = read_header(
        store.need(path), allow_truncated=allow_truncated, ignore_channels=ignore_channels
    )
    labels = [s.label for s in header.signals if not s.is_annotations]
    if absent := [label for label in ignore_channels if label not in labels]:
        raise DataError(
            f"{path.name}: no signal {absent[0]!r} to be left out",
            hint=f"there are: {', '.join(labels)}",
            code="EDF-CHANNEL",
        )
    sampled = [s for s in header.signals if not s.is_annotations and s.label not in ignore_channels]
    if not sampled and ignore_channels:
        raise none_left(path.name)
    if not sampled:
        raise AnnotationsOnlyError(
            f"{path.name}: holds annotations only", hint="read it as a hypnogram"
        )
    annotations = read_tals(header)
    names = unique_names([s.label for s in sampled])
    signals = {
        n: replace(_signal(header, s, n), gaps=annotations.gaps)
        for n, s in zip(names, sampled, strict=True)
    }
    facts: dict[str, str | int | float | bool] = {"kind": header.kind}
    notes = [*header.notes, *annotations.all_notes()]
    notes += [
        f"a further signal {s.label!r} is called {n!r}"
        for n, s in zip(names, sampled, strict=True)
        if n != s.label
    ]
    if notes:
        facts["notes"] = "; ".join(notes)
    if header.simulated:
        facts |= simulators.facts_of_note(header.recording_field)
    clock = _clock(header, annotations.first)
    if isinstance(clock, time):
        facts[placing.START_TIME] = clock.isoformat()
    if _lost_start(header) == PLACEHOLDER:
        facts[placing.ANONYMISED] = True
    start = clock if isinstance(clock, datetime) else None
    facts = dict(ignored_facts(facts, ignore_channels))
    return Recording(path.stem, path.stem, 1, signals, None, start, facts)


def read_records(header: Header, records: slice) -> Recording:
    """Read some data records of a file that may still grow, as a recording by itself.

    Annotations are not read. Parameters and errors as of `read_digital`.
    """
    count = len(range(*records.indices(header.records)))
    sampled = [s for s in header.signals if not s.is_annotations]
    signals = {}
    for name, s in zip(unique_names([s.label for s in sampled]), sampled, strict=True):
        signals[name] = replace(
            _signal(header, s, name),
            size=count * s.samples_per_record,
            read=partial(read_digital, header, s, records),
        )
    facts = simulators.facts_of_note(header.recording_field) if header.simulated else {}
    return Recording(header.path.stem, header.path.stem, 1, signals, facts=facts)


def present_channels(path: Path, labels: Sequence[str]) -> list[str]:
    """Return those of some labels that a file has a signal of.

    Raises
    ------
    DataError
        If the file is damaged; the ranges of the signals of these labels may be unreadable.
    """
    if not labels:
        return []
    header = read_header(store.need(path), allow_truncated=True, ignore_channels=labels)
    there = {s.label for s in header.signals if not s.is_annotations}
    return [label for label in dict.fromkeys(labels) if label in there]


def unique_names(labels: Sequence[str]) -> list[str]:
    """Name signals by their labels; a further one of a label is the first free `LABEL#2`, ..."""
    taken = set(labels)
    names: list[str] = []
    for number, label in enumerate(labels):
        name = label
        if label in labels[:number]:
            name = next(n for k in itertools.count(2) if (n := f"{label}#{k}") not in taken)
        taken.add(name)
        names.append(name)
    return names


def _signal(header: Header, signal: SignalHeader, name: str) -> Signal:
    unit, factor = montage.decoded_unit(signal.unit)
    gain = offset = float("nan")
    if signal.calibrated:
        span = signal.physical_max - signal.physical_min
        gain = span / (signal.digital_max - signal.digital_min)
        offset = signal.physical_min - gain * signal.digital_min
    return Signal(
        label=name,
        sample_rate=header.sample_rate(signal),
        unit=unit,
        modality=montage.modality(signal.label),
        size=header.records * signal.samples_per_record,
        read=lambda: _digital(header, signal),
        gain=gain * factor,
        offset=offset * factor,
        dtype=np.int16 if header.sample_bytes == 2 else np.int32,  # noqa: PLR2004 - EDF
        stored_range=(
            min(signal.digital_min, signal.digital_max),
            max(signal.digital_min, signal.digital_max),
        ),
    )


def _digital(header: Header, signal: SignalHeader) -> Stored:
    if not signal.calibrated:
        raise DataError(
            f"{header.path.name}: signal {signal.label!r} has digital range "
            f"{signal.digital_min} to {signal.digital_max} and physical range "
            f"{signal.physical_min:g} to {signal.physical_max:g}; it cannot be calibrated",
            code="EDF-RANGE",
        )
    return read_digital(header, signal)


def read_annotations(path: Path, *, ignore_bad_annotations: bool = False) -> list[Event]:
    """Read all annotations of a file: (onset, duration, text), s.

    Raises
    ------
    DataError
        If the file is damaged, or an annotation malformed unless `ignore_bad_annotations`.
    """
    annotations = read_tals(read_header(store.need(path), annotations_only=True))
    return (annotations if ignore_bad_annotations else annotations.sound(path.name)).events


def read_hypnogram(
    path: Path,
    *,
    scheme: str | label_schemes.Scheme | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
    ignore_bad_annotations: bool = False,
) -> Hypnogram:
    """Read the sleep stages among a file's annotations.

    Other annotations ("Lights off", limb movements) are named in the notes, but an unknown text
    that begins with "Sleep stage", or fills epochs that have no stage, is an error. The labels of a
    `scheme` are read as stages in addition.

    Raises
    ------
    DataError
        If the file is damaged, or the stages overlap, are off the epoch grid, or have no durations.
    NoStagesError
        If no annotation is a stage.
    """
    header = read_header(store.need(path), annotations_only=True)
    known = label_schemes.label_scheme(scheme).labels if scheme else {}
    tals = read_tals(header)
    annotations = (tals if ignore_bad_annotations else tals.sound(path.name)).events
    texts = list(dict.fromkeys(text for _, _, text in annotations))
    if texts and not stage_labels.hold_stages(annotations, known, from_onsets=epoch_from_onsets):
        raise NoStagesError(
            f"{path.name}: no sleep stages among its {len(texts)} annotation texts: "
            + ", ".join([*(repr(t) for t in texts[:SHOWN]), *["..."] * (len(texts) > SHOWN)]),
            hint="other names of stages can be defined: [labels] of the data set edf, docs/edf.md",
        )
    hypnogram = stage_labels.from_mixed(
        annotations,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        begin=_clock(header, tals.first),
        epoch_from_onsets=epoch_from_onsets,
    )
    return replace(
        hypnogram,
        scorer="simulated" if header.simulated else "",
        lost_start=_lost_start(header),
    )


def _lost_start(header: Header) -> str:
    """Say why a file's start is unknown: anonymised files have 01.01.85 00.00.00."""
    if header.clock is not None:
        return ""
    return UNREADABLE if any("start time" in n for n in header.notes) else PLACEHOLDER


def _clock(header: Header, first: float) -> datetime | time | None:
    """Start of the first record, `first` s after the header's; a time if the date is unknown."""
    return add_seconds(header.clock, first)


def read_start(path: Path) -> datetime | None:
    """Read date and time of the start of a file's first record; None if they are unknown."""
    header = read_header(store.need(path), annotations_only=True)
    clock = _clock(header, read_tals(header).first)
    return clock if isinstance(clock, datetime) else None


SHOWN = 8  # texts in a message
MOST_NOTE: Final = 48  # characters that the recording identification has room for
PATIENT = re.compile(rb"\S+ \S+ \S+ (Female|Male)_(\d{1,3})yr *")


def read_sex_and_age(path: Path) -> dict[str, str | int]:
    """Read sex and age from a patient field like "X F X Female_33yr", as Sleep-EDF writes it.

    Nothing else of that field is kept, and a field of another form is ignored.

    Returns
    -------
    facts
        `sex`, "F" or "M", and `age`, years; empty if the field has another form.
    """
    with store.need(path).open("rb") as file:
        match = PATIENT.fullmatch(file.read(HEADER_BYTES)[8:88])
    return {"sex": match[1][:1].decode(), "age": int(match[2])} if match else {}


# --- writing --------------------------------------------------------------------------------------


def write(
    path: Path,
    recording: Recording,
    heads: Sequence[SignalHeader],
    *,
    record_seconds: float = 30.0,
    patient: str = "X",
    note: str = "",
) -> None:
    """Write a recording's signals as plain EDF.

    Parameters
    ----------
    heads
        Headers of the signals to write, found in the recording by label; values outside the
        physical range are clipped.
    record_seconds
        Length of a data record, s; samples after the last whole record are left out.
    patient
        Fourth subfield of the patient identification, for example "Female_33yr".
    note
        Fifth subfield of the recording identification, for example "simulated".
    """
    import pyedflib

    assert not recording.gaps, "plain EDF has no gaps"
    records = int(recording.seconds // record_seconds)
    with store.atomic_path(path) as draft, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that long records alter rates: they do not
        writer = pyedflib.EdfWriter(str(draft), len(heads), file_type=pyedflib.FILETYPE_EDF)
        try:
            writer.setDatarecordDuration(record_seconds)
            writer.setStartdatetime(recording.start or datetime(1985, 1, 1))
            writer.setPatientName(patient)
            writer.setRecordingAdditional(note)
            blocks = []
            for i, head in enumerate(heads):
                signal = recording.signal(head.label)
                writer.setSignalHeader(i, _fields(head, signal))
                count = records * round(record_seconds * signal.sample_rate)
                blocks.append(_quantised(signal.samples()[:count], head))
            writer.writeSamples(blocks, digital=True)
        finally:
            writer.close()
        _check_written(draft, path, [head.label for head in heads], blocks)


def _check_written(
    draft: Path, path: Path, labels: Sequence[str], blocks: Sequence[npt.NDArray[np.int32]]
) -> None:
    """Compare a file with what was to be written: pyedflib reports no write that failed.

    Raises
    ------
    StorageError
        If the file is cut short, holds other signals or samples, or deviates from the standard, as
        on a full disk: the number of records, the last that is written, would be missing.
    """
    try:
        header = read_header(draft)
        sampled = [s for s in header.signals if not s.is_annotations]
        unchanged = not header.notes and [s.label for s in sampled] == list(labels)
        unchanged = unchanged and all(
            np.array_equal(_digital(header, s), block)
            for s, block in zip(sampled, blocks, strict=True)
        )
    except DataError:
        unchanged = False
    if not unchanged:
        raise StorageError(
            f"{path}: what was written does not read back the same: the disk may be full",
            code="OUT-READBACK",
        )


def _fields(head: SignalHeader, signal: Signal) -> dict[str, str | int | float | None]:
    return {
        "label": head.label,
        "dimension": head.unit,
        "sample_frequency": signal.sample_rate,
        "physical_min": head.physical_min,
        "physical_max": head.physical_max,
        "digital_min": head.digital_min,
        "digital_max": head.digital_max,
        "transducer": head.transducer,
        "prefilter": head.prefilter,
    }


def _quantised(samples: npt.NDArray[np.float32], head: SignalHeader) -> npt.NDArray[np.int32]:
    gain = (head.physical_max - head.physical_min) / (head.digital_max - head.digital_min)
    digital = np.rint((samples - head.physical_min) / gain) + head.digital_min
    low, high = sorted((head.digital_min, head.digital_max))
    return np.asarray(np.clip(digital, low, high), np.int32)


def write_annotations(
    path: Path, events: Iterable[Event], begin: datetime | time | None, *, note: str = ""
) -> None:
    """Write annotations as an EDF+ file of one data record without signals, as Sleep-EDF does.

    Parameters
    ----------
    events
        (onset, duration, text), s.
    begin
        Start of the recording: a time of day if its date is unknown, None if it is unknown.
    note
        Last subfields of the recording identification, for example "simulated"; ASCII, of at most
        `MOST_NOTE` characters.
    """
    tals = b"+0\x14\x14\0" + b"".join(
        f"{'' if onset < 0 else '+'}{text_files.decimal_text(onset)}"
        f"\x15{text_files.decimal_text(duration)}"
        f"\x14{text}\x14\0".encode()
        for onset, duration, text in events
    )
    tals += b"\0" * (len(tals) % 2)
    day = f"{begin:%d-%b-%Y}".upper() if isinstance(begin, datetime) else "X"
    if not isinstance(begin, datetime):
        begin = datetime.combine(NO_DATE, begin or time.min)
    fixed = (
        f"{'0':8}{'X X X X':80}{f'Startdate {day} X X X {note}'.strip():80}"
        f"{begin:%d.%m.%y%H.%M.%S}{2 * HEADER_BYTES:<8}{'EDF+C':44}{1:<8}{0:<8}{1:<4}"
    )
    signal = (
        f"{'EDF Annotations':16}{'':80}{'':8}{0:<8}{1:<8}{-32768:<8}{32767:<8}{'':80}"
        f"{len(tals) // 2:<8}{'':32}"
    )
    with store.atomic_write(path) as file:
        file.write((fixed + signal).encode("ascii") + tals)


def write_hypnogram(
    hypnogram: Hypnogram, path: Path, confidence: Sequence[float] | None = None
) -> list[str]:
    """Write one annotation per epoch; return notes on what the format cannot represent.

    Parameters
    ----------
    confidence
        (epochs,) probability of each stage, NaN where there is none. The mean becomes a subfield of
        the recording identification, "confidence_0.87"; no epoch has its own, because programs that
        know the texts of stages stop at any other annotation.
    """
    events, notes = stage_words.stage_events(hypnogram, TEXTS, "edf")
    ours = hypnogram.scorer == "simulated" or hypnogram.scorer.startswith("sleeptools ")
    note = hypnogram.scorer.replace(" ", "_") if ours else ""  # no person's name
    if confidence is not None and np.isfinite(confidence).any():
        mean = f"confidence_{np.nanmean(confidence):.2f}"
        note = f"{note[: MOST_NOTE - len(mean) - 1]} {mean}".strip()
    start = add_seconds(hypnogram.begin, -hypnogram.onset)
    if start and start.microsecond:
        notes.append(f"edf: the recording's start, {start:%T.%f}, is written in whole seconds")
    write_annotations(path, events, start, note=note[:MOST_NOTE])
    return notes
