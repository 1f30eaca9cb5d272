"""Runs commands that are killed, or whose disk is full, at their N-th write operation.

A server process loads faults.c and the package once, and forks for every run.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COUNT, KILL, FAIL, FAIL_ON = range(4)
LONGEST = 120.0  # s of a run
KILLED = -signal.SIGKILL


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

    def run(
        self, words: Sequence[object], below: Path, at: int = 0, mode: int = COUNT
    ) -> tuple[int, int, str]:
        """Run a command line; its exit code (-9 if killed), its operations, and its stderr."""
        request = [[str(w) for w in words], str(below), at, mode]
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code, operations, text = json.loads(self.process.stdout.readline())
        return code, operations, text


@contextmanager
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
    from sleeptools import cli
    from sleeptools.commands import convert, evaluate, hypnogram, preprocess, report, score, verify

    del convert, evaluate, hypnogram, preprocess, report, score, verify  # loaded, for the forks
    faults = ctypes.CDLL(library)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        words, below, at, mode = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(writing, 2)
            sys.argv = ["sleeptools", *words]
            faults.faults_set(below.encode(), ctypes.c_long(at), mode, errno.ENOSPC)
            code = cli.run(words)
            count = faults.faults_done()
            faults.faults_set(b"", ctypes.c_long(0), COUNT, 0)
            sys.stderr.flush()
            os.write(2, f"\noperations {count}".encode())
            os._exit(code)
        os.close(writing)
        code, text = _wait(pid, reading)
        text, _, count = text.partition("\noperations ")  # a killed process says no number
        answers.write(json.dumps([code, int(count or 0), text]) + "\n")
        answers.flush()


def _wait(pid: int, reading: int) -> tuple[int, str]:
    until = time.monotonic() + LONGEST
    with os.fdopen(reading, "rb") as file:
        text = file.read().decode(errors="replace")
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1]), text


if __name__ == "__main__":
    _serve(sys.argv[1])
