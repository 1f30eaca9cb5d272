"""Process many recordings: a failure does not stop the others and is listed in failures.csv."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import (
    DataError,
    OutOfMemoryError,
    OutputError,
    SleeptoolsError,
    Stopped,
    StorageError,
    UnavailableError,
    stoppable,
)
from sleeptools.store import causes, workers

BATCH_ERRORS = (StorageError, OutputError, UnavailableError, Stopped)
"""Errors that concern the whole batch, not one recording, and so stop it."""
FAILURES = "failures.csv"
FOLDER_FILES = ("index.parquet", "index.csv", FAILURES, "epochs.toml")
"""Files of a folder of recordings or epochs beside these."""
LONGEST_MESSAGE = 400  # letters of a failure in the last line; failures.csv has all of them


@dataclass(frozen=True)
class FinishedItem:
    """Report on one recording or file, finished as the `number`-th of `total`.

    Parameters
    ----------
    id
        Name of the recording or file.
    text
        Summary of the result, or why it failed.
    """

    id: str
    number: int
    total: int
    text: str = ""
    failed: bool = False


FailureFacts = dict[str, str | None]
"""A failure in a manifest: `code`, `message` and `hint`."""

OnProgress = Callable[[FinishedItem], None]


def ignore(finished: FinishedItem) -> None:
    """Do nothing with a report: the default of `on_progress`."""
    del finished


NEW, DONE, CHANGED, DAMAGED = "", "as before", "made again: input changed", "made again: damaged"


def state(path: Path, hashes: Mapping[str, str], is_current: Callable[[], bool]) -> str:
    """Tell the state of an output file: `NEW` (missing), `DONE`, `CHANGED` or `DAMAGED`.

    Parameters
    ----------
    hashes
        SHA-256 by file name, from the folder's manifest. A file that an interrupted command left
        is not among them; it is complete, because a file gets its name only when complete.
    is_current
        Tells whether the file was made from the present input.
    """
    if not path.exists():
        return NEW
    try:
        if path.name in hashes and store.sha256(path) != hashes[path.name]:
            return DAMAGED
        return DONE if is_current() else CHANGED
    except (DataError, KeyError, TypeError):
        return DAMAGED


def refuse_input(source: Path, out: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises
    ------
    OutputError
        If both are the same.
    """
    if out.resolve() == source.resolve():
        raise OutputError(
            f"{out}: input and output need folders of their own",
            hint="give another folder to write",
            code="OUT-INPUT",
        )


def refuse_mixing(source: Path, out: Path, kind: str, names: Collection[str]) -> None:
    """Refuse to write into a folder that holds other files, or lists other recordings.

    Parameters
    ----------
    source, out
        Input and output folder.
    kind
        Format name of the output folder, for example "sleeptools-epochs".
    names
        The recordings to be written.

    Raises
    ------
    OutputError
        If `out` is of another kind, holds other files, or lists recordings that are not among
        `names`.
    """
    store.refuse_foreign(out, kind, {*(f"{name}.safetensors" for name in names), *FOLDER_FILES})
    if not (out / "manifest.json").exists():
        return
    listed = store.read_manifest(out, kind).get("recordings", [])
    unlisted = [name for name in listed if name not in names]
    if unlisted:
        raise OutputError(
            f"{out}: holds {len(unlisted)} recordings that are not in {source}, "
            f"such as {unlisted[0]}",
            hint="give another folder, or remove this one",
            code="OUT-OTHERS",
        )


