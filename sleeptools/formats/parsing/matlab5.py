"""Read vectors of numbers from MATLAB files of version 5: a strict and small reader.

Layout: "MAT-File Format" of The MathWorks. A file is a head of 128 bytes and elements, each a tag
(type, bytes) and its data; a variable is an element `MATRIX`, or one within `COMPRESSED`. Sizes
are compared with the file before anything is allocated, and compressed data are unpacked only as
far as they are needed.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.store import checks

HEAD: Final = 128  # bytes
TAG: Final = 8  # bytes
MATRIX, COMPRESSED, INT32, UINT32, INT8 = 14, 15, 5, 6, 1
STORED: Final[Mapping[int, str]] = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""NumPy's name of each type of stored numbers."""
CLASSES: Final = (
    "",
    "cell",
    "struct",
    "object",
    "char",
    "sparse",
    "double",
    "single",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "function",
    "opaque",
)
"""MATLAB's classes by their number."""
LOGICAL, COMPLEX = 0x02, 0x08  # flags, in the second byte of a variable's head
LARGEST_HEAD: Final = 4096  # bytes of a variable's flags, shape and name


@dataclass(frozen=True)
class Variable:
    """Where a variable's numbers lie.

    Parameters
    ----------
    shape, kind
        Shape, and MATLAB class ("double").
    start, size
        Its element in the file: first byte after the tag, and length, bytes.
    packed
        Whether it is compressed.
    data
        First byte of its numbers' tag, in the unpacked element.
    """

    shape: tuple[int, ...]
    kind: str
    start: int
    size: int
    packed: bool
    data: int


def list_variables(path: Path) -> dict[str, Variable]:
    """List the variables of a file, without reading their numbers.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        order = _order(content)
        return dict(_variables(content, order))


def _order(content: mmap.mmap) -> str:
    mark = content[HEAD - 2 : HEAD]
    if mark not in (b"IM", b"MI"):
        raise ValueError("its head does not say the order of bytes")
    return "<" if mark == b"IM" else ">"


def _variables(content: mmap.mmap, order: str) -> Iterator[tuple[str, Variable]]:
    position = HEAD
    while position + TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        start, position = position + TAG, position + TAG + size
        if position > len(content):
            raise ValueError(
                f"an element of {size} bytes, of which {len(content) - start} are there"
            )
        if kind not in (MATRIX, COMPRESSED):
            continue
        head = content[start : start + min(size, LARGEST_HEAD)]
        packed = kind == COMPRESSED
        if packed:
            head = zlib.decompressobj().decompress(head, LARGEST_HEAD)
            if len(head) < TAG or struct.unpack_from(f"{order}I", head)[0] != MATRIX:
                continue
        elif size % 8:
            position += 8 - size % 8  # of version 5, where an element ends on a multiple of 8
        name, shape, kind_name, data = _variable_head(head, order, TAG if packed else 0)
        yield name, Variable(shape, kind_name, start, size, packed, data)


def _variable_head(head: bytes, order: str, position: int) -> tuple[str, tuple[int, ...], str, int]:
    """Read a variable's flags, shape and name: name, shape, class, and where the numbers begin."""
    kind, flags, position = _element(head, order, position)
    if kind != UINT32 or len(flags) != TAG:
        raise ValueError("a variable without flags")
    (word,) = struct.unpack_from(f"{order}I", flags)
    number, bits = word & 0xFF, word >> 8 & 0xFF
    name = CLASSES[number] if number < len(CLASSES) else ""
    if name == "opaque":
        return "", (), name, position
    kind, sizes, position = _element(head, order, position)
    if kind != INT32 or len(sizes) % 4:
        raise ValueError("a variable without a shape")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if any(axis < 0 for axis in shape):
        raise ValueError(f"a variable of shape {shape}")
    kind, text, position = _element(head, order, position)
    if kind != INT8:
        raise ValueError("a variable without a name")
    if bits & COMPLEX:
        name = "complex"
    elif bits & LOGICAL:
        name = "logical"
    return text.decode("latin-1"), shape, name, position


def _element(head: bytes, order: str, position: int) -> tuple[int, bytes, int]:
    """Read an element of a variable's head: type, data, and where the next one begins."""
    kind, start, size, end = _tag(head, order, position)
    if start + size > len(head):
        raise ValueError("a variable's head is cut short")
    return kind, head[start : start + size], end


def _tag(head: bytes, order: str, position: int) -> tuple[int, int, int, int]:
    """Read a tag: type, first byte and length of the data, and where the next element begins."""
    if position + TAG > len(head):
        raise ValueError("a variable is cut short")
    kind, size = struct.unpack_from(f"{order}II", head, position)
    if kind >> 16:  # a small element: length and type in one word, up to 4 bytes of data behind it
        size, kind = kind >> 16, kind & 0xFFFF
        if size > 4:  # noqa: PLR2004 - bytes of a word
            raise ValueError("a small element of more than 4 bytes")
        return kind, position + 4, size, position + TAG
    return kind, position + TAG, size, position + TAG + size + -size % 8


def read_numbers(path: Path, variable: Variable) -> npt.NDArray[Any]:
    """Read the numbers of a variable: (n,), in the type in which they are stored.

    Raises
    ------
    DataError
        If they would take more memory than the file can hold.
    ValueError
        If the file is damaged.
    """
    count = math.prod(variable.shape)
    checks.check_budget(path, count, f"a variable of {count} numbers")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        order = _order(content)
        with memoryview(content) as view:
            element = view[variable.start : variable.start + variable.size]
            unpack = zlib.decompressobj()
            head = variable.data + TAG
            begin = unpack.decompress(element, head) if variable.packed else bytes(element[:head])
            kind, start, size, _ = _tag(begin, order, variable.data)
            dtype = np.dtype(order + STORED.get(kind, "V1"))
            if kind not in STORED or size != count * dtype.itemsize:
                raise ValueError(f"{size} bytes of numbers of type {kind} for {count} numbers")
            checks.check_budget(path, size + 4 * count, f"a variable of {count} numbers")
            if variable.packed:
                rest = unpack.decompress(unpack.unconsumed_tail, max(1, start + size - len(begin)))
                data = begin[start:] + rest
            else:
                data = bytes(element[start : start + size])
            element.release()
    if len(data) < size:
        raise ValueError(f"{len(data)} of {size} bytes of numbers")
    return np.frombuffer(data[:size], dtype)
