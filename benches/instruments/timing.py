"""Times contenders in turn in one process: the machine's drift and noise meet all of them alike.

In each turn every contender runs once untimed, which wakes its threads, and then for a moment; the
order changes from turn to turn. Before each, the harness waits until no thread of the process is
busy: OpenMP and ONNX Runtime let their threads spin for a while after the work, on the core that
the next contender needs. A contender's cores are its CPU time per wall time, so that a library that
does not obey its number of threads shows.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

MOMENT = 0.03  # s that a contender is timed in a turn, at least one call
SPIN_LIMIT = 20.0  # s of spinning that no library means; a busy machine stretches it
TASKS = Path("/proc/self/task")


class AbsentError(Exception):
    """A contender that cannot run here; the text is shown in its place."""


class Ready(NamedTuple):
    """A contender that is prepared for a case: what is timed, and the logits in its result."""

    run: Callable[[], Any]
    logits: Callable[[Any], Values] = np.asarray


class Contender(NamedTuple):
    """Someone in the race.

    Parameters
    ----------
    name, precision
        As in the table; precision "fp32" or "bf16".
    make
        Prepares it for a case. Raises ImportError or `AbsentError` where it cannot run.
    """

    name: str
    precision: str
    make: Callable[..., Ready]


class Taken(NamedTuple):
    """Seconds of one call in each turn, and the mean number of busy cores."""

    seconds: list[float]
    cores: float

    @property
    def median(self) -> float:
        """Of the turns."""
        return statistics.median(self.seconds)

    def share(self, flops: float, peak: Mapping[str, float], precision: str) -> float | None:
        """How much of the ceiling, in gigaflops by precision, a call of `flops` operations has."""
        return flops / self.median / 1e9 / peak[precision] if precision in peak else None


def prepare(contenders: list[Contender], *case: Any) -> tuple[dict[int, Ready], dict[int, str]]:
    """Make the contenders ready: those that run and why the others do not, by their place."""
    ready: dict[int, Ready] = {}
    absent: dict[int, str] = {}
    for index, contender in enumerate(contenders):
        try:
            ready[index] = contender.make(*case)
        except ImportError as error:
            absent[index] = f"not installed ({error.name})"
        except AbsentError as error:
            absent[index] = str(error)
    return ready, absent


def in_turn(ready: Mapping[int, Ready], turns: int) -> dict[int, Taken]:
    """Time all contenders, in turn."""
    seconds: dict[int, list[float]] = {index: [] for index in ready}
    busy = dict.fromkeys(ready, 0.0)
    total = dict.fromkeys(ready, 0.0)
    for index, result, cpu in _turns(ready, turns):
        seconds[index].append(statistics.median(result))
        busy[index] += cpu
        total[index] += sum(result)
    return {p: Taken(seconds[p], busy[p] / total[p]) for p in ready}


def _turns(ready: Mapping[int, Ready], turns: int) -> Iterator[tuple[int, list[float], float]]:
    order = random.Random(0)
    home = os.sched_getaffinity(0)
    for turn in range(turns + 1):
        for index in order.sample(sorted(ready), len(ready)):
            settle()
            result, cpu = _moment(ready[index].run)
            assert os.sched_getaffinity(0) == home, "a contender pinned the main thread"
            if turn:  # the first warms up
                yield index, result, cpu


def _moment(run: Callable[[], Any]) -> tuple[list[float], float]:
    """Seconds of each call, and the CPU time of all of them."""
    run()
    seconds_taken: list[float] = []
    began = time.process_time()
    while sum(seconds_taken) < MOMENT:
        begun = time.perf_counter()
        run()
        seconds_taken.append(time.perf_counter() - begun)
    return seconds_taken, time.process_time() - began


def settle() -> None:
    """Wait until no other thread of this process runs or wants to.

    Raises
    ------
    RuntimeError
        If one does so for ever.
    """
    begun = time.perf_counter()
    while running_threads() > 1:
        if time.perf_counter() - begun > SPIN_LIMIT:
            raise RuntimeError("a library's threads spin for ever; is OMP_WAIT_POLICY set?")
        time.sleep(0.001)


def running_threads() -> int:
    """Count this process's threads in state R, which a busy machine does not change."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in TASKS.glob("*/stat")]
    return states.count("R")


def ratio(measured: Taken, against: Taken) -> float:
    """How many times faster than `against`: the median of the turns' ratios."""
    pairs = zip(against.seconds, measured.seconds, strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def times(measured: Taken, against: Taken, epochs: int) -> dict[str, float]:
    """Sum up a contender's times; `epochs` are done in a call."""
    low, _, high = statistics.quantiles(measured.seconds, n=4, method="inclusive")
    return {
        "ms": 1e3 * measured.median,
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "epochs_per_second": epochs / measured.median,
        "times_eager": ratio(measured, against),
        "cores": measured.cores,
    }


TIMES = ["ms", "quartiles", "epochs/s", "times eager", "cores"]


def time_cells(row: Mapping[str, float]) -> list[str]:
    """Write the same as cells of a table, under `TIMES`."""
    return [
        f"{row['ms']:.3g}",
        f"{row['low_ms']:.3g} to {row['high_ms']:.3g}",
        f"{row['epochs_per_second']:.0f}",
        f"{row['times_eager']:.2f}",
        f"{row['cores']:.2f}",
    ]


def percent(piece: float | None) -> str:
    return "-" if piece is None else f"{piece:.0%}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
