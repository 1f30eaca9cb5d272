"""Files that arrive in pieces: what is there of one lies in NAME.part and is continued later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sleeptools.store.files import move_into_place, sha256, write_errors


class PartialFile:
    """The beginning of a file, beside the name that it gets when it is whole.

    Parameters
    ----------
    path
        The file's name at the end; its folder is made when the first piece is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    @contextlib.contextmanager
    def open(self, size: int) -> Iterator[Callable[[bytes], None]]:
        """Give a function that appends after the first `size` bytes; each call is in the file.

        Raises
        ------
        StorageError
            If the disk is full or a quota is reached; what was written stays.
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
                while unwritten:  # a disk that fills takes what it still can
                    unwritten = unwritten[file.write(unwritten) :]

        with file:
            yield write

    def finish(self, digest: str) -> bool:
        """Give it its name if its SHA-256 is `digest`; if not, remove it and return False."""
        with write_errors(self.path, self.part):
            if not self.part.exists() or sha256(self.part) != digest:
                self.part.unlink(missing_ok=True)
                return False
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            move_into_place(self.part, self.path)
        return True
