r"""Time-stamped annotation lists (TALs) of EDF+ and BDF+, read strictly.

Kemp & Olivan 2003, section 2.2.2: `+onset[\x15duration]\x14text\x14...\x14\0`; the first TAL of a
record has the record's start. A malformed TAL is a fault: an error where labels are read, because
a label that is silently lost would not be noticed, and a note where only signals are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.formats.parsing.edf_header import Header, SignalHeader
from sleeptools.formats.parsing.edf_records import read_signal_bytes
from sleeptools.recording.hypnogram import Event

TAL: Final = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14(.*)", re.DOTALL)
GAPS_SHOWN: Final = 3
Floats = npt.NDArray[np.float64]
Parsed = tuple[bytes, float, list[bytes]]
"""Onset as written, duration in s (0 if there is none), and texts of a TAL."""


@dataclass(frozen=True)
class Annotations:
    """What the annotation signals of a file hold.

    Parameters
    ----------
    events
        (onset, duration, text) in the file's order, s from the first record on.
    first
        Time stamp of the first record, s after the date and time in the header.
    notes
        Deviations from the standard that could be read nevertheless.
    faults
        Malformed annotations, each with its record; their texts are not among the events.
    """

    events: list[Event]
    first: float = 0.0
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def sound(self, source: str) -> Annotations:
        """Return the annotations if none is malformed.

        Raises
        ------
        DataError
            For the first malformed annotation; the message has its record.
        """
        if self.faults:
            raise DataError(
                f"{source}: {self.faults[0]}; expected +onset, an optional duration, and texts, "
                "in EDF+ form",
                hint="`ignore_bad_annotations` reads the others (data set edf: "
                "ignore_bad_annotations = true in edf.toml)",
                code="EDF-TAL",
            )
        return self

    def all_notes(self) -> list[str]:
        """Return the notes, with one on the malformed annotations that are passed over."""
        if not self.faults:
            return list(self.notes)
        count = len(self.faults)
        text = "1 malformed annotation is" if count == 1 else f"{count} malformed annotations are"
        first = "" if count == 1 else "the first: "
        return [*self.notes, f"{text} passed over: {first}{self.faults[0]}"]


def read_tals(header: Header) -> Annotations:
    """Read every annotation of a file, and check that its records follow each other.

    Raises
    ------
    DataError
        For signals in records that are not contiguous; the message has the gaps.
    """
    signals = [s for s in header.signals if s.is_annotations]
    if not signals or not header.records:
        return Annotations([])
    stamps: list[bytes] = []
    events: list[Event] = []
    notes: list[str] = []
    faults: list[str] = []
    blocks = [_blocks(header, s) for s in signals]
    for record, raws in enumerate(zip(*blocks, strict=True), start=1):
        for number, raw in enumerate(raws):
            tals, bad = _tals(raw, record)
            faults += bad
            if number == 0:
                stamps.append(_stamp(raw))
            for onset, duration, texts in tals:
                events += [(float(onset), duration, _decode(t, notes)) for t in texts if t]
    first = _checked_start(stamps, header, notes)
    events = [(onset - first, duration, text) for onset, duration, text in events]
    return Annotations(events, first, tuple(dict.fromkeys(notes)), tuple(faults))


def _blocks(header: Header, signal: SignalHeader) -> Iterator[bytes]:
    """Yield the bytes of an annotation signal, record by record."""
    return (row.tobytes() for row in read_signal_bytes(header, signal))


def _tals(raw: bytes, record: int) -> tuple[list[Parsed], list[str]]:
    """Split the bytes of a record into its TALs, and the faults of those that are malformed."""
    tals: list[Parsed] = []
    faults: list[str] = []
    body = raw.rstrip(b"\0")
    pieces = [p for p in body.split(b"\0") if p]
    for number, piece in enumerate(pieces, start=1):
        match = TAL.fullmatch(piece)
        if number == len(pieces) and not body.endswith(b"\x14"):
            faults.append(f"annotation {piece[-40:]!r} in record {record} does not end")
        elif match is None:
            faults.append(f"annotation {piece[:40]!r} in record {record} is malformed")
        else:
            onset, duration, texts = match.groups()
            tals.append((onset, float(duration or 0), texts.split(b"\x14")))
    return tals, faults


def _stamp(raw: bytes) -> bytes:
    """Return the time stamp of a record as written, also of one with a malformed end; or b""."""
    match = TAL.match(raw.partition(b"\0")[0])
    return match[1] if match and match[3][:1] == b"\x14" else b""


def _decode(text: bytes, notes: list[str]) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("an annotation is not UTF-8; read as Latin-1")
        return text.decode("latin-1")


# --- the records' times ---------------------------------------------------------------------------


def _checked_start(stamps: list[bytes], header: Header, notes: list[str]) -> float:
    """Return the first record's time stamp, s, after a check that the others follow from it."""
    records = np.array([k for k, stamp in enumerate(stamps) if stamp], np.int64)
    if len(records) < len(stamps):
        _note_unstamped(len(stamps) - len(records), header, notes)
    if not len(records):
        return 0.0
    times = np.array([float(stamps[k]) for k in records])
    first = float(times[0] - records[0] * header.record_seconds)
    if any(not s.is_annotations for s in header.signals):
        late = times - first - records * header.record_seconds
        allowed = _tolerance(header, _last_digit(stamps), records)
        if np.any(np.abs(late) > allowed):
            raise _gap_error(header, records, times, late, allowed)
    if first:
        notes.append(f"the first record begins {_seconds(first)} s after the header's start")
    return first


