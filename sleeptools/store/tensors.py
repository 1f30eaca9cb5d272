"""Named arrays in safetensors files: written in pieces, memory-mapped on reading."""

from __future__ import annotations

import hashlib
import json
import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.store import checks
from sleeptools.store.files import atomic_write, check_format, need

Array = npt.NDArray[Any]
DTYPES = {
    "F32": "<f4",
    "F64": "<f8",
    "I8": "|i1",
    "U8": "|u1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
}
CODES = {np.dtype(v): k for k, v in DTYPES.items()}
LONGEST_HEADER = 16 << 20  # bytes: a thousand times what a night or a model has
MOST_AXES = 8
MAPPED = 1 << 20  # bytes; smaller arrays are read, since every mapped one holds the file open


def write_tensors(
    path: Path,
    layout: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]],
    fill: Callable[[str], Iterable[Array]],
    facts: Mapping[str, object],
) -> None:
    """Write named arrays one after the other, with one piece of an array in memory at a time.

    Parameters
    ----------
    layout
        Dtype and shape of each array, by name.
    fill
        Given a name, yields the array's values in C order, in pieces of any size.
    facts
        JSON-serialisable values for the header; `format` and `version` among them.
    """
    header: dict[str, object] = {
        "__metadata__": {k: json.dumps(v) for k, v in facts.items()}  # "1" stays a string
    }
    position = 0
    for name, (dtype, shape) in layout.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": CODES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, shape) in layout.items():
            written = 0
            for piece in fill(name):
                values = np.ascontiguousarray(piece, dtype)
                file.write(values.data.cast("B") if values.size else b"")
                written += values.size
            assert written == np.prod(shape, dtype=np.int64), f"{name}: {written} of {shape}"


def write_arrays(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, object]) -> None:
    """Write named arrays that are in memory; `facts` as in `write_tensors`."""
    layout = {name: (a.dtype, a.shape) for name, a in arrays.items()}
    write_tensors(path, layout, lambda name: [arrays[name]], facts)


def digest(arrays: Mapping[str, Array], facts: Mapping[str, object] | None = None) -> str:
    """Compute a SHA-256 of named arrays, their types and shapes, and of facts beside them."""
    whole = hashlib.sha256(digest_text(facts or {}).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(array.data.cast("B") if array.size else b"")
    return whole.hexdigest()


def digest_text(facts: Mapping[str, object]) -> str:
    """Write facts in one way, however a JSON file with them is laid out."""
    return json.dumps(json.loads(json.dumps(dict(facts))), sort_keys=True)


@dataclass(frozen=True)
class Layout:
    """Where an array lies in a safetensors file: `start` is its first byte, from the file's."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class MappedArrays(Mapping[str, Array]):
    """The arrays of a safetensors file; a large one is mapped whenever it is asked for.

    A file of any size takes no more address space than the arrays that are in use, and one open
    file. It is held open, so that all arrays are of one file even if another takes its name.
    """

    def __init__(self, file: IO[bytes], layouts: Mapping[str, Layout]) -> None:
        self.layouts = layouts
        self._handle = os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._handle)

    def __getitem__(self, name: str) -> Array:
        layout = self.layouts[name]
        assert self._close.alive, f"{name}: the file was let go"
        size = math.prod(layout.shape) * layout.dtype.itemsize
        if size > MAPPED:
            with open(self._handle, "rb", closefd=False) as file:
                return np.memmap(file, layout.dtype, "r", layout.start, layout.shape)
        content = os.pread(self._handle, size, layout.start)
        array: Array = np.frombuffer(content, layout.dtype).reshape(layout.shape)
        return array

    def take_last(self, name: str) -> Array:
        """Return an array and let the file go: a mapped one needs no second open file."""
        array = self[name]
        self._close()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.layouts)

    def __len__(self) -> int:
        return len(self.layouts)


@dataclass(frozen=True)
class Tensors:
    """A safetensors file: its arrays, memory-mapped, and the facts in its header."""

    path: Path
    arrays: MappedArrays = field(repr=False)
    facts: Mapping[str, Any]

    def __getitem__(self, name: str) -> Array:
        self.layout(name)
        return self.arrays[name]

    def layout(self, name: str) -> Layout:
        """Return where an array lies, its type and its shape; `DataError` if there is none."""
        if name not in self.arrays.layouts:
            raise DataError(f"{self.path}: holds no array {name!r}", code="ARR-MISSING")
        return self.arrays.layouts[name]


def read_tensors(path: Path, kind: str = "", version: int = 1) -> Tensors:
    """Map a safetensors file.

    Parameters
    ----------
    kind, version
        The format name expected, and the newest version understood; no check if `kind` is empty.

    Raises
    ------
    DataError
        If the file is damaged, of another format, or of a newer version.
    """
    size = need(path).stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):  # noqa: PLR2004 - the length field
            raise DataError(f"{path}: not a safetensors file, or cut short", code="ARR-CUT")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_unique)
            raw = header.pop("__metadata__", {})
            facts = {k: _parse(v) for k, v in raw.items()}
            layouts = {k: _layout(k, v, size, 8 + length) for k, v in header.items()}
            _check_apart(header.values(), size - 8 - length)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise DataError(
                f"{path}: damaged safetensors header: {checks.shown(e.args[0] if e.args else '')}",
                code="ARR-HEADER",
            ) from e
        checks.check_depth(facts, path)
        check_format(facts, path, kind, version)
        return Tensors(path, MappedArrays(file, layouts), facts)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a table of an object's pairs; a name that comes twice is an error."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return table


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # of another program: plain texts are allowed


def _layout(name: str, entry: Mapping[str, Any], size: int, begin: int) -> Layout:
    """Check where one array lies in a file of `size` bytes, whose arrays begin at byte `begin`."""
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
    start, stop = entry["data_offsets"]
    if not (len(shape) <= MOST_AXES and all(map(checks.is_whole, (start, stop, *shape)))):
        raise ValueError(f"{name!r}: shape and offsets must be whole numbers")
    count = math.prod(shape)  # of Python's integers, which do not overflow
    fits = stop - start == count * dtype.itemsize and stop <= size - begin
    if min(0, start, *shape) < 0 or not fits:
        raise ValueError(f"{name!r}: offsets do not fit the file")
    return Layout(dtype, tuple(shape), begin + start)


def _check_apart(entries: Iterable[Mapping[str, Any]], size: int) -> None:
    """Refuse arrays that share bytes, and bytes that belong to no array."""
    position = 0
    for start, stop in sorted(tuple(entry["data_offsets"]) for entry in entries):
        if start != position:
            raise ValueError("arrays overlap or leave bytes between them")
        position = stop
    if position != size:
        raise ValueError(f"the arrays have {position} bytes, the file {size}")
