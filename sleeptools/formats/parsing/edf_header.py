"""The header of EDF, EDF+, BDF and BDF+ files, read strictly.

Kemp et al. 1992 and Kemp & Olivan 2003 (EDF, EDF+), BioSemi (BDF). Numbers must follow a fixed
grammar, every size is checked against the file before memory is allocated, and errors give the
field and its bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Final

from sleeptools.errors import DataError

HEADER_BYTES: Final = 256  # bytes of the header before the signals' headers, and of each of these
VERSION_BYTES: Final = 8
INTEGER: Final = re.compile(r"[+-]?\d{1,18}")
DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
DATE: Final = re.compile(r"(\d{1,2}) *[./:-] *(\d{1,2}) *[./:-] *(\d{1,2}|\d{4})")
TIME: Final = re.compile(r"(\d{1,2}) *[./:-] *(\d{1,2}) *[./:-] *(\d{1,2})")
STARTDATE: Final = re.compile(r"Startdate (\d{1,2})-([A-Z]{3})-(\d{4})\b", re.IGNORECASE)
MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
NO_DATE: Final = date(1985, 1, 1)
"""What EDF+ writes where the date is unknown; nobody recorded sleep on that day."""
ROUNDED: Final = 7  # characters of the 8 of a field from which on a decimal is taken as rounded
RATES: Final = (0.01, 1e5)  # Hz; physiological signals have no rates outside this range
WIDTHS: Final = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical_min", 8),
    ("physical_max", 8),
    ("digital_min", 8),
    ("digital_max", 8),
    ("prefilter", 80),
    ("samples_per_record", 8),
    ("reserved", 32),
)

NEEDED: Final = (
    ("version", 0, 8),
    ("header size", 184, 192),
    ("number of data records", 236, 244),
    ("duration of a record", 244, 252),
    ("number of signals", 252, 256),
)
"""Fields that no header can do without, and their bytes."""
NEEDED_OF_SIGNALS: Final = (
    "physical_min",
    "physical_max",
    "digital_min",
    "digital_max",
    "samples_per_record",
)


@dataclass(frozen=True)
class SignalHeader:
    """The header of one signal; `offset` is the index of its first sample in a record."""

    label: str
    transducer: str
    unit: str
    physical_min: float
    physical_max: float
    digital_min: int
    digital_max: int
    prefilter: str
    samples_per_record: int
    offset: int

    @property
    def is_annotations(self) -> bool:
        """Whether it holds annotations instead of samples."""
        return self.label in ("EDF Annotations", "BDF Annotations")

    @property
    def calibrated(self) -> bool:
        """Whether digital values can be turned into physical ones."""
        return self.digital_max != self.digital_min and self.physical_max != self.physical_min


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Parameters
    ----------
    sample_bytes
        Bytes per sample: 2 for EDF, 3 for BDF.
    kind
        "EDF", "EDF+C", "EDF+D", "BDF", "BDF+C" or "BDF+D".
    size
        Bytes before the first data record.
    records, record_seconds
        Number of data records in the file, and the length of one, s (0 only without signals).
    declared
        Number of data records that the header says, -1 while a recorder writes the file.
    record_error
        Largest rounding error of `record_seconds`, s: half a unit of its last digit where the
        number fills its field, otherwise 0.
    clock
        Date and time in the header; a time of day where the date is unknown or cannot be read,
        None where the time cannot.
    recording_field
        The local recording identification; that of the patient is never read.
    signals
        Headers of the signals in the file's order, annotation signals included.
    notes
        Deviations from the standard that could be read nevertheless.
    """

    path: Path
    sample_bytes: int
    kind: str
    size: int
    records: int
    record_seconds: float
    record_error: float
    clock: datetime | time | None
    recording_field: str
    signals: tuple[SignalHeader, ...]
    notes: tuple[str, ...]
    declared: int = -1

    @property
    def record_samples(self) -> int:
        """Samples of all signals in one record."""
        return sum(s.samples_per_record for s in self.signals)

    @property
    def simulated(self) -> bool:
        """Whether the recording field says that the recording is simulated."""
        return "simulated" in self.recording_field.lower().split()

    def sample_rate(self, signal: SignalHeader) -> float:
        """Sample rate of a signal, Hz."""
        return signal.samples_per_record / self.record_seconds


