"""Worker processes: tasks handed out one at a time, and everything ended by one signal.

Each worker is a fresh interpreter that holds one task, so memory is bounded by their number, and
what a task makes does not depend on which worker does it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, cast

from sleeptools.errors import DataError, Stopped

WorkerTask = Callable[[], Any]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def run(tasks: Sequence[WorkerTask], jobs: int) -> Iterator[tuple[int, Any]]:
    """Run tasks, and give each one's number and its result as soon as it is there.

    A task that raises gives the exception as its result; one whose process dies gives a DataError.

    Parameters
    ----------
    tasks
        Picklable if `jobs` is more than 1.
    jobs
        How many at a time; 1 runs them in this process.
    """
    if jobs == 1 or len(tasks) < 2:  # noqa: PLR2004 - nothing to share out
        yield from ((number, _result(task)) for number, task in enumerate(tasks))
        return
    waiting = list(enumerate(tasks))[::-1]
    workers = [Worker() for _ in tasks[:jobs]]
    try:
        for worker in workers:
            worker.give(*waiting.pop())
        while busy := {worker.pipe: worker for worker in workers if worker.number is not None}:
            for pipe in wait([*busy]):
                worker = busy[cast(Connection, pipe)]
                yield worker.take()
                if waiting:
                    worker.give(*waiting.pop())
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _result(task: WorkerTask) -> Any:
    try:
        return task()
    except Stopped:
        raise
    except Exception as e:  # the parent raises it
        return e


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new interpreter inherits it
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Worker:
    """A process and this side of the pipe to it; a Ctrl-C in the terminal does not reach it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _ignoring_interrupts():
            self.process.start()
        theirs.close()

    def give(self, number: int, task: WorkerTask) -> None:
        """Hand it a task; a dead process is replaced first."""
        if not self.process.is_alive():
            self._start()
        self.number = number
        self.pipe.send(task)

    def take(self) -> tuple[int, Any]:
        """Take the task's number and its result, or why there is none."""
        assert self.number is not None
        number, self.number = self.number, None
        try:
            return number, self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            name = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended: {code}"
            return number, DataError(f"its process {name}")


def _work(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.suppress(EOFError):  # the parent is gone
        while True:
            pipe.send(_result(pipe.recv()))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the stop signals into `Stopped`, raised at once; without effect in other threads.

    Raises
    ------
    Stopped
        When a signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    for stop_signal in SIGNALS:  # while everything is put away, a second one is not needed
        signal.signal(stop_signal, signal.SIG_IGN)
    raise Stopped(
        f"stopped by {signal.Signals(number).name}; what is done is kept",
        hint="run the same command again to continue",
    )
