"""The errors of the package, each with its exit code on the command line (as in sysexits.h)."""

from __future__ import annotations

import contextlib
import difflib
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

SHORTEST = 3  # letters by which the beginning of a name is recognised
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def did_you_mean(name: str, choices: Sequence[str]) -> str | None:
    """Hint for a misspelt name: the most similar of the known ones, or None.

    A name of three letters and more may also be the beginning of one.
    """
    begun = [c for c in choices if len(name) >= SHORTEST and c.startswith(name.lower())]
    close = difflib.get_close_matches(name, choices, 1) or begun
    return f"did you mean {close[0]!r}?" if close else None


def quoted(path: object) -> str:
    """Write a path as it can be typed into a shell: in quotes where it has a space or the like."""
    text = str(path)
    if shlex.quote(text) == text:
        return text
    return f'"{text}"' if not set(text) & set('"$`\\!') else shlex.quote(text)


class SleeptoolsError(Exception):
    """An error that the user can mend; the base class of all errors of the package.

    Parameters
    ----------
    message
        One line: the file or value, what was read and where, and what was expected.
    hint
        What to do about it; printed on a line of its own.
    code
        Stable name of the fault, such as "EDF-NREC", for programs that read messages; that of the
        class if left out. `sleeptools.store.codes` explains each.
    """

    exit_code = 1
    code = ""

    def __init__(self, message: str, *, hint: str | None = None, code: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if code:
            self.code = code

    def facts(self) -> dict[str, str | None]:
        """Describe the error for a file of facts: `code`, `message` and `hint`."""
        return {"code": self.code, "message": str(self), "hint": self.hint}


class UsageError(SleeptoolsError):
    """An unknown option, command, model or data set."""

    exit_code = 2
    code = "USE-VALUE"


class DataError(SleeptoolsError):
    """Input that is damaged or inconsistent."""

    exit_code = 65


class NoRecordingsError(DataError):
    """A folder that holds no files of a data set."""

    code = "SET-EMPTY"


class AnnotationsOnlyError(DataError):
    """A file without signals was read as a recording."""

    code = "REC-NONE"


class UndecidedError(DataError):
    """Labels or scorers of a scoring about which only a person can decide.

    Parameters
    ----------
    texts
        The labels or the scorers.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str = "",
        texts: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.texts = tuple(texts)


class NoStagesError(DataError):
    """A file without sleep stages was read as a hypnogram."""

    code = "HYP-NONE"


class MissingInputError(SleeptoolsError):
    """Input that does not exist or cannot be read."""

    exit_code = 66


class UnavailableError(SleeptoolsError):
    """A device, an optional library or a server that is needed but not available."""

    exit_code = 69


class OutOfMemoryError(UnavailableError):
    """The machine's memory is too small for the work."""


class OutputError(SleeptoolsError):
    """Output that cannot be created, or that would overwrite other files."""

    exit_code = 73


class StorageError(SleeptoolsError):
    """The disk is full or refuses to write."""

    exit_code = 74


class Stopped(SleeptoolsError):  # noqa: N818 - not a fault: the user or the scheduler asked for it
    """A command stopped by a signal, with its work so far on disk; running it again continues."""

    exit_code = 75
    code = "SYS-STOP"


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at a stop signal (SIGINT, SIGTERM, SIGUSR1); only in the main thread.

    Raises
    ------
    Stopped
        When a signal arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    for stop_signal in STOP_SIGNALS:  # a second signal must not interrupt the clean-up
        signal.signal(stop_signal, signal.SIG_IGN)
    raise Stopped(
        f"stopped by {signal.Signals(number).name}; what is done is kept",
        hint="run the same command again to continue",
    )
