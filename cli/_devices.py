"""`train --devices N`: this command as N processes that train together.

What torchrun does, but with our exit codes and stop signals: its own are 1 for any failure, and it
ends at USR1. Its variables are set, so that a process does not know who started it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO, Final, NoReturn

from ._console import talk

PATIENCE: Final = 20.0  # s for the others to end by themselves once one has
LOOK: Final = 0.1  # s
STOPPED: Final = 75
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def is_one() -> bool:
    """Whether this process is one of several already."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_follower() -> bool:
    """Whether this process is one of several, and not the one that writes and reports."""
    return is_one() and os.environ["RANK"] != "0"


def run_all(count: int) -> NoReturn:
    """Run this command as so many processes, and end with the code of the one that failed first.

    A process that was killed counts as stopped (75): the same command continues from the last
    checkpoint.
    """
    errors = [tempfile.TemporaryFile() for _ in range(1, count)]  # noqa: SIM115 - for their lives
    processes: list[subprocess.Popen[bytes]] = []
    signals: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        for process in processes:
            process.send_signal(number)

    for number in SIGNALS:  # before any is started: none may be left without this one
        signal.signal(number, pass_on)
    with _free_port() as port:
        for rank in range(count):
            processes.append(_start(rank, count, port, errors))
            for earlier in signals:  # came before this process
                processes[-1].send_signal(earlier)
    first = _first_end(processes)
    _end_others(processes)
    rank, code = first
    if rank and code > 0:
        errors[rank - 1].seek(0)
        talk(errors[rank - 1].read().decode(errors="replace").rstrip())
    if code < 0:
        name = signal.Signals(-code).name
        talk(
            f"process {rank} of {count} was ended by {name}; run the same command again to "
            "continue from the last checkpoint"
        )
    sys.stderr.flush()
    os._exit(STOPPED if code < 0 else code)


def _free_port() -> socket.socket:
    """Hold a port of this machine alone until the processes are started."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def _start(
    rank: int, count: int, port: socket.socket, errors: Sequence[IO[bytes]]
) -> subprocess.Popen[bytes]:
    """Start a process; what all but the first say is told only if they are the ones that fail."""
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port.getsockname()[1]),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    cores = int(os.environ.get("SLURM_CPUS_PER_TASK") or len(os.sched_getaffinity(0)))
    variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))
    words = [sys.executable, "-m", "sleeptools.cli", *sys.argv[1:]]
    return subprocess.Popen(
        words,
        env={**os.environ, **variables},
        stderr=errors[rank - 1] if rank else None,
        start_new_session=True,  # Ctrl-C comes once, from here; at a second one a process just ends
    )


def _first_end(processes: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait until one has failed, or all have ended well; give its rank and code."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        # a killed one is why the others failed
        if failed:
            return min(failed, key=lambda pair: (pair[1] > 0, pair[1] == STOPPED, pair[0]))
        if all(code == 0 for code in codes):
            return 0, 0
        time.sleep(LOOK)


def _end_others(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let all end: first by themselves, then by TERM, then by KILL."""
    for send in (None, signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if send is not None and process.poll() is None:
                process.send_signal(send)
        until = time.monotonic() + PATIENCE
        while any(p.poll() is None for p in processes) and time.monotonic() < until:
            time.sleep(LOOK)
