"""Worker processes: run tasks in parallel, one at a time in each process, until a stop signal.

Each worker is a new interpreter with one task at a time, so that memory is bounded by the number
of workers, and the result of a task does not depend on the worker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from sleeptools.errors import Stopped
from sleeptools.store import causes

WorkerTask = Callable[[], Any]
PATIENCE = 10.0
"""Seconds that a process has to end in order."""


def run(tasks: Sequence[WorkerTask], jobs: int) -> Iterator[tuple[int, Any]]:
    """Run tasks, and yield the number and the result of each as soon as it is done.

    The result of a task that raises is its exception; that of a task whose process dies is an
    error that says so.

    Parameters
    ----------
    tasks
        Functions without arguments; picklable if `jobs` is more than 1.
    jobs
        Number of processes; 1 runs the tasks in this process.
    """
    if jobs == 1 or len(tasks) < 2:  # noqa: PLR2004 - a single task needs no other process
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
        _end(workers)


def _end(workers: Sequence[Worker]) -> None:
    """End all processes: at first in order, and what does not end then is killed.

    Python drops what a handler of signals raises in a callback, so that a process can miss the
    first signal; waiting for a task, it ends because its pipe is closed.
    """
    for worker in workers:
        worker.process.terminate()
        worker.pipe.close()
    until = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _result(task: WorkerTask) -> Any:
    try:
        return task()
    except Stopped:
        raise
    except Exception as e:  # the parent raises it
        return e
    except BaseException as e:  # a panic of a library is no Exception
        error = causes.from_exception(e)
        if error is None:
            raise
        return error


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
    """A worker process and this end of the pipe to it; it ignores Ctrl-C in the terminal."""

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
        """Send a task to the worker; if its process has died, start a new one first."""
        if not self.process.is_alive():
            self._start()
        self.number = number
        self.pipe.send(task)

    def take(self) -> tuple[int, Any]:
        """Receive the task's number and its result, or an error if the process died."""
        assert self.number is not None
        number, self.number = self.number, None
        try:
            return number, self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return number, causes.died(self.process.exitcode or 0)


def _work(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a scheduler sends it to all; the parent stops
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            pipe.send(_result(pipe.recv()))
