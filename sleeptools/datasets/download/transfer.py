"""Many files over HTTP, several at a time, in threads: one that fails stops none of the others.

The threads only fetch; what they bring and how they end is told by the thread that called.
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
from sleeptools.datasets.download.http import Patience
from sleeptools.errors import SleeptoolsError, Stopped
from sleeptools.store import batch

LINGER: Final = 2.0  # s that threads get to end; what they wrote is in the files already
NEW, BEGUN, DONE, CHANGED = "new", "begun", "there", "there, but not the published file"


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Parameters
    ----------
    name
        Its path below the address, and below the folder.
    sha256
        What its publisher says.
    state
        `NEW`, `BEGUN`, `DONE` (there and right) or `CHANGED` (there and wrong).
    size
        Bytes, where known.
    """

    name: str
    sha256: str
    state: str = NEW
    size: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far all files are: told at every piece that comes, with `step` at the end of a file.

    Parameters
    ----------
    have
        Bytes that are there.
    total
        Bytes of everything, as far as can be told: files not yet begun are taken to be as long as
        others of their kind.
    """

    have: int
    total: int | None
    step: batch.FinishedItem | None = None


Show = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Take a report and do nothing."""
    del progress


def look(wanted: Wanted, dest: Path) -> Wanted:
    """Say what of a file is there."""
    path = dest / wanted.name
    if path.exists():
        right = store.sha256(path) == wanted.sha256
        return replace(wanted, state=DONE if right else CHANGED)
    return replace(wanted, state=BEGUN if store.PartialFile(path).size else NEW)


def run(
    files: Sequence[Wanted],
    address: str,
    dest: Path,
    patience: Patience,
    show: Show = ignore,
    *,
    jobs: int = 4,
) -> batch.Outcome:
    """Fetch files that are not there yet; return which came and which failed, and why.

    Raises
    ------
    UnavailableError, StorageError, OutputError
        What concerns all files, at once.
    """
    threads = _Threads(files, partial(_fetch, address, dest, patience))
    tally = _Tally(files)
    found: dict[str, str] = {}
    failures: dict[str, str] = {}
    with threads.running(jobs):
        while len(found) + len(failures) < len(files):
            wanted, what = threads.events.get()
            if isinstance(what, Sizes):
                show(tally.add(wanted, what))
                continue
            failed = isinstance(what, BaseException)
            text = _problem(what) if isinstance(what, BaseException) else str(what)
            (failures if failed else found)[wanted.name] = text
            count = len(found) + len(failures)
            show(tally.now(batch.FinishedItem(wanted.name, count, len(files), text, failed)))
    ordered = {f.name: failures[f.name] for f in files if f.name in failures}
    rows = [{"file": f.name} for f in files if f.name in found]
    return batch.Outcome(rows, ordered, "file")


@dataclass(frozen=True)
class Sizes:
    """Of one file: bytes that are there, and of the whole, where known."""

    have: int
    whole: int | None


Told = Callable[[Sizes], None]


def _fetch(
    address: str, dest: Path, patience: Patience, wanted: Wanted, told: Told, stop: threading.Event
) -> str:
    """Fetch one file and say what became of it."""
    path, state = dest / wanted.name, look(wanted, dest).state
    if state == DONE:
        told(Sizes(path.stat().st_size, path.stat().st_size))
        return batch.DONE
    begun = store.PartialFile(path).size
    http.to_file(
        address + quote(wanted.name),
        path,
        wanted.sha256,
        lambda have, whole: told(Sizes(have, whole)),
        replace(patience, wait=patience.wait or stop.wait),
    )
    text = _bytes(path.stat().st_size)
    if state == CHANGED:
        return f"{text}; fetched again: it was not the published file"
    return f"{text}; continued at {_bytes(begun)}" if begun else text


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"  # noqa: PLR2004


def _problem(error: BaseException) -> str:
    """Say why a file failed; what concerns all of them is raised."""
    if isinstance(error, SleeptoolsError) and not isinstance(error, batch.BATCH_ERRORS):
        return str(error)
    raise error


class _Threads:
    """Threads that take one file after the other, and the events that come of it."""

    def __init__(
        self, files: Sequence[Wanted], work: Callable[[Wanted, Told, threading.Event], str]
    ) -> None:
        self.waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[tuple[Wanted, Any]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.work = work
        for wanted in files:
            self.waiting.put(wanted)

    @contextlib.contextmanager
    def running(self, jobs: int) -> Iterator[None]:
        """Run them while the caller takes events; afterwards they stop at their next piece."""
        # daemons: a thread that waits for a silent server must not keep the process
        threads = [threading.Thread(target=self._run, daemon=True) for _ in range(jobs)]
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(LINGER / jobs)

    def _run(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self.stop.is_set():
                wanted = self.waiting.get_nowait()
                try:
                    end: object = self.work(wanted, partial(self._told, wanted), self.stop)
                except Exception as e:  # raised where events are taken
                    end = e
                self.events.put((wanted, end))

    def _told(self, wanted: Wanted, sizes: Sizes) -> None:
        if self.stop.is_set():
            raise Stopped("stopped")
        self.events.put((wanted, sizes))


class _Tally:
    """Bytes of all files, from what is known of some."""

    def __init__(self, files: Sequence[Wanted]) -> None:
        self.names = [f.name for f in files]
        self.have: dict[str, int] = {}
        self.whole: dict[str, int] = {}
        self.sum = 0
        self.total: int | None = None

    def add(self, wanted: Wanted, sizes: Sizes) -> Progress:
        self.sum += sizes.have - self.have.get(wanted.name, 0)
        self.have[wanted.name] = sizes.have
        if sizes.whole is not None and self.whole.get(wanted.name) != sizes.whole:
            self.whole[wanted.name] = sizes.whole
            self.total = self._guess()
        return self.now()

    def now(self, step: batch.FinishedItem | None = None) -> Progress:
        return Progress(self.sum, self.total, step)

    def _guess(self) -> int:
        kinds: dict[str, list[int | None]] = {}
        for name in self.names:  # signals are as long as signals, scorings as scorings
            kinds.setdefault(name.rpartition("-")[2], []).append(self.whole.get(name))
        total = 0.0
        for sizes in kinds.values():
            known = [s for s in sizes if s is not None]
            total += sum(known) / len(known) * len(sizes) if known else 0.0
        return round(total)
