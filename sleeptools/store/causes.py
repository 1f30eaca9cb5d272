"""From cause to exit code: what an exception of Python, the system or a library means to the user.

One table for all commands and for every recording of a batch. What it does not know is a fault of
ours, with exit code 1.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from typing import Final

from sleeptools.errors import (
    DataError,
    MissingInputError,
    OutOfMemoryError,
    OutputError,
    SleeptoolsError,
    StorageError,
    UnavailableError,
)
from sleeptools.store.libraries import TORCH, install_line

Cause = tuple[type[SleeptoolsError], str, str | None]
"""Class of the error, which has the exit code; its stable code; and what to do."""

FULL: Final[Cause] = (StorageError, "DISK-FULL", "free some space and run the command again")
BROKEN: Final[Cause] = (StorageError, "DISK-ERROR", None)
MEMORY: Final[Cause] = (
    OutOfMemoryError,
    "MEM-FULL",
    "work on fewer recordings at a time (`jobs=1`), or on a machine with more memory",
)
HANDLES: Final[Cause] = (UnavailableError, "SYS-HANDLES", "'ulimit -n 4096' allows more open files")
UNREAD: Final[Cause] = (MissingInputError, "FILE-READ", None)
READ_ONLY: Final[Cause] = (OutputError, "OUT-WRITE", None)

AGAIN: Final = "make it again with the command that wrote it; what is intact is skipped"
"""What to do about a damaged file of ours."""
ERRNO: Final[dict[int, Cause]] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EIO: BROKEN,
    errno.ENOMEM: MEMORY,
    errno.EMFILE: HANDLES,
    errno.ENFILE: HANDLES,
    errno.EROFS: READ_ONLY,
}
"""By the number of the system's error; every other one is an input that cannot be read."""
TEXTS: Final[dict[str, Cause]] = {
    "can't allocate memory": MEMORY,  # torch
    "out of memory": MEMORY,  # torch, of a device
    "unexpected pos": FULL,  # torch, of a file that could not be written
    "No space left on device": FULL,
    "Too many open files": HANDLES,
}
"""By words of a RuntimeError or a panic, which is all that some libraries raise."""


def from_exception(error: BaseException, source: str = "") -> SleeptoolsError | None:
    """Turn any exception into an error for people; None if it is a fault of ours.

    Parameters
    ----------
    source
        What was worked on, for an error that does not name its file.
    """
    match error:
        case SleeptoolsError():
            return error
        case MemoryError() | ModuleNotFoundError(name="torch"):
            return _of_python(error, source)
        case OSError():
            return _of_system(error, source)
        case RuntimeError():
            return from_words(error, source)
        case _ if type(error).__name__ == "PanicException":  # of polars, and no Exception
            return from_words(error, source) or DataError(
                f"{_before(source)}not a readable table: {_first_line(error)}",
                hint=AGAIN,
                code="TAB-READ",
            )
    return None


def _of_python(error: BaseException, source: str) -> SleeptoolsError:
    if isinstance(error, MemoryError):
        text = str(error) or f"this process had taken {peak_mib(resource.RUSAGE_SELF)} MiB"
        return _made(MEMORY, f"{_before(source)}out of memory: {text}")
    message = f"{_before(source)}torch is not installed, and this needs it"
    return UnavailableError(message, hint=install_line(TORCH), code="TORCH-NONE")


def from_words(error: BaseException, source: str) -> SleeptoolsError | None:
    """Turn an error of a library that names its cause in words only; None if it names none."""
    cause = next((c for words, c in TEXTS.items() if words in str(error)), None)
    return _made(cause, _before(source) + _first_line(error)) if cause else None


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]


def _of_system(error: OSError, source: str) -> SleeptoolsError:
    for inner in _chain(error):
        cause = ERRNO.get(inner.errno or 0)
        if cause is not None:
            return _made(cause, f"{_name(inner, source)}{inner.strerror}")
    if isinstance(error, IsADirectoryError):
        return MissingInputError(
            f"{_name(error, source)}is a folder, and one file is expected",
            hint="give a file of it",
            code="FILE-READ",
        )
    text = error.strerror or str(error) or type(error).__name__
    return _made(UNREAD, f"{_name(error, source)}cannot be read: {text}")


def died(number: int) -> SleeptoolsError:
    """Describe a worker process that ended by itself.

    Parameters
    ----------
    number
        Its exit code, or the negative number of the signal that killed it.
    """
    import signal

    if number >= 0:
        return DataError(f"its process ended: {number}", code="WORKER-ENDED")
    name = signal.Signals(-number).name
    if -number != signal.SIGKILL:
        return DataError(f"its process was killed by {name}", code="WORKER-ENDED")
    return _made(
        MEMORY,
        f"its process was killed by {name}, which is what happens when memory runs out; the "
        f"largest process so far had taken {peak_mib(resource.RUSAGE_CHILDREN)} MiB",
    )


def peak_mib(processes: int) -> int:
    """Peak memory, MiB, of this process or (RUSAGE_CHILDREN) of its largest child process."""
    return resource.getrusage(processes).ru_maxrss // 1024


def _made(cause: Cause, message: str) -> SleeptoolsError:
    kind, code, hint = cause
    return kind(message, hint=hint, code=code)


def _chain(error: BaseException) -> Iterator[OSError]:
    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(seen, OSError):
            yield seen
        seen = seen.__cause__ or seen.__context__ if seen else None


def _name(error: OSError, source: str) -> str:
    return _before(str(error.filename) if error.filename else source)


def _before(source: str) -> str:
    return f"{source}: " if source else ""
