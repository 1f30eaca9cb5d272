"""What an ONNX file says before a library runs it: its metadata, and where its tensors lie.

Read from the protobuf wire format alone (https://protobuf.dev/programming-guides/encoding), by the
field numbers of onnx.proto3: nothing in the file can make this load or run anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from sleeptools import store
from sleeptools.errors import DataError

MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "ModelProto": {
        7: "GraphProto",
        14: "StringStringEntryProto",
        20: "TrainingInfoProto",
        25: "FunctionProto",
    },
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""Messages within messages by field number, as far as they lead to tensors or metadata."""
SUM: Final = "sleeptools-sha256"
"""Key of the SHA-256 of an export's bytes, with `NO_SUM` in the place of the sum itself; its card
has this key as `sha256`, so that no sum can be lost unnoticed."""
NO_SUM: Final = "0" * 64
ENTRY: Final = "StringStringEntryProto"
DEEPEST: Final = 64  # messages in each other
LONGEST_VARINT: Final = 10  # bytes


class OnnxFile(NamedTuple):
    """The facts of an ONNX file.

    Parameters
    ----------
    metadata
        Its metadata_props.
    locations
        Files that hold tensors of it, as it writes them.
    sha256
        Sum of its content; of an export of ours, as that counts it.
    """

    metadata: dict[str, str]
    locations: list[str]
    sha256: str = ""


def read_onnx(path: Path) -> OnnxFile:
    """Read metadata and locations, and check that every tensor lies in the file's folder.

    Raises
    ------
    MissingInputError
        If the file, or one with its tensors, is not there.
    DataError
        If the file is damaged, or names a file outside its folder.
    """
    content = memoryview(store.need(path, "ONNX file").read_bytes())
    file = OnnxFile({}, [])
    try:
        for owner, entry in _entries(content, "ModelProto", 0):
            key, value = (bytes(entry.get(n, b"")).decode() for n in (1, 2))
            if owner == "ModelProto":
                file.metadata[key] = value
            elif key == "location":
                file.locations.append(value)
        outside = [name for name in file.locations if not _is_inside(path, name)]
    except ValueError as e:
        raise DataError(
            f"{path}: is no ONNX file, or a damaged one: {e}",
            hint="export it again, or compare its size with the source's",
            code="ONNX-DAMAGED",
        ) from e
    if outside:
        raise DataError(
            f"{path}: has tensors in {outside[0]!r}, outside its folder",
            hint="take a file from somebody you trust, with its tensors in it or beside it",
            code="ONNX-OUTSIDE",
        )
    for name in file.locations:
        store.need(path.parent / name, "file of tensors")
    return file._replace(sha256=content_sum(content, file.metadata.get(SUM, "")))


def content_sum(content: bytes | memoryview, kept: str = "") -> str:
    """Return the SHA-256 of a file in which the sum `kept` stands, as `SUM` says."""
    whole = bytes(content).replace(kept.encode(), NO_SUM.encode()) if kept else content
    return hashlib.sha256(whole).hexdigest()


def check_sum(path: Path, file: OnnxFile, expected: str | None) -> None:
    """Compare a file with its sum.

    Parameters
    ----------
    expected
        The sum, or `SUM` where the file's metadata have it; None, of a card without one, is not
        compared.

    Raises
    ------
    DataError
        If they differ.
    """
    kept = file.metadata.get(SUM) if expected == SUM else expected
    if expected is not None and file.sha256 != kept:
        raise DataError(
            f"{path}: its SHA-256 is not the one that its card has: it was changed or damaged "
            "since it was written",
            hint="export it again, or get it anew; of a network that was changed on purpose, "
            "correct `sha256` in the card, or take it out",
            code="ONNX-SUM",
        )


def _is_inside(path: Path, location: str) -> bool:
    """Tell whether a location stays in the file's folder; links are followed."""
    folder = path.parent.resolve()
    return (folder / location).resolve().is_relative_to(folder)


def _entries(
    message: memoryview, kind: str, depth: int
) -> Iterator[tuple[str, dict[int, memoryview]]]:
    """Walk through messages: each entry of key (1) and value (2), and the message that has it."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} messages in each other")
    for number, content in _fields(message):
        inner = MESSAGES[kind].get(number)
        if inner == ENTRY:
            yield kind, dict(_fields(content))
        elif inner:
            yield from _entries(content, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Give the number and the bytes of every field of a message that has a length."""
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        match key & 7:
            case 0:  # a number
                _, offset = _varint(message, offset)
            case 1:  # 8 bytes
                offset += 8
            case 2:  # a length and so many bytes
                size, offset = _varint(message, offset)
                if offset + size > len(message):
                    raise ValueError(f"cut short: {size} bytes at {offset} of {len(message)}")
                yield key >> 3, message[offset : offset + size]
                offset += size
            case 5:  # 4 bytes
                offset += 4
            case wire:
                raise ValueError(f"wire type {wire} at byte {offset}")
    if offset > len(message):
        raise ValueError("cut short")


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; also where the next field begins."""
    value = 0
    for i, byte in enumerate(message[offset : offset + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return value, offset + i + 1
    raise ValueError(f"no number at byte {offset}")
