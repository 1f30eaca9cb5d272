"""An array that need not fit in memory: written a channel at a time, read some epochs at a time."""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import StorageError

Floats = npt.NDArray[np.float32]
IN_MEMORY: Final = 64 << 20  # bytes; more lies in a file, one channel behind the other
BLOCK: Final = 8 << 20  # bytes that are read at a time


class Scratch:
    """(epochs, channels, samples) float32, in a nameless file unless it is small.

    The file is read and written, never mapped: it takes no address space, and a full disk is an
    error instead of the end of the process.

    Parameters
    ----------
    folder
        Where the file lies; it has room for the whole array from the beginning.
    shape
        Epochs, channels, samples.

    Raises
    ------
    StorageError
        If the disk has no room for it.
    """

    dtype: Final = np.dtype(np.float32)

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self._rows = np.arange(shape[0])
        self._planes: Floats | None = None
        self._size = shape
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        if size <= IN_MEMORY:
            self._planes = np.empty((shape[1], shape[0], shape[2]), np.float32)
            return
        with tempfile.TemporaryFile(dir=folder) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)
        try:
            os.posix_fallocate(self._handle, 0, size)
        except OSError as e:
            raise StorageError(
                f"{folder}: no room for a scratch file: {e.strerror}", code="DISK-FULL"
            ) from e

    @property
    def shape(self) -> tuple[int, int, int]:
        """Epochs that are kept, channels, samples."""
        return (len(self._rows), *self._size[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, channel: int, values: Floats) -> None:
        """Write one channel: (all epochs, samples)."""
        assert values.shape == (self._size[0], self._size[2])
        if self._planes is not None:
            self._planes[channel] = values
            return
        content = np.ascontiguousarray(values, np.float32).data.cast("B")
        written, start = 0, channel * content.nbytes
        while written < content.nbytes:
            written += os.pwrite(self._handle, content[written:], start + written)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Leave out the epochs of which the mask, (all epochs,), is false."""
        self._rows = np.flatnonzero(mask)

    def __getitem__(self, index: slice | npt.NDArray[np.integer[Any]]) -> Floats:
        """Copy some of the kept epochs: (*shape of the index, channels, samples)."""
        numbers = self._rows[index]
        if self._planes is not None:
            return np.ascontiguousarray(np.moveaxis(self._planes[:, numbers], 0, -2))
        count, channels, samples = self._size
        out = np.empty((numbers.size, channels, samples), np.float32)
        size = samples * self.dtype.itemsize
        for channel in range(channels):
            for first, last in _runs(numbers.ravel()):
                plane = np.empty((last - first, samples), np.float32)
                start = (channel * count + int(numbers.ravel()[first])) * size
                got = os.preadv(self._handle, [plane.data.cast("B")], start)
                assert got == plane.nbytes
                out[first:last, channel] = plane
        return out.reshape(*numbers.shape, channels, samples)

    def pieces(self) -> Iterator[Floats]:
        """Yield all kept epochs, some at a time."""
        step = max(1, BLOCK // max(1, self.dtype.itemsize * self._size[1] * self._size[2]))
        for start in range(0, len(self), step):
            yield self[start : start + step]


def _runs(numbers: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
    """Yield first and last place (exclusive) of every run of consecutive numbers."""
    bounds = np.flatnonzero(np.diff(numbers) != 1) + 1
    edges = [0, *bounds.tolist(), len(numbers)]
    yield from ((a, b) for a, b in itertools.pairwise(edges) if a < b)
