"""Runs every CUDA op on the emulated device, through the path that PyTorch takes on a real one.

`PYTHONPATH=tests/helpers python -m cuda_emulator.sweep` runs the examples and random sizes in three
orders of the threads and ends with 1 where a result or an access was wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.testing import assert_close

import rotation
from cuda_emulator.building import CHECKED, Build, sanitizer_environment
from cuda_emulator.cases import DRAWN, Case, examples, random_cases
from cuda_emulator.core import load_core
from cuda_emulator.device import CUDA, STREAM, EmulatedDevice, FaultError
from cuda_emulator.gradient_cases import gradient_examples, random_gradients

ORDERS = ("forwards", "backwards", "random")
LARGE = 50_000  # numbers in the tensors of a case that runs in one order only


@dataclass(frozen=True)
class Failure:
    """A case that went wrong, and how."""

    case: str
    order: str
    text: str

    def __str__(self) -> str:
        """Give it in one paragraph."""
        return f"{self.case}, threads {self.order}: {self.text}"


def main() -> None:
    """Read the options, build, run, and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--op", action="append", help="only this one; may be given several times")
    parser.add_argument("--checked", choices=tuple(CHECKED), default="access")
    parser.add_argument("--random", type=int, default=25, help="random sizes of each op")
    parser.add_argument("--orders", type=int, default=len(ORDERS), help="that each case runs in")
    parser.add_argument("--seed", default=rotation.SEED)
    options = parser.parse_args()
    if options.checked == "sanitize":
        preload_sanitizers()
    begun = time.monotonic()
    path = Build(options.checked).core()
    print(f"built in {time.monotonic() - begun:.1f} s", flush=True)
    library = load_core(path)
    failures = 0
    for op in options.op or DRAWN:
        begun = time.process_time()
        cases = list(op_cases(op, options.seed, options.random))
        results = run_cases(library, cases, orders=options.orders, seed=options.seed)
        for failure in results:
            failures += 1
            print(located(str(failure), path), flush=True)
        print(f"{op}: {len(cases)} cases, {time.process_time() - begun:.1f} s", flush=True)
    print(f"{failures} failed; seed {options.seed}")
    sys.exit(failures > 0)


def preload_sanitizers() -> None:
    """Start this process again with the sanitizers' libraries."""
    if "LD_PRELOAD" not in os.environ:
        command = [sys.executable, "-m", "cuda_emulator.sweep", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | sanitizer_environment())


def op_cases(op: str, seed: object, count: int) -> Iterator[Case]:
    """Give the examples of an op and of its gradients, then random sizes."""
    drawn = random_cases(op, seed, count), random_gradients(op, seed, count // 3)
    return chain(examples(op), gradient_examples(op), *drawn)


def run_cases(
    library: ctypes.CDLL, cases: Sequence[Case], *, orders: int, seed: object
) -> Iterator[Failure]:
    """Run cases, each in so many orders of the threads; large ones in one, in turn.

    Yields
    ------
    Failure
        For every case and order that went wrong.
    """
    torch.set_num_threads(1)
    device = EmulatedDevice(library)
    for i, case in enumerate(cases):
        expected = case.expected()
        size = sum(a.numel() for a in case.arguments if isinstance(a, Tensor))
        count = orders if size < LARGE else 1
        for turn in range(count):
            order = ORDERS[(i + turn) % len(ORDERS)]
            device.order(order, seed=hash_of(seed, i))
            text = problem(device, case, expected)
            if text:
                yield Failure(str(case), order, text)
                break


def hash_of(seed: object, number: int) -> int:
    """Make a number of 32 bits, the same in every process."""
    return zlib.crc32(f"{seed} {number}".encode())


def problem(device: EmulatedDevice, case: Case, expected: Sequence[Tensor]) -> str:
    """Say what is wrong with a case on the device; empty if nothing."""
    try:
        with device.running():
            moved = [a.to(CUDA) if isinstance(a, Tensor) else a for a in case.arguments]
            results = case.run(moved)
            elsewhere = [result.device for result in results if result.device != CUDA]
            if elsewhere:
                return f"the result is on {elsewhere[0]}"
            results = tuple(result.cpu() for result in results)
        launches = device.launches()
        if case.arguments[0].numel() and not launches:
            return "no kernel was launched"
        if any(launch.stream != STREAM for launch in launches):
            return f"launched on another stream: {launches}"
        for result, wanted in zip(results, expected, strict=True):
            assert_close(result, wanted, equal_nan=True, **case.bounds(wanted))
    except (FaultError, RuntimeError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def located(text: str, core: Path) -> str:
    """Put a file and a line in the place of every address of the core, `+0x...`."""

    def line(match: re.Match[str]) -> str:
        address = hex(int(match[1], 16) - 1)  # of the call, not of what follows it
        command = ["addr2line", "-e", str(core), address]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return match[0]
        return done.stdout.split(" ")[0].strip()

    return re.sub(r"\+0x([0-9a-f]+)", line, text)


if __name__ == "__main__":
    main()
