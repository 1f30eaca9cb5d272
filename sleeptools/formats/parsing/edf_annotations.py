r"""Time-stamped annotation lists (TALs) of EDF+ and BDF+, read strictly.

Kemp & Olivan 2003, section 2.2.2: `+onset[\x15duration]\x14text\x14...\x14\0`; the first TAL of a
record has the record's start. A malformed TAL is an error, because a label that is silently lost
would not be noticed.
"""

from __future__ import annotations

import re

import numpy as np

from sleeptools.errors import DataError
from sleeptools.formats.parsing.edf_header import Header
from sleeptools.recording.hypnogram import Event

TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14(.*)", re.DOTALL)
CLOCK_TOLERANCE = 1e-3  # s, between a record's time stamp and its place in the file


def read_tals(header: Header) -> tuple[list[Event], list[str]]:
    """Read every annotation of a file, in the file's order.

    Returns
    -------
    events
        (onset, duration, text), s; the duration is 0 if the file has none.
    notes
        Deviations from the standard that could be read nevertheless.

    Raises
    ------
    DataError
        For a malformed TAL, and for records that are not contiguous; the message has the record.
    """
    signals = [s for s in header.signals if s.is_annotations]
    if not signals or not header.records:
        return [], []
    width = header.record_samples * header.sample_bytes
    data = np.memmap(header.path, np.uint8, "r", header.size, (header.records, width))
    events: list[Event] = []
    notes: list[str] = []
    first = 0.0
    for record in range(header.records):
        for i, signal in enumerate(signals):
            start = signal.offset * header.sample_bytes
            stop = start + signal.samples_per_record * header.sample_bytes
            tals = _tals(data[record, start:stop].tobytes(), header, record, notes)
            if i == 0:
                clock = _clock(tals, header, record, notes)
                first = clock if record == 0 and clock is not None else first
                _check_contiguous(clock, first, header, record)
            events += [(o - first, d, t) for o, d, texts in tals for t in texts if t]
    return events, list(dict.fromkeys(notes))


def _tals(
    raw: bytes, header: Header, record: int, notes: list[str]
) -> list[tuple[float, float, list[str]]]:
    tals = []
    body = raw.rstrip(b"\0")
    if body and not body.endswith(b"\x14"):
        raise _tal_error(header, record, body[-40:], "does not end")
    for piece in filter(None, body.split(b"\0")):
        match = TAL.fullmatch(piece)
        if match is None:
            raise _tal_error(header, record, piece, "is malformed")
        onset, duration, texts = match.groups()
        decoded = [_decode(t, notes) for t in texts.split(b"\x14")]
        tals.append((float(onset), float(duration or 0), decoded))
    return tals


def _decode(text: bytes, notes: list[str]) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("an annotation is not UTF-8; read as Latin-1")
        return text.decode("latin-1")


def _tal_error(header: Header, record: int, piece: bytes, fault: str) -> DataError:
    return DataError(
        f"{header.path.name}: annotation {piece[:40]!r} in record {record + 1} {fault}; expected "
        "+onset, an optional duration, and texts, in EDF+ form"
    )


def _clock(
    tals: list[tuple[float, float, list[str]]], header: Header, record: int, notes: list[str]
) -> float | None:
    if tals and tals[0][2][:1] == [""]:
        return tals[0][0]
    notes.append("no time-keeping annotations; the records are taken as contiguous")
    return None


def _check_contiguous(clock: float | None, first: float, header: Header, record: int) -> None:
    due = first + record * header.record_seconds
    if clock is not None and abs(clock - due) > CLOCK_TOLERANCE:
        raise DataError(
            f"{header.path.name}: record {record + 1} starts at {clock:g} s, expected {due:g} s: "
            "the recording has a gap",
            hint="split it at its gaps, or export it as one continuous recording",
        )
