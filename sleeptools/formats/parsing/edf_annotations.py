r"""Time-stamped annotation lists (TALs) of EDF+ and BDF+, read strictly.

Kemp & Olivan 2003, section 2.2.2: `+onset[\x15duration]\x14text\x14...\x14\0`; the first TAL of a
record has the record's start. A malformed TAL is a fault: an error where labels are read, because
a label that is silently lost would not be noticed, and a note where only signals are.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.formats.parsing import text_files
from sleeptools.formats.parsing.edf_header import Header, SignalHeader
from sleeptools.formats.parsing.edf_records import read_signal_bytes
from sleeptools.recording import timeline
from sleeptools.recording.hypnogram import LONGEST_RECORDING, Event
from sleeptools.recording.timeline import Gap, text_of

TAL: Final = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14(.*)", re.DOTALL)
Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.int64]
"""Numbers of records, from 0."""
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
    gaps
        Interruptions of a discontinuous file's signals, s from the first record on.
    notes
        Deviations from the standard that could be read nevertheless.
    faults
        Malformed annotations, each with its record; their texts are not among the events.
    """

    events: list[Event]
    first: float = 0.0
    gaps: tuple[Gap, ...] = ()
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
    """Read every annotation of a file, and when its records begin.

    Raises
    ------
    DataError
        For signals in records that overlap, or leave gaps without the file being marked as
        discontinuous; the message has the records and their times.
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
    first, gaps = _timeline(stamps, header, notes)
    events = [(onset - first, duration, text) for onset, duration, text in events]
    return Annotations(events, first, gaps, tuple(dict.fromkeys(notes)), tuple(faults))


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
        return text_files.composed(text.decode("utf-8"))
    except UnicodeDecodeError:
        notes.append("an annotation is not UTF-8; read as Latin-1")
        return text.decode("latin-1")


# --- the records' times ---------------------------------------------------------------------------


def _timeline(
    stamps: list[bytes], header: Header, notes: list[str]
) -> tuple[float, tuple[Gap, ...]]:
    """Return the first record's time stamp, s, and the gaps between the records."""
    records = np.array([k for k, stamp in enumerate(stamps) if stamp], np.int64)
    if len(records) < len(stamps):
        _note_unstamped(len(stamps) - len(records), header, notes)
    if not len(records):
        return 0.0, ()
    sampled = any(not s.is_annotations for s in header.signals)
    times = np.array([float(stamps[k]) for k in records[: None if sampled else 1]])
    _check_times(header, records, times)
    first = float(times[0] - records[0] * header.record_seconds)
    if first:
        notes.append(f"the first record begins {text_of(first)} s after the header's start")
    breaks = _breaks(header, records, times, _last_digit(stamps)) if sampled else []
    gaps = _gaps(header, times, breaks) if breaks else ()
    if gaps:
        notes.append(f"interrupted by {timeline.gaps_text(gaps)}, to the nearest sample")
    return first, gaps


def _check_times(header: Header, records: Records, times: Floats) -> None:
    """Refuse times that no recording has, before anything is computed from them."""
    with np.errstate(invalid="ignore"):  # infinity less itself
        since = np.abs(times - np.concatenate([[0.0], np.full(len(times) - 1, times[0])]))
    far = np.flatnonzero(~(since <= LONGEST_RECORDING))
    if len(far):
        k = int(far[0])
        end = times[k - 1] + header.record_seconds
        gap = f", a gap of {times[k] - end:.9g} s from {text_of(end)} s on" if k else ""
        raise DataError(
            f"{header.path.name}: record {records[k] + 1} starts at {times[k]:.9g} s{gap}; "
            f"a recording may last {LONGEST_RECORDING:.0f} s with its gaps",
            hint="split it at this gap" if k else "export it again with the right time stamps",
            code="EDF-GAP",
        )


