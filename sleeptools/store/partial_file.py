"""Partial downloads: the bytes of NAME received so far lie in NAME.part and are continued later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sleeptools.store.files import move_into_place, sha256, write_errors


class PartialFile:
    """The first bytes of a file, in NAME.part until the file is complete.

    Parameters
    ----------
    path
        Final path of the file; its folder is made when the first bytes are written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    @contextlib.contextmanager
    def open(self, size: int) -> Iterator[Callable[[bytes], None]]:
        """Give a function that appends data after the first `size` bytes, without a buffer.

        Raises
        ------
        StorageError
            If the disk is full or a quota is reached; the bytes written until then stay.
        OutputError
            If the file cannot be written.
        """
        with write_errors(self.path, self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            file = self.part.open("ab", buffering=0)
            file.truncate(size)

        def write(data: bytes) -> None:
            unwritten = memoryview(data)
            with write_errors(self.path, self.part):
                while unwritten:  # a disk that is nearly full takes a part of the data
                    unwritten = unwritten[file.write(unwritten) :]

        with file:
            yield write

    def finish(self, digest: str) -> bool:
        """Give the file its final name if its SHA-256 is `digest`; else remove it: False."""
        with write_errors(self.path, self.part):
            if not self.part.exists() or sha256(self.part) != digest:
                self.part.unlink(missing_ok=True)
                return False
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            move_into_place(self.part, self.path)
        return True
