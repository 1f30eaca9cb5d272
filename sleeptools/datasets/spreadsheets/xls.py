"""Reading the first sheet of a BIFF8 workbook (.xls of Excel 97 to 2003): small tables only.

Layouts: Microsoft's open specifications MS-CFB for the container and MS-XLS for the records.
Containers of more than 7 MB, long lists of texts and encrypted workbooks are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sleeptools.errors import DataError

STARTS_XLS: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
END_OF_CHAIN: Final = 0xFFFFFFFE
FREE: Final = 0xFFFFFFFF
SECTOR_SHIFTS: Final = (9, 12)  # sectors of 512 or of 4,096 bytes
EOF, FORMULA, FILEPASS, CONTINUE = 0x0A, 0x06, 0x2F, 0x3C
BOUNDSHEET, MULRK, SST, LABELSST, NUMBER, RK = 0x85, 0xBD, 0xFC, 0xFD, 0x203, 0x27E
Cells = dict[tuple[int, int], str | float]


def read_xls(path: Path, data: bytes) -> Cells:
    """Read the cells of the first sheet, by row and column from 0.

    Raises
    ------
    DataError
        If the workbook is damaged, or of a kind that is not read.
    """
    try:
        book = _stream(data)
        texts, sheet = _globals(book)
        cells: Cells = {}
        for kind, body in _records(book, sheet):
            if kind == EOF:
                return cells
            cells.update(_values(kind, body, texts))
        raise ValueError("its sheet has no end")
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as e:
        raise DataError(
            f"{path.name}: not a readable .xls workbook: {e}",
            hint="save it as .xlsx or .csv under the same name",
            code="SHEET-READ",
        ) from e


def _stream(data: bytes) -> bytes:
    """Return the workbook's stream from the container."""
    (shift,) = struct.unpack_from("<H", data, 30)
    if shift not in SECTOR_SHIFTS:
        raise ValueError(f"its sectors have 2^{shift} bytes")
    size = 1 << shift
    first, cutoff, extra = (struct.unpack_from("<I", data, byte)[0] for byte in (48, 56, 68))
    if extra not in (END_OF_CHAIN, FREE):
        raise ValueError("it is too large")
    table: list[int] = []
    for sector in struct.unpack_from("<109I", data, 76):
        if sector != FREE:
            table += struct.unpack_from(f"<{size // 4}I", data, (sector + 1) * size)
    directory = _chain(data, table, first, size)
    for entry in range(0, len(directory), 128):
        letters, start, length = struct.unpack_from("<64xH50xII", directory, entry)
        name = directory[entry : entry + max(0, letters - 2)].decode("utf-16-le")
        if name in ("Workbook", "Book") and length >= cutoff:
            return _chain(data, table, start, size)[:length]
    raise ValueError("it holds no workbook")


def _chain(data: bytes, table: list[int], sector: int, size: int) -> bytes:
    sectors: list[bytes] = []
    while sector != END_OF_CHAIN:
        if len(sectors) * size > len(data):
            raise ValueError("its sectors run in a circle")
        sectors.append(data[(sector + 1) * size : (sector + 2) * size])
        sector = table[sector]
    return b"".join(sectors)


def _records(book: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(book):
        kind, length = struct.unpack_from("<HH", book, offset)
        yield kind, book[offset + 4 : offset + 4 + length]
        offset += 4 + length


def _globals(book: bytes) -> tuple[list[str], int]:
    """Read the shared texts, and the byte at which the first sheet begins."""
    texts: list[str] = []
    sheets: list[int] = []
    before = 0
    for kind, body in _records(book, 0):
        if kind == FILEPASS:
            raise ValueError("it is encrypted")
        if kind == CONTINUE and before == SST:
            raise ValueError("it holds too many texts")
        if kind == SST:
            texts = _texts(body)
        if kind == BOUNDSHEET:
            sheets.append(struct.unpack_from("<I", body)[0])
        if kind == EOF:
            break
        before = kind
    return texts, sheets[0]


def _texts(body: bytes) -> list[str]:
    (count,) = struct.unpack_from("<I", body, 4)
    texts, offset = [], 8
    for _ in range(count):
        letters, flags = struct.unpack_from("<HB", body, offset)
        offset += 3
        runs = after = 0
        if flags & 8:  # formatted runs, 4 bytes each behind the text
            (runs,) = struct.unpack_from("<H", body, offset)
            offset += 2
        if flags & 4:  # phonetic data behind the text
            (after,) = struct.unpack_from("<I", body, offset)
            offset += 4
        length = letters * (1 + (flags & 1))
        encoding = "utf-16-le" if flags & 1 else "latin-1"
        if offset + length > len(body):
            raise ValueError("a text is cut short")
        texts.append(body[offset : offset + length].decode(encoding))
        offset += length + 4 * runs + after
    return texts


def _values(kind: int, body: bytes, texts: list[str]) -> Cells:
    """Read the cells of one record; for a formula, its number."""
    if kind not in (NUMBER, FORMULA, RK, MULRK, LABELSST):
        return {}
    row, column = struct.unpack_from("<HH", body)
    if kind == MULRK:
        numbers = range((len(body) - 6) // 6)
        return {(row, column + i): _rk(body[6 + 6 * i : 10 + 6 * i]) for i in numbers}
    if kind == LABELSST:
        return {(row, column): texts[struct.unpack_from("<I", body, 6)[0]]}
    if kind == RK:
        return {(row, column): _rk(body[6:10])}
    if kind == FORMULA and body[12:14] == b"\xff\xff":  # a text, a truth value or an error
        return {}
    return {(row, column): struct.unpack_from("<d", body, 6)[0]}


def _rk(packed: bytes) -> float:
    """Unpack a 30-bit number: an integer or the upper bits of a double, possibly in hundredths."""
    (bits,) = struct.unpack("<i", packed)
    if bits & 2:
        value = float(bits >> 2)
    else:
        (value,) = struct.unpack("<d", b"\0\0\0\0" + struct.pack("<i", bits & ~3))
    return value / 100 if bits & 1 else value