def _breaks(header: Header, records: Records, times: Floats, unit: float) -> list[int]:
    """Find the records that do not follow the one before, in a discontinuous file.

    Raises
    ------
    DataError
        If records overlap, last longer or shorter than the header says, or leave gaps in a file
        that is marked as continuous.
    """
    slack = _slack(header, unit)
    late = times - times[0] - (records - records[0]) * header.record_seconds
    if np.all(np.abs(late) <= slack + (records - records[0]) * header.record_error):
        return []
    breaks: list[int] = []
    start = 0
    lateness, numbers = late.tolist(), records.tolist()  # lists: a million records are quick
    for k in range(1, len(numbers)):
        if abs(lateness[k] - lateness[start]) <= slack + (
            (numbers[k] - numbers[start]) * header.record_error
        ):
            continue
        jump = lateness[k] - lateness[k - 1]
        if abs(jump) <= slack + (numbers[k] - numbers[k - 1]) * header.record_error:
            raise _drift_error(header, records, times, start, k)
        if jump < 0:
            raise _overlap_error(header, records, times, k)
        breaks.append(k)
        start = k
    if not header.kind.endswith("+D"):
        raise _gap_error(header, records, times, late, breaks)
    return breaks


def _gaps(header: Header, times: Floats, breaks: list[int]) -> tuple[Gap, ...]:
    """Return the gaps before some records, s from the first record on.

    The record after a gap lies where its stamp says, to the nearest sample of the fastest signal:
    epochs then have the samples that they would have if nothing had been left out.
    """
    fastest = max(s.samples_per_record for s in header.signals if not s.is_annotations)
    rate = fastest / header.record_seconds
    gaps: list[Gap] = []
    begin = 0  # of a stretch, in samples
    for previous, k in itertools.pairwise([0, *breaks]):
        end = begin + (k - previous) * fastest
        begin = max(end, round((times[k] - times[0]) * rate))
        if begin > end:
            gaps.append((end / rate, begin / rate))
    return tuple(gaps)


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


def _slack(header: Header, unit: float) -> float:
    """How far stamps may lie from where the header puts the records, s, rounding of it aside.

    Half a sample of the fastest signal, and the rounding of the stamps where they cannot hold a
    whole number of records. The rounding of the record's length in the header adds up.
    """
    rates = [header.sample_rate(s) for s in header.signals if not s.is_annotations]
    steps = header.record_seconds / unit
    rounded = not math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)
    return 0.5 / max(rates) + rounded * unit


def _gap_error(
    header: Header, records: Records, times: Floats, late: Floats, breaks: list[int]
) -> DataError:
    k = breaks[0]
    due = times[k] - late[k]
    ends = [float(times[b] - late[b] + late[b - 1]) for b in breaks]
    gaps = [(end, float(times[b])) for end, b in zip(ends, breaks, strict=True)]
    return DataError(
        f"{header.path.name}: record {records[k] + 1} starts at {text_of(times[k])} s, expected "
        f"{text_of(due)} s: the recording has {timeline.gaps_text(gaps)}, and is marked as "
        f"continuous ({header.kind})",
        hint=f"export it as {header.kind[:3]}+D, which may have gaps, or split it at its gaps",
        code="EDF-GAP",
    )


def _drift_error(header: Header, records: Records, times: Floats, start: int, k: int) -> DataError:
    length = (times[k] - times[start]) / (records[k] - records[start])
    due = times[start] + (records[k] - records[start]) * header.record_seconds
    return DataError(
        f"{header.path.name}: record {records[k] + 1} starts at {text_of(times[k])} s, expected "
        f"{text_of(due)} s: by their time stamps records last {length:.8g} s, by the header "
        f"{header.record_seconds:.8g} s",
        hint="export it again with the right length of a record",
        code="EDF-GAP",
    )


def _overlap_error(header: Header, records: Records, times: Floats, k: int) -> DataError:
    end = times[k - 1] + (records[k] - records[k - 1]) * header.record_seconds
    return DataError(
        f"{header.path.name}: record {records[k] + 1} starts at {text_of(times[k])} s, before "
        f"record {records[k]} ends at {text_of(end)} s: records overlap",
        hint="export it again with its records in order of time",
        code="EDF-OVERLAP",
    )
