"""What can go wrong, with the exit code a shell script branches on (sysexits numbers)."""

from __future__ import annotations


class SleeptoolsError(Exception):
    """A failure that is the reader's to mend: one line of what, one line of how.

    Parameters
    ----------
    message
        File or value, what was seen, where, and what was expected.
    hint
        What to do about it; printed on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SleeptoolsError):
    """An unknown option, command, model or data set."""

    exit_code = 2


class DataError(SleeptoolsError):
    """Input that is broken or does not fit together."""

    exit_code = 65


class AnnotationsOnlyError(DataError):
    """A file without signals, read as a recording."""


class NoStagesError(DataError):
    """A file without sleep stages, read as a hypnogram."""


class MissingInputError(SleeptoolsError):
    """Input that is not there or cannot be read."""

    exit_code = 66


class UnavailableError(SleeptoolsError):
    """A device, an optional library or a server that is needed and cannot be had."""

    exit_code = 69


class OutputError(SleeptoolsError):
    """Output that cannot be created, or would overwrite something else."""

    exit_code = 73


class StorageError(SleeptoolsError):
    """The disk is full or refuses to write."""

    exit_code = 74


class Stopped(SleeptoolsError):  # noqa: N818 - not a fault: the user or the scheduler asked for it
    """Stopped by a signal with a checkpoint on disk; the same command continues."""

    exit_code = 75
