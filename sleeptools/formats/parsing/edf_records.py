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


def read_signal_bytes(header: Header, signal: SignalHeader) -> npt.NDArray[np.uint8]:
    """Read what every data record holds of a signal.

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
    content = np.empty((header.records, last - first), np.uint8)
    block = np.empty((max(1, BLOCK // width), width), np.uint8)
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.size)
        for start in range(0, header.records, len(block)):
            rows = block[: header.records - start]
            if (got := _fill(file, rows.data.cast("B"))) < rows.size:
                raise DataError(
                    f"{header.path.name}: ends in record {start + got // width + 1} of "
                    f"{header.records}: it became shorter while it was read",
                    hint="is another program writing it? run the command again when it is done",
                    code="EDF-SHRANK",
                )
            content[start : start + len(rows)] = rows[:, first:last]
    return content


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends: the number of bytes read."""
    total = 0
    while total < len(buffer) and (count := file.readinto(buffer[total:])):
        total += count
    return total