def _note_unstamped(count: int, header: Header, notes: list[str]) -> None:
    if header.kind.endswith("+D"):
        raise DataError(
            f"{header.path.name}: {count} of {header.records} records have no time stamp; a "
            f"discontinuous recording ({header.kind}) needs them all",
            code="EDF-STAMP",
        )
    notes.append("no time-keeping annotations; the records are taken as contiguous")


def _last_digit(stamps: list[bytes]) -> float:
    """Return one unit of the last digit of the stamp with the most decimals, s."""
    return 10.0 ** -max(len(s.partition(b".")[2].rstrip(b"0")) for s in stamps)


def _tolerance(header: Header, unit: float, records: npt.NDArray[np.int64]) -> Floats:
    """How far stamps may lie from where the header puts the records, s.

    Half a sample of the fastest signal, the rounding of the stamps where they cannot hold a whole
    number of records, and the rounding of the record's length in the header, which adds up.
    """
    rates = [header.sample_rate(s) for s in header.signals if not s.is_annotations]
    steps = header.record_seconds / unit
    rounded = not math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)
    return np.asarray(0.5 / max(rates) + rounded * unit + records * header.record_error, np.float64)


def _gap_error(
    header: Header, records: npt.NDArray[np.int64], times: Floats, late: Floats, allowed: Floats
) -> DataError:
    worst = int(np.flatnonzero(np.abs(late) > allowed)[0])
    due = times[worst] - late[worst]
    jumps = np.diff(late)
    breaks = np.flatnonzero(np.abs(jumps) > allowed[0] + header.record_error)
    begin = times[breaks] + header.record_seconds
    listed = ", ".join(
        f"{_seconds(jumps[k])} s at {_seconds(b)} s"
        for k, b in zip(breaks[:GAPS_SHOWN], begin, strict=False)
    )
    listed += ", ..." if len(breaks) > GAPS_SHOWN else ""
    count = f"{len(breaks)} gap{'s' * (len(breaks) != 1)}"
    length = (times[-1] - times[0]) / max(1, records[-1] - records[0])
    reason = (
        f"the recording has {count}: {listed}"
        if len(breaks)
        else f"by their time stamps records last {length:.8g} s, by the header "
        f"{header.record_seconds:.8g} s"
    )
    return DataError(
        f"{header.path.name}: record {records[worst] + 1} starts at {_seconds(times[worst])} s, "
        f"expected {_seconds(due)} s: {reason}",
        hint="split it at its gaps, or export it as one continuous recording"
        if len(breaks)
        else "export it again with the right length of a record",
        code="EDF-GAP",
    )


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
