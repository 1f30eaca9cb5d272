"""How many CPU threads an op of the native core uses, per process and per calling thread."""

from __future__ import annotations

import os
import threading

from sleeptools.errors import UsageError
from sleeptools.native import loaded_core


def set_threads(count: int) -> None:
    """Set how many threads an op may use on the CPU.

    Parameters
    ----------
    count
        1 or more; 0 goes back to the setting of OpenMP, which `torch.set_num_threads` and
        `OMP_NUM_THREADS` share. An op too small to gain from threads uses one all the same.

    Raises
    ------
    UsageError
        For a negative count.
    """
    if count < 0:
        raise UsageError(f"{count} threads; expected 1 or more, or 0 for the default")
    core = loaded_core()
    core.threads = count
    if core.module:
        core.module.set_threads(count)


class _CallingThread(threading.local):
    """The number that the calling thread last gave `set_threads_here`."""

    threads = 0


CALLING_THREAD = _CallingThread()


def threads_in_use() -> int:
    """Tell what `set_threads_here` or else `set_threads` asks for; 0 for OpenMP's setting."""
    return CALLING_THREAD.threads or loaded_core().threads


def requested_threads(count: int | None) -> int:
    """Choose a number of threads: as asked, or from OMP_NUM_THREADS, or from Slurm.

    Parameters
    ----------
    count
        1 or more, or None.

    Returns
    -------
    int
        0 where nothing says how many.

    Raises
    ------
    UsageError
        If asked for fewer than one.
    """
    if count is not None and count < 1:
        raise UsageError(f"`threads={count}`: expected a whole number >= 1")
    settings = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))
    from_settings = next((int(text) for text in settings if text.isdigit() and int(text)), None)
    return count or from_settings or 0


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads_here(count: int) -> int:
    """Set the threads of ops that the calling thread runs, before what `set_threads` says.

    Parameters
    ----------
    count
        1 or more; 0 for what `set_threads` says.

    Returns
    -------
    int
        The number before.
    """
    before = CALLING_THREAD.threads
    CALLING_THREAD.threads = count
    core = loaded_core()
    if core.module:
        core.module.set_threads_here(count)
    return before


def threads_for(tasks: int, work: int) -> int:
    """Say how many threads an op will use on the CPU.

    Parameters
    ----------
    tasks
        Independent tasks.
    work
        Float operations of each.
    """
    module = loaded_core().module
    return int(module.threads(tasks, work)) if module else 1


def most_threads() -> int:
    """Say how many threads an op with enough to do will use on the CPU."""
    return threads_for(2**20, 2**20)
