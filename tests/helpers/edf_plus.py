"""EDF+ and BDF+ files of any records, stamps and annotations, written byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
