"""A PNG picture of indexed colours (ISO/IEC 15948), as a data URI for a page that loads nothing."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
INDEXED: Final = 3  # colour type


def png(pixels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8], *, hidden: int = 0) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels
        (rows, columns) index into the palette, the top row first.
    palette
        (colours, 3) red, green, blue.
    hidden
        Number of colours at the palette's start that are transparent.
    """
    rows, columns = pixels.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # a filter of 0 before each line
    lines[:, 1:] = pixels
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", columns, rows, 8, INDEXED, 0, 0, 0),
        b"PLTE": palette.tobytes(),
        b"tRNS": b"\0" * hidden,
        b"IDAT": zlib.compress(lines.tobytes(), 6),
        b"IEND": b"",
    }
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def data_uri(picture: bytes) -> str:
    """Return a PNG as the address of an image."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()