@dataclass(frozen=True)
class Outcome:
    """Result of a batch.

    Parameters
    ----------
    rows
        A row of the index for each recording that succeeded.
    failures
        Error by recording that failed.
    noun
        What was processed: a recording, or a file.
    """

    rows: list[dict[str, Any]]
    failures: dict[str, SleeptoolsError]
    noun: str = "recording"

    def failure_facts(self) -> dict[str, FailureFacts]:
        """Describe the failures for a manifest: `code`, `message` and `hint` by recording."""
        return {name: error.facts() for name, error in self.failures.items()}

    def write_failures(self, folder: Path) -> None:
        """List the failures in `folder`/failures.csv; without failures, remove that file."""
        path = folder / FAILURES
        if not self.failures:
            path.unlink(missing_ok=True)
            return
        rows = [(name, _text(error), error.code) for name, error in self.failures.items()]
        store.write_text(path, store.csv_text([(self.noun, "error", "code"), *rows]))

    def raise_failures(self, folder: Path) -> None:
        """Raise if anything failed, at the end of the batch.

        Raises
        ------
        DataError
            Naming the first failure and where all of them are listed.
        OutOfMemoryError
            The same, if memory ran out for any of them.
        """
        if self.failures:
            short = [n for n, e in self.failures.items() if isinstance(e, OutOfMemoryError)]
            name = short[0] if short else next(iter(self.failures))
            error, first = self.failures[name], next(iter(self.failures))
            kind: type[SleeptoolsError] = OutOfMemoryError if short else DataError
            listed = f"all that failed are listed in {folder / FAILURES}"
            if len(self.failures) + len(self.rows) == 1:
                message = str(error).removeprefix(f"{name}: ")
                message = textwrap.shorten(f"{name}: {message}", LONGEST_MESSAGE)
                raise kind(message, hint=error.hint or listed, code=error.code)
            text = _text(error).removeprefix(f"{name}: ")
            which = "the first of them" if name == first else "one of them"
            raise kind(
                f"{len(self.failures)} of {len(self.failures) + len(self.rows)} {self.noun}s "
                f"failed, {which} {name}: {textwrap.shorten(text, LONGEST_MESSAGE)}",
                hint=listed,
                code=error.code,
            )


def run(
    items: Iterable[tuple[str, Callable[[], tuple[dict[str, Any], str]]]],
    folder: Path,
    on_progress: OnProgress = ignore,
    *,
    jobs: int = 1,
) -> Outcome:
    """Process every recording, and list the failures in `folder`/failures.csv.

    Parameters
    ----------
    items
        Name of each recording, and a function that processes it and returns its row of the index
        and a line of text.
    folder
        Output folder.
    on_progress
        Called after every recording; see `announce`.
    jobs
        Number of processes; it does not change the result.

    Raises
    ------
    Stopped
        At a stop signal; recordings finished until then are kept.
    """
    work = list(items)
    names, tasks = [name for name, _ in work], [task for _, task in work]
    results: dict[str, tuple[dict[str, Any], str]] = {}
    problems: dict[str, SleeptoolsError] = {}
    announce(on_progress, len(names))
    with stoppable():
        for count, (number, result) in enumerate(workers.run(tasks, jobs), start=1):
            name = names[number]
            if isinstance(result, Exception):
                problems[name] = failure_of(result, name)
                text = _text(problems[name]).removeprefix(f"{name}: ")
            else:
                results[name] = result
                text = result[1]
            on_progress(FinishedItem(name, count, len(names), text, name in problems))
    outcome = Outcome(
        [results[n][0] for n in names if n in results],
        {n: problems[n] for n in names if n in problems},
    )
    outcome.write_failures(folder)
    return outcome


def announce(on_progress: OnProgress, total: int) -> None:
    """Tell a callback that has a method `begin` how many items there will be."""
    if begin := getattr(on_progress, "begin", None):
        begin(total)


def failure_of(error: Exception, name: str) -> SleeptoolsError:
    """Describe the failure of one recording; an error that concerns all of them is raised.

    Parameters
    ----------
    error
        What its processing raised.
    name
        Name of the recording, for an error that does not name its file.
    """
    problem = causes.from_exception(error, name)
    if problem is None or (
        isinstance(problem, BATCH_ERRORS) and not isinstance(problem, OutOfMemoryError)
    ):
        raise problem or error
    return problem


def listed_failure(entry: str | FailureFacts) -> FailureFacts:
    """Describe a failure that a manifest lists; those of earlier versions have only a text."""
    return entry if isinstance(entry, dict) else {"code": "", "message": entry, "hint": None}


def _text(problem: SleeptoolsError) -> str:
    return f"{problem}; {problem.hint}" if problem.hint else str(problem)