def starts_like_edf(head: bytes) -> bool:
    """Recognise an EDF or BDF file by its first bytes; some pad "0" with NUL or 0xA0."""
    return head[:8] == b"\xffBIOSEMI" or (
        len(head) >= VERSION_BYTES and head[:1] == b"0" and not head[1:8].strip(b" \0\xa0")
    )


def blank_field(head: bytes) -> str:
    """Name the first field that a header needs and that is blank or beyond its end; "" if none is.

    Parameters
    ----------
    head
        What there is of a header that a recorder is writing; it may fill in blank fields later.
    """
    for name, start, stop in NEEDED:
        if not _text(head, start, stop):
            return name
    text = _text(head, 252, 256)
    for i in range(int(text) if text.isdecimal() else 0):
        columns = _columns(int(text), i)
        for name in NEEDED_OF_SIGNALS:
            if not _text(head, *columns[name]):
                return f"signal {i + 1} {name.replace('_', ' ')}"
    return ""


def read_header(
    path: Path,
    *,
    allow_truncated: bool = False,
    ignore_channels: Collection[str] = (),
    annotations_only: bool = False,
) -> Header:
    """Read and check a header.

    Parameters
    ----------
    allow_truncated
        Take the complete data records of a file that is shorter than its header says.
    ignore_channels
        Labels of signals whose ranges may be unreadable.
    annotations_only
        Leave the ranges of all signals unread: annotations need none.

    Raises
    ------
    DataError
        If a field that the structure of the file depends on is wrong; the message has the field
        and its bytes.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if not starts_like_edf(head) or len(head) < HEADER_BYTES:
            raise DataError(
                f"{path.name}: not an EDF or BDF file (starts with {head[:16]!r})", code="EDF-FORM"
            )
        count = _integer(path, head, "number of signals", 252, 256, least=1)
        head += file.read(HEADER_BYTES * count)
    if len(head) < HEADER_BYTES * (count + 1):
        raise DataError(
            f"{path.name}: header of {count} signals is cut short at {len(head)} bytes",
            code="EDF-HEADER",
        )
    size = _integer(path, head, "header size", 184, 192)
    if size != len(head):
        raise DataError(
            f"{path.name}: header size is {size} (bytes 184-191); {count} signals need {len(head)}",
            code="EDF-HEADER",
        )
    notes = _version_notes(head)
    unread = _labels(head, count) if annotations_only else ignore_channels
    signals = _signals(path, head, count, notes, unread)
    sample_bytes = 3 if head[:1] == b"\xff" else 2
    duration = _duration(path, head, signals)
    record_bytes = sample_bytes * sum(s.samples_per_record for s in signals)
    records = _records(path, head, size, record_bytes, allow_truncated, notes)
    return Header(
        path,
        sample_bytes,
        _kind(head, sample_bytes, signals, notes),
        size,
        records,
        duration,
        _rounding_error(_text(head, 244, 252)),
        _clock(head, notes),
        _text(head, 88, 168),
        signals,
        tuple(notes),
        int(_text(head, 236, 244)),
    )


def _text(head: bytes, start: int, stop: int) -> str:
    raw = head[start:stop]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\0", " ").strip()


def _field_error(
    path: Path, field: str, text: str, start: int, stop: int, expected: str, *, code: str
) -> DataError:
    hint = "decimal comma: write a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else None
    return DataError(
        f'{path.name}: {field} is "{text}" (bytes {start}-{stop - 1}); expected {expected}',
        hint=hint,
        code=code,
    )


def _integer(
    path: Path,
    head: bytes,
    field: str,
    start: int,
    stop: int,
    *,
    least: int | None = None,
    code: str = "EDF-FIELD",
) -> int:
    text = _text(head, start, stop)
    if not INTEGER.fullmatch(text) or (least is not None and int(text) < least):
        expected = "a whole number" if least is None else f"a whole number >= {least}"
        raise _field_error(path, field, text, start, stop, expected, code=code)
    return int(text)


def _decimal(path: Path, head: bytes, field: str, start: int, stop: int) -> float:
    text = _text(head, start, stop)
    if not DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise _field_error(path, field, text, start, stop, "a finite number", code="EDF-FIELD")
    return float(text)


def _labels(head: bytes, count: int) -> list[str]:
    return [_text(head, *_columns(count, i)["label"]) for i in range(count)]


def _signals(
    path: Path, head: bytes, count: int, notes: list[str], ignore_channels: Collection[str]
) -> tuple[SignalHeader, ...]:
    signals: list[SignalHeader] = []
    offset = 0
    for i in range(count):
        columns = _columns(count, i)
        label = _text(head, *columns["label"])
        name = f"signal {i + 1} ({label!r})"
        spr = _integer(
            path, head, f"{name} samples per record", *columns["samples_per_record"], least=1
        )
        ranges = (0.0, 0.0, 0, 0)  # cannot be calibrated
        if label not in ignore_channels:
            ranges = _ranges(path, head, name, columns)
        signal = SignalHeader(
            label,
            _text(head, *columns["transducer"]),
            _text(head, *columns["unit"]),
            *ranges,
            _text(head, *columns["prefilter"]),
            spr,
            offset,
        )
        if label not in ignore_channels:
            _check_range(path, head, signal, name, notes)
        signals.append(signal)
        offset += spr
    return tuple(signals)


def _ranges(
    path: Path, head: bytes, name: str, columns: dict[str, tuple[int, int]]
) -> tuple[float, float, int, int]:
    """Read the physical and the digital range of a signal."""
    try:
        return (
            _decimal(path, head, f"{name} physical minimum", *columns["physical_min"]),
            _decimal(path, head, f"{name} physical maximum", *columns["physical_max"]),
            _integer(path, head, f"{name} digital minimum", *columns["digital_min"]),
            _integer(path, head, f"{name} digital maximum", *columns["digital_max"]),
        )
    except DataError as e:
        without = _without_hint(_text(head, *columns["label"]))
        hint = f"{e.hint}, or {without}" if e.hint else without
        raise DataError(str(e), hint=hint, code="EDF-RANGE") from e


def _without_hint(label: str) -> str:
    return f"if the signal is not needed, `ignore_channels={label}` does without it"


def _columns(count: int, signal: int) -> dict[str, tuple[int, int]]:
    columns, position = {}, HEADER_BYTES
    for name, width in WIDTHS:
        columns[name] = (position + signal * width, position + (signal + 1) * width)
        position += count * width
    return columns


def _check_range(
    path: Path, head: bytes, signal: SignalHeader, name: str, notes: list[str]
) -> None:
    limit = 1 << (23 if head[:1] == b"\xff" else 15)
    if not (-limit <= signal.digital_min < limit and -limit <= signal.digital_max < limit):
        raise DataError(
            f"{path.name}: {name} has digital range {signal.digital_min} to {signal.digital_max}; "
            f"expected within {-limit} to {limit - 1}",
            hint=_without_hint(signal.label),
            code="EDF-RANGE",
        )
    if not signal.calibrated and not signal.is_annotations:
        notes.append(f"{name} has an empty digital or physical range and cannot be used")
    inverted = (signal.digital_min > signal.digital_max) != (
        signal.physical_min > signal.physical_max
    )
    if inverted and not signal.is_annotations:
        notes.append(f"{name} is inverted by its header; the sign is kept as the header says")


def _duration(path: Path, head: bytes, signals: Sequence[SignalHeader]) -> float:
    duration = _decimal(path, head, "duration of a record", 244, 252)
    sampled = [s for s in signals if not s.is_annotations]
    if not sampled and duration >= 0:
        return duration
    if duration <= 0:
        raise _field_error(
            path,
            "duration of a record",
            _text(head, 244, 252),
            244,
            252,
            "seconds > 0",
            code="EDF-FIELD",
        )
    for s in sampled:
        rate = s.samples_per_record / duration
        if not RATES[0] <= rate <= RATES[1]:
            raise DataError(
                f"{path.name}: signal {s.label!r} has {s.samples_per_record} samples in a record "
                f"of {duration:g} s, {rate:g} Hz; expected {RATES[0]:g} to {RATES[1]:g} Hz",
                code="EDF-RATE",
            )
    return duration


def _records(
    path: Path, head: bytes, size: int, record_bytes: int, allow_truncated: bool, notes: list[str]
) -> int:
    declared = _integer(path, head, "number of data records", 236, 244, least=-1, code="EDF-NREC")
    complete, excess = divmod(path.stat().st_size - size, record_bytes)
    if declared in (-1, 0) and complete:
        notes.append(f"number of data records is {declared}; the file holds {complete}")
        return complete
    if declared <= 0:
        raise DataError(f"{path.name}: holds a header and no data records", code="EDF-EMPTY")
    if complete > declared:
        raise DataError(
            f"{path.name}: number of data records is {declared} (bytes 236-243), but the file "
            f"holds {complete}",
            hint="header and file contradict each other: export the file again",
            code="EDF-NREC",
        )
    if complete == declared and excess:
        notes.append(f"{excess} bytes after the last data record are passed over")
    if complete < declared:
        message = f"number of data records is {declared} (bytes 236-243); the file holds {complete}"
        if not allow_truncated or not complete:
            raise DataError(
                f"{path.name}: {message}: it is cut short",
                hint="fetch or export it again"
                + ("; `allow_truncated` takes what is there" if complete else ""),
                code="EDF-CUT",
            )
        notes.append(message)
    return min(declared, complete)


def _kind(head: bytes, sample_bytes: int, signals: Sequence[SignalHeader], notes: list[str]) -> str:
    family = "EDF" if sample_bytes == 2 else "BDF"  # noqa: PLR2004 - bytes
    reserved = _text(head, 192, 236)
    plus = next((p for p in ("+C", "+D") if reserved.startswith(family + p)), "")
    if any(s.is_annotations for s in signals) and not plus:
        notes.append(f"holds annotations but is not marked {family}+C; read as such")
        plus = "+C"
    if plus and not any(s.is_annotations for s in signals):
        notes.append(f"marked {family}{plus} but holds no annotation signal")
    return family + plus


def _rounding_error(text: str) -> float:
    """Half a unit of the last digit of a decimal that fills its field; such a one was rounded."""
    if len(text) < ROUNDED or "." not in text:
        return 0.0
    return 0.5 * 10.0 ** int(Decimal(text).as_tuple().exponent)


def _version_notes(head: bytes) -> list[str]:
    version = head[:VERSION_BYTES]
    if version in (b"0       ", b"\xffBIOSEMI"):
        return []
    return [f'version field is {version!r} (bytes 0-7); expected "0" and 7 blanks']


def _clock(head: bytes, notes: list[str]) -> datetime | time | None:
    """Read the start: "." separates by the standard; ":", "/" and "-" are read with a note."""
    day_text, time_text = _text(head, 168, 176), _text(head, 176, 184)
    day, clock = _date(day_text, _text(head, 88, 168), notes), _time(time_text)
    if clock is None:
        notes.append(f"start time {time_text!r} (bytes 176-183) is no time; the start is unknown")
        return None
    if re.search("[/:-]", day_text + time_text):
        shown = day.strftime("%d.%m.%Y ") if day else ""
        notes.append(f"start {day_text!r} {time_text!r} is read as {shown}{clock:%H.%M.%S}")
    if day is not None:
        return datetime.combine(day, clock)
    return None if clock == time.min else clock  # 0:00 without a date was written for "unknown"


def _date(text: str, recording: str, notes: list[str]) -> date | None:
    """Read the header's date; where it is none, that of EDF+'s recording field, or None."""
    stated = _startdate(recording)
    try:
        match = DATE.fullmatch(text)
        day, month, year = (int(p) for p in match.groups()) if match else (0, 0, 0)
        century = 0 if year > 99 else 1900 if year >= 85 else 2000  # noqa: PLR2004 - EDF's clipping date
        found = date(century + year, month, day)
    except ValueError:
        known = f"{stated:%d-%b-%Y} of the recording field is taken" if stated else "it is unknown"
        notes.append(f"start date {text!r} (bytes 168-175) is no date; {known}")
        return stated
    if found == NO_DATE and stated in (None, NO_DATE):
        return None
    if stated and stated != found:
        notes.append(f"start date is {text} (bytes 168-175), but {stated:%d-%b-%Y} in bytes 88-167")
    return found


def _startdate(recording: str) -> date | None:
    match = STARTDATE.match(recording)
    if match is None or match[2].upper() not in MONTHS:
        return None
    try:
        return date(int(match[3]), MONTHS.index(match[2].upper()) + 1, int(match[1]))
    except ValueError:
        return None


def _time(text: str) -> time | None:
    match = TIME.fullmatch(text)
    try:
        return time(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None
