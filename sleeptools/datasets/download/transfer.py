"""Downloading many files over HTTP, several at a time; one that fails does not stop the others.

The worker threads only download; progress and errors are reported in the calling thread.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sleeptools import store
from sleeptools.datasets.download import http
from sleeptools.datasets.download.http import RetryPolicy
from sleeptools.errors import SleeptoolsError, Stopped
from sleeptools.store import batch

JOIN_SECONDS: Final = 2.0  # time for all threads to end; what they wrote is in the files already
NEW, BEGUN, DONE, CHANGED = "new", "begun", "there", "there, but not the published file"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set on its server.

    Parameters
    ----------
    name
        Path below the server's address, and below the local folder.
    sha256
        SHA-256 that the publisher gives, hexadecimal.
    state
        State of the local file: `NEW` (none), `BEGUN` (a part), `DONE` (the published file) or
        `CHANGED` (another file).
    size
        Size in bytes, None if unknown.
    """

    name: str
    sha256: str
    state: str = NEW
    size: int | None = None


@dataclass(frozen=True)
class FetchProgress:
    """How much of all files has been received, after every piece.

    Parameters
    ----------
    received
        Bytes of all files on disk.
    total
        Estimated bytes of all files, None if unknown: files not yet begun are assumed to be as long
        as others of their kind.
    step
        The file that has just ended, None in the middle of a file.
    """

    received: int
    total: int | None
    step: batch.FinishedItem | None = None


OnProgress = Callable[[FetchProgress], None]


def ignore_progress(progress: FetchProgress) -> None:
    """Report nothing."""
    del progress


def check_local_file(file: RemoteFile, dest: Path) -> RemoteFile:
    """Return the file with the state of its local copy."""
    path = dest / file.name
    if path.exists():
        is_published = store.sha256(path) == file.sha256
        return replace(file, state=DONE if is_published else CHANGED)
    return replace(file, state=BEGUN if store.PartialFile(path).size else NEW)


def fetch_files(
    files: Sequence[RemoteFile],
    address: str,
    dest: Path,
    policy: RetryPolicy,
    on_progress: OnProgress = ignore_progress,
    *,
    jobs: int = 4,
) -> batch.Outcome:
    """Download the files that are not yet on disk; return which succeeded, and why others failed.

    Parameters
    ----------
    files
        The files of the data set.
    address
        Address of the server, with a slash at its end.
    dest
        Folder to write, in the server's layout.
    policy
        When to try a file again, and when to give up.
    on_progress
        Called after every piece and at the end of every file, in this thread.
    jobs
        Number of files at a time.

    Raises
    ------
    UnavailableError, StorageError, OutputError
        At once, if no other file could be downloaded or written either.
    """
    threads = _Threads(files, partial(_fetch, address, dest, policy))
    tally = _Tally(files)
    results: dict[str, str] = {}
    failures: dict[str, SleeptoolsError] = {}
    with threads.running(jobs):
        while len(results) + len(failures) < len(files):
            file, event = threads.events.get()
            if isinstance(event, FileProgress):
                on_progress(tally.add(file, event))
                continue
            failed = isinstance(event, BaseException)
            if failed and not _concerns_one(event):
                raise event
            if failed:
                failures[file.name] = event
            else:
                results[file.name] = event
            count = len(results) + len(failures)
            finished = batch.FinishedItem(file.name, count, len(files), str(event), failed)
            on_progress(tally.now(finished))
    ordered = {f.name: failures[f.name] for f in files if f.name in failures}
    rows = [{"file": f.name} for f in files if f.name in results]
    return batch.Outcome(rows, ordered, "file")


@dataclass(frozen=True)
class FileProgress:
    """How much of one file has been received: bytes on disk, and of the whole file if known."""

    received: int
    total: int | None


OnFileProgress = Callable[[FileProgress], None]


def _fetch(
    address: str,
    dest: Path,
    policy: RetryPolicy,
    file: RemoteFile,
    on_progress: OnFileProgress,
    stop: threading.Event,
) -> str:
    """Download one file; return a text about the outcome."""
    path, state = dest / file.name, check_local_file(file, dest).state
    if state == DONE:
        on_progress(FileProgress(path.stat().st_size, path.stat().st_size))
        return batch.DONE
    begun = store.PartialFile(path).size
    http.fetch_file(
        address + quote(file.name),
        path,
        file.sha256,
        lambda received, total: on_progress(FileProgress(received, total)),
        replace(policy, wait=policy.wait or stop.wait),
    )
    text = _bytes(path.stat().st_size)
    if state == CHANGED:
        return f"{text}; fetched again: it was not the published file"
    return f"{text}; continued at {_bytes(begun)}" if begun else text


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"  # noqa: PLR2004


def _concerns_one(error: BaseException) -> bool:
    return isinstance(error, SleeptoolsError) and not isinstance(error, batch.BATCH_ERRORS)


class _Threads:
    """Worker threads that take one file after the other, and the queue of their events."""

    def __init__(
        self,
        files: Sequence[RemoteFile],
        work: Callable[[RemoteFile, OnFileProgress, threading.Event], str],
    ) -> None:
        self.waiting: queue.SimpleQueue[RemoteFile] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[tuple[RemoteFile, Any]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.work = work
        for file in files:
            self.waiting.put(file)

    @contextlib.contextmanager
    def running(self, jobs: int) -> Iterator[None]:
        """Run the threads while the caller takes events; then they stop at their next piece."""
        # daemons: a thread that waits for a silent server must not keep the process
        threads = [threading.Thread(target=self._run, daemon=True) for _ in range(jobs)]
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(JOIN_SECONDS / jobs)

    def _run(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self.stop.is_set():
                file = self.waiting.get_nowait()
                try:
                    end: object = self.work(file, partial(self._report, file), self.stop)
                except Exception as e:  # raised in the calling thread
                    end = e
                self.events.put((file, end))
                if isinstance(end, Exception) and not _concerns_one(end):
                    self.stop.set()  # no thread begins another file

    def _report(self, file: RemoteFile, progress: FileProgress) -> None:
        if self.stop.is_set():
            raise Stopped("stopped")
        self.events.put((file, progress))


class _Tally:
    """Received and estimated bytes of all files."""

    def __init__(self, files: Sequence[RemoteFile]) -> None:
        self.names = [f.name for f in files]
        self.received: dict[str, int] = {}
        self.lengths: dict[str, int] = {}
        self.sum = 0
        self.total: int | None = None

    def add(self, file: RemoteFile, progress: FileProgress) -> FetchProgress:
        self.sum += progress.received - self.received.get(file.name, 0)
        self.received[file.name] = progress.received
        if progress.total is not None and self.lengths.get(file.name) != progress.total:
            self.lengths[file.name] = progress.total
            self.total = self._estimated_total()
        return self.now()

    def now(self, step: batch.FinishedItem | None = None) -> FetchProgress:
        return FetchProgress(self.sum, self.total, step)

    def _estimated_total(self) -> int:
        kinds: dict[str, list[str]] = {}
        for name in self.names:  # signals are as long as signals, scorings as scorings
            kinds.setdefault(name.rpartition("-")[2], []).append(name)
        total = 0.0
        for names in kinds.values():
            lengths = [self.lengths[name] for name in names if name in self.lengths]
            total += sum(lengths) / len(lengths) * len(names) if lengths else 0.0
        return round(total)
