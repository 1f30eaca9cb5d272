"""Data records of EDF and BDF files: the samples of one signal, gathered from all records.

The file is read by blocks, never mapped: a recording of a day needs no more address space than its
signal, and a file that shrinks meanwhile is an error instead of the end of the process.
"""

from __future__ import annotations

from io import FileIO
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.formats.parsing.edf_header import Header, SignalHeader

BLOCK: Final = 1 << 20  # bytes at a time, which stay in the cache


def read_digital(
    header: Header, signal: SignalHeader, records: slice = slice(None)
) -> npt.NDArray[np.int16] | npt.NDArray[np.int32]:
    """Read the stored numbers of a signal, in all data records or some of them.

    Parameters
    ----------
    records
        Numbers of the data records, from 0.

    Returns
    -------
    numbers
        (records * samples per record,).

    Raises
    ------
    DataError
        As `read_signal_bytes`.
    """
    content = read_signal_bytes(header, signal, records)
    if header.sample_bytes == 2:  # noqa: PLR2004 - EDF
        return content.view("<i2").reshape(-1)
    triples = content.reshape(-1, 3)
    values = triples[:, 2].astype(np.int8).astype(np.int32)  # with the sign of 24 bits
    for byte in (1, 0):  # in place: a day at 512 Hz is 180 MB
        values <<= 8
        values |= triples[:, byte]
    return values


def read_signal_bytes(
    header: Header, signal: SignalHeader, records: slice = slice(None)
) -> npt.NDArray[np.uint8]:
    """Read what data records hold of a signal.

    Returns
    -------
    content
        (records, bytes of the signal in a record).

    Raises
    ------
    DataError
        If the file has become shorter than it was when its header was read.
    """
    width = header.record_samples * header.sample_bytes
    first = signal.offset * header.sample_bytes
    last = first + signal.samples_per_record * header.sample_bytes
    begin, end, _ = records.indices(header.records)
    content = np.empty((max(0, end - begin), last - first), np.uint8)
    block = np.empty((max(1, BLOCK // width), width), np.uint8)
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.size + begin * width)
        for start in range(0, len(content), len(block)):
            rows = block[: len(content) - start]
            if (got := _fill(file, rows.data.cast("B"))) < rows.size:
                raise DataError(
                    f"{header.path.name}: ends in record {begin + start + got // width + 1} of "
                    f"{header.records}: it became shorter while it was read",
                    hint="is another program writing it? run the command again when it is done",
                    code="EDF-CUT",
                )
            content[start : start + len(rows)] = rows[:, first:last]
    return content


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends: the number of bytes read."""
    total = 0
    while total < len(buffer) and (count := file.readinto(buffer[total:])):
        total += count
    return total
