"""EDF+ and BDF+ files of any records, stamps and annotations, written byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sleeptools.formats import edf

Event = tuple[float, float, str]
MARK = "EDF Annotations"


def write_records(
    path: Path,
    signals: Mapping[str, npt.NDArray[np.integer]],
    stamps: Sequence[str],
    *,
    record_seconds: str = "1",
    kind: str = "EDF+D",
    start: datetime = datetime(2020, 3, 1, 22),
    identification: str | None = None,
    events: Sequence[Event] = (),
) -> Path:
    """Write signals in records that begin where their stamps say.

    Parameters
    ----------
    signals
        By label: (records, samples) of 16 bits, or of 24 where `kind` is of BDF; 10 steps are a uV.
    stamps
        Time of each record as it is to stand in the file: "30" or "-1.5", s from `start`.
    record_seconds
        Length of a record as it is to stand in the header.
    identification
        The local recording identification; that of `start` if left out.
    events
        Annotations, all in the first record: onset, s from `start`, duration, and text.
    """
    width = 3 if kind.startswith("BDF") else 2
    sign = [stamp if stamp.startswith("-") else f"+{stamp}" for stamp in stamps]
    tals = [f"{stamp}\x14\x14\0" for stamp in sign]
    tals[0] += "".join(
        f"{onset:+.9g}\x15{length:.9g}\x14{text}\x14\0" for onset, length, text in events
    )
    size = -(-max(map(len, tals)) // width)
    limit = 1 << (8 * width - 1)
    count = len(signals) + 1
    rows = [
        (label, "", "uV", -limit / 10, (limit - 1) / 10, -limit, limit - 1, "", s.shape[1], "")
        for label, s in signals.items()
    ]
    rows.append((MARK.replace("EDF", kind[:3]), "", "", -1, 1, -limit, limit - 1, "", size, ""))
    identification = identification or f"Startdate {start:%d-%b-%Y} X X X".upper()
    version = b"\xffBIOSEMI" if width == 3 else b"0       "
    head = f"{'X X X X':80}{identification:80}{start:%d.%m.%y%H.%M.%S}{256 * (count + 1):<8}"
    head += f"{kind:44}{len(stamps):<8}{record_seconds:<8}{count:<4}"
    for column, letters in zip(
        zip(*rows, strict=True), (16, 80, 8, 8, 8, 8, 8, 80, 8, 32), strict=True
    ):
        head += "".join(f"{str(value)[:letters]:{letters}}" for value in column)
    body = bytearray()
    for k, text in enumerate(tals):
        for samples in signals.values():
            numbers = samples[k].astype("<i4").view(np.uint8).reshape(-1, 4)
            body += numbers[:, :width].tobytes()
        body += text.encode().ljust(size * width, b"\0")
    path.write_bytes(version + head.encode() + body)
    return path


def annotation_file(path: Path, tals: bytes) -> Path:
    """Write an EDF+ file of one record with these bytes as its annotations."""
    edf.write_annotations(path, [(0, 30, "Sleep stage W")], None)
    head = bytearray(path.read_bytes()[:512])
    tals += b"\0" * (len(tals) % 2)
    head[256 + 216 : 256 + 224] = f"{len(tals) // 2:<8}".encode()
    path.write_bytes(bytes(head) + tals)
    return path


def plus_file(path: Path, clocks: list[bytes], kind: bytes = b"EDF+D") -> Path:
    """Write one signal of 10 Hz in records of 1 s, each stamped with its time."""

    def field(*texts: bytes, width: int) -> bytes:
        return b"".join(t.ljust(width) for t in texts)

    head = field(b"0", width=8) + field(b"X", b"X", width=80) + b"01.01.0000.00.00"
    head += field(b"768", width=8) + field(kind, width=44)
    head += field(str(len(clocks)).encode(), b"1", width=8) + b"2   "
    head += field(b"EEG Cz", b"EDF Annotations", width=16) + field(b"", b"", width=80)
    for pair in ((b"uV", b""), (b"-100", b"-1"), (b"100", b"1")):
        head += field(*pair, width=8)
    head += field(b"-32768", b"-32768", b"32767", b"32767", width=8)
    head += field(b"", b"", width=80) + field(b"10", b"8", width=8) + field(b"", b"", width=32)
    body = b"".join(
        struct.pack("<10h", *range(10)) + (c + b"\x14\x14\0").ljust(16, b"\0") for c in clocks
    )
    path.write_bytes(head + body)
    return path
