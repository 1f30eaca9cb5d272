"""Runs commands that are killed, or whose disk fails, at their N-th write operation.

A server process loads faults.c and the package once, and forks for every run; what a run imported
beside that is loaded for the next ones. Runs may also go at once, each in a PID namespace of its
own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COUNT, KILL, FAIL, FAIL_ON, SHORT, PAUSE = range(6)
LONGEST = 120.0  # s of a run
SIGNALLED = 128
"""What a shell adds to the number of a signal to make an exit code of it."""
KILLED = -signal.SIGKILL
LINKED = "linked"
"""Name of a line that says that the operation "link" before it succeeded."""
NEW_NAMESPACES = 0x20000000 | 0x00020000  # of processes and of mounts
PRIVATE = 1 << 18 | 1 << 14  # mounts that nobody else sees, and those in them
COMMANDS = "convert evaluate export fetch hypnogram preprocess report score simulate train verify"


@dataclass(frozen=True)
class Run:
    """A command line and what goes wrong in it.

    Parameters
    ----------
    words
        The command line, without "sleeptools".
    below
        The folder whose write operations count.
    at, mode, error
        Number of the operation, from 1; what happens there; and the system's error, or how long
        a pause is, ms.
    delay
        Time before the command begins, s.
    namespace
        Whether the command has a PID namespace of its own, where its number is always 2.
    """

    words: Sequence[str]
    below: str
    at: int = 0
    mode: int = COUNT
    error: int = errno.ENOSPC
    delay: float = 0.0
    namespace: bool = False


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (-9 if killed), stderr, and its operations as (name, path)."""

    code: int
    text: str
    operations: list[tuple[str, str]]


class FaultServer:
    """Forks a process for every run of a command."""

    def __init__(self, library: Path) -> None:
        settings = {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | settings,
        )

    def run(self, run: Run) -> Ended:
        """Run a command line."""
        return self.race([run])[0][0]

    def race(self, runs: Sequence[Run]) -> tuple[list[Ended], list[tuple[int, str, str]]]:
        """Run command lines at once; also return the operations of all in the order of time.

        Returns
        -------
        ended
            How each ended.
        operations
            Number of the run, name and path.
        """
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([asdict(run) for run in runs]) + "\n")
        self.process.stdin.flush()
        ended, lines = json.loads(self.process.stdout.readline())
        operations = [(int(n), name, path) for n, name, path in (o.split(" ", 2) for o in lines)]
        by_run = [
            [(o, p) for n, o, p in operations if n == i and o != LINKED] for i in range(len(runs))
        ]
        return [Ended(*e, o) for e, o in zip(ended, by_run, strict=True)], operations


@contextlib.contextmanager
def fault_server(folder: Path) -> Iterator[FaultServer]:
    """Build the library and start a server; both end with the block."""
    library = folder / "faults.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    subprocess.run(words, check=True)
    server = FaultServer(library)
    try:
        yield server
    finally:
        assert server.process.stdin
        assert server.process.stdout
        server.process.stdin.close()
        server.process.wait(LONGEST)
        server.process.stdout.close()


def _serve(library: str) -> None:
    faults = ctypes.CDLL(library)
    for name in COMMANDS.split():
        importlib.import_module(f"sleeptools.commands.{name}")
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        log = os.memfd_create("operations")
        started = [_start(faults, Run(**run), i, log) for i, run in enumerate(json.loads(line))]
        ended = []
        for pid, text, modules in started:
            ended.append((_wait(pid), _content(text)))
            for module in _content(modules).split():
                with contextlib.suppress(Exception):  # loaded for the next forks
                    importlib.import_module(module)
        answers.write(json.dumps([ended, _content(log).splitlines()]) + "\n")
        answers.flush()


def _start(faults: ctypes.CDLL, run: Run, number: int, log: int) -> tuple[int, int, int]:
    """Fork for a run; its process, and the files of its stderr and of what it imported."""
    text, modules = os.memfd_create("stderr"), os.memfd_create("modules")
    pid = os.fork()
    if pid:
        return pid, text, modules
    try:
        if run.namespace:
            _enter_namespace()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(text, 2)
        time.sleep(run.delay)
        before = set(sys.modules)
        sys.argv = ["sleeptools", *run.words]
        from sleeptools import cli

        faults.faults_set(
            run.below.encode(), ctypes.c_long(run.at), run.mode, run.error, log, number
        )
        code = cli.run(list(run.words))
        faults.faults_set(b"", ctypes.c_long(0), COUNT, 0, -1, 0)
        os.write(modules, " ".join(sorted(set(sys.modules) - before)).encode())
        sys.stderr.flush()
    except BaseException as e:  # no fork may go on as the server
        os.write(text, f"{type(e).__name__}: {e}".encode())
        code = 99
    os._exit(code)


def _enter_namespace() -> None:
    """Go on as process 2 of a new PID namespace; process 1 waits, and ends in the same way."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(NEW_NAMESPACES))
    _follow(os.fork())
    _check(libc.mount(b"none", b"/", None, PRIVATE, None))
    _check(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    _follow(os.fork())


def _follow(pid: int) -> None:
    """In the parent, end as the child ends; the first process of a namespace cannot be killed."""
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code > SIGNALLED and os.getpid() != 1:
            os.kill(os.getpid(), code - SIGNALLED)
        os._exit(code if code >= 0 else SIGNALLED - code)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _content(handle: int) -> str:
    with os.fdopen(handle, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def _wait(pid: int) -> int:
    until = time.monotonic() + LONGEST
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGABRT)
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1])


if __name__ == "__main__":
    _serve(sys.argv[1])
