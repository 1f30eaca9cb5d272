"""Plants faults in csrc/cuda, one at a time, and sees that the sweep fails.

A fault is a barrier, a wait for copies or a group of them left out, a bound that is not asked
for, a shuffle's mask with lanes missing, a loop or a rounded-up quotient that is one off, or a
minimum of which one side is taken. They are made from the sources mechanically, so that a new
kernel has its faults with it.

`PYTHONPATH=tests/helpers python -m cuda_emulator.faults` plants all of them, or those whose
identifier has one of the words given; what survives, and is not in survivors.toml with the reason
why it is no fault, makes it end with 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo  # the first call of an op loads it: once, not in every child
from torch import Tensor

import rotation
from cuda_emulator.building import HERE, INCLUDE, ROOT, Build, BuildError
from cuda_emulator.cases import DRAWN, Case
from cuda_emulator.core import load_core
from cuda_emulator.device import EmulatedDevice
from cuda_emulator.sweep import ORDERS, op_cases, problem

SOURCES = ROOT / "csrc" / "cuda"
SURVIVORS = HERE / "survivors.toml"
RANDOM = 25  # random sizes of each op
LONGEST = 120  # seconds of a CPU; a loop that does not end is a fault that was noticed

COMMENT = re.compile(r"//.*")
BARRIER = re.compile(r"(?:__sync(?:threads|warp)|cp_async_commit|cp_async_wait<\d>)\(\);")
MASK = re.compile(r"0xffffffffu")
COMPARISON = re.compile(r" (<|<=|>|>=|==|!=) ")
ROUNDED_UP = re.compile(r"\(([^()]+) \+ (?:(\w+) - 1\) / \2\b|1\) / 2\b)")
EXTREME = re.compile(r"\b(min|max)\(")
BEGINS = ("&&", "||", ";", "?", "{", "}", " = ", "return ", ",")
ENDS = ("&&", "||", ";", " ? ", ",", " : ")


@dataclass(frozen=True)
class Fault:
    """A change of one file: the characters from `start` to `end` become `text`."""

    file: str
    function: str
    kind: str
    code: str
    start: int
    end: int
    text: str
    number: int = 1  # of those that are alike

    @property
    def name(self) -> str:
        """Identify it wherever its function has moved in the file."""
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{self.file} {self.function}: {self.kind}: {self.code}{again}"

    def planted(self, source: str) -> str:
        """Give the file with the fault."""
        return source[: self.start] + self.text + source[self.end :]


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: how it was noticed, or nothing."""

    fault: Fault
    noticed: str
    seconds: float


def main() -> None:
    """Plant the faults that were asked for and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--sample", type=int, help="so many, others every day")
    options = parser.parse_args()
    words = options.words or [""]
    planned = [f for f in faults() if any(word in f.name for word in words)]
    if options.sample:
        planned = rotation.sample(planned, options.sample, "planted faults")
    begun = time.monotonic()
    outcomes = list(plant(planned, on_outcome=report))
    lines = verdict(outcomes)
    print("\n".join(lines))
    noticed = sum(bool(outcome.noticed) for outcome in outcomes)
    print(f"{noticed} of {len(outcomes)} noticed, {time.monotonic() - begun:.0f} s")
    sys.exit(bool(lines))


def report(outcome: Outcome) -> None:
    """Print a line for a fault."""
    noticed = outcome.noticed or "SURVIVED"
    print(f"{outcome.seconds:5.1f} s  {outcome.fault.name}: {noticed[:100]}", flush=True)


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Say what differs from survivors.toml."""
    known = survivors()
    lines = []
    for outcome in outcomes:
        name = outcome.fault.name
        if not outcome.noticed and name not in known:
            lines.append(f"survived: {name}")
        if outcome.noticed and name in known:
            lines.append(f"noticed, though {SURVIVORS.name} says it is no fault: {name}")
    return lines


def survivors() -> dict[str, str]:
    """Read why a planted change is no fault, by its name."""
    table = tomllib.loads(SURVIVORS.read_text()) if SURVIVORS.exists() else {}
    return {name: reason for reason, names in table.items() for name in names["faults"]}


# --- finding them ---------------------------------------------------------------------------------


def faults() -> list[Fault]:
    """Find all places of csrc/cuda where one can be planted."""
    planned = []
    for path in sorted(SOURCES.glob("*.cu*")):
        if not users(path.name):
            continue
        source = path.read_text()
        code = COMMENT.sub(lambda match: " " * len(match[0]), source)  # in the same places
        for find in (_barriers, _guards, _comparisons, _masks, _quotients, _extremes):
            planned += [
                Fault(
                    path.name,
                    _function(code, start),
                    kind,
                    _shown(source[start:end]),
                    start,
                    end,
                    text,
                )
                for kind, start, end, text in find(code)
            ]
    return list(_numbered(planned))


Places = Iterator[tuple[str, int, int, str]]


def _barriers(code: str) -> Places:
    for match in BARRIER.finditer(code):
        yield "left out", match.start(), match.end(), ""


def _guards(code: str) -> Places:
    """Find conditions of a return, continue or break, as a whole."""
    for start, end in _conditions(code):
        leaves = re.match(r"\s*(return|continue|break);", code[end + 1 :])
        if leaves:
            yield "never", start, end, "false"


def _conditions(code: str) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\bif \(", code):
        yield match.end(), _closing(code, match.end())


def _comparisons(code: str) -> Places:
    for match in COMPARISON.finditer(code):
        start, end = _operands(code, match.start(), match.end())
        left, right = code[start : match.start()].strip(), code[match.end() : end].strip()
        if _in_loop(code, start):
            yield from _loops(match[1], start, end, left, right)
        elif not (
            _whole_guard(code, start, end) or code[:start].rstrip().endswith("static_assert(")
        ):
            exits = code[:start].rstrip().endswith("||") or code[end:].lstrip().startswith("||")
            yield "not asked for", start, end, "false" if exits else "true"


def _loops(comparison: str, start: int, end: int, left: str, right: str) -> Places:
    if comparison == "<":
        yield "once more", start, end, f"{left} <= {right}"
        yield "once less", start, end, f"{left} < {right} - 1"
    if comparison == ">":
        yield "once less", start, end, f"{left} > {right} + 1"


def _operands(code: str, left: int, right: int) -> tuple[int, int]:
    """Find where the operands of a comparison begin and end."""
    depth, start = 0, left
    while start > 0:
        depth += (code[start - 1] in ")]") - (code[start - 1] in "([")
        if depth < 0 or (depth == 0 and code[:start].endswith(BEGINS)):
            break
        start -= 1
    depth, end = 0, right
    while end < len(code):
        depth += (code[end] in "([") - (code[end] in ")]")
        if depth < 0 or (depth == 0 and code[end:].startswith(ENDS)):
            break
        end += 1
    while code[start].isspace():
        start += 1
    return start, len(code[:end].rstrip())


def _in_loop(code: str, start: int) -> bool:
    """Whether a condition is that of a `for`."""
    before = code[max(0, start - 300) : start]
    opened = before.rfind("for (")
    if opened < 0:
        return False
    header = before[opened + 4 :]
    return header.count(";") == 1 and header.count("(") > header.count(")")


def _whole_guard(code: str, start: int, end: int) -> bool:
    return any(
        (start, end) == condition
        and re.match(r"\s*(return|continue|break);", code[condition[1] + 1 :])
        for condition in _conditions(code)
    )


def _masks(code: str) -> Places:
    for match in MASK.finditer(code):
        yield "without the last lane", match.start(), match.end(), "0x7fffffffu"
        yield "half", match.start(), match.end(), "0x0000ffffu"


def _quotients(code: str) -> Places:
    for match in ROUNDED_UP.finditer(code):
        yield "rounded down", match.start(), match.end(), f"({match[1]}) / {match[2] or 2}"


def _extremes(code: str) -> Places:
    for match in EXTREME.finditer(code):
        end = _closing(code, match.end())
        for side, text in zip(("first", "second"), _sides(code[match.end() : end]), strict=True):
            yield f"only the {side}", match.start(), end + 1, f"({text.strip()})"


def _sides(text: str) -> tuple[str, str]:
    depth = 0
    for i, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            return text[:i], text[i + 1 :]
    raise ValueError(text)


def _closing(code: str, start: int) -> int:
    depth = 1
    for i in range(start, len(code)):
        depth += (code[i] == "(") - (code[i] == ")")
        if depth == 0:
            return i
    raise ValueError("brackets without an end")


def _function(code: str, place: int) -> str:
    """Name the function, which begins at the margin, around a place."""
    heads = [
        m.start() for m in re.finditer(r"^(?!template|namespace|using|#)\w", code[:place], re.M)
    ]
    head = code[heads[-1] :] if heads else ""
    head = re.sub(r"__launch_bounds__\([^()]*\)", "", head)
    name = re.search(r"(\w+)\s*(?:\(|=|\[)", head)
    return name[1] if name else ""


def _shown(text: str) -> str:
    return " ".join(text.split())


def _numbered(planned: Sequence[Fault]) -> Iterator[Fault]:
    times: Counter[str] = Counter()
    for fault in planned:
        times[fault.name] += 1
        values = {**fault.__dict__, "number": times[fault.name]}
        yield Fault(**values)


# --- planting them --------------------------------------------------------------------------------


def users(file: str) -> list[str]:
    """List the ops whose kernels are in a file, or include it."""
    ops = []
    for op in DRAWN:
        name = op.replace("-", "_")
        waiting, known = [f"{name}.cu", f"{name}_backward.cu"], set()
        while waiting:
            name = waiting.pop()
            known.add(name)
            path = SOURCES / name
            if path.exists():
                waiting += [n for n in INCLUDE.findall(path.read_text()) if n not in known]
        if file in known:
            ops.append(op)
    return ops


def plant(
    planned: Sequence[Fault],
    *,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Plant faults one by one; several side by side, each in a process of its own."""
    for op in sorted({op for fault in planned for op in users(fault.file)}):
        if op not in _TASKS:
            _TASKS[op] = _with_results(op)
    Build().core()  # what no fault changes
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for outcome in pool.map(_try, planned):
            on_outcome(outcome)
            yield outcome


_TASKS: dict[
    str, list[tuple[Case, tuple[Tensor, ...]]]
] = {}  # of each op, in this process and its children


def _with_results(op: str) -> list[tuple[Case, tuple[Tensor, ...]]]:
    cases = sorted(op_cases(op, rotation.SEED, RANDOM), key=_size)
    return [(case, case.expected()) for case in cases]


def _size(case: Case) -> int:
    return sum(a.numel() for a in case.arguments if isinstance(a, Tensor))


def _try(fault: Fault) -> Outcome:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        csrc = Path(folder) / "csrc"
        shutil.copytree(ROOT / "csrc", csrc)
        path = csrc / "cuda" / fault.file
        path.write_text(fault.planted(path.read_text()))
        build = Build(csrc=csrc)
        try:
            core = build.core()
        except BuildError as error:
            noticed = "does not compile: " + str(error).split("error: ")[-1].split("\n")[0]
            return Outcome(fault, noticed, time.monotonic() - begun)
        finally:
            shutil.rmtree(build.sources)
    cases = [task for op in users(fault.file) for task in _TASKS[op]]
    cases.sort(key=lambda task: _size(task[0]))
    noticed = _in_a_child(lambda: _first_problem(core, cases))
    shutil.rmtree(core.parent)
    return Outcome(fault, noticed, time.monotonic() - begun)


def _first_problem(core: Path, cases: Sequence[tuple[Case, Tensor]]) -> str:
    torch.set_num_threads(1)
    device = EmulatedDevice(load_core(core))
    for number, (case, expected) in enumerate(cases):
        for order in ORDERS if number < len(cases) // 2 else ORDERS[number % 3 :][:1]:
            device.order(order, seed=number)
            text = problem(device, case, expected)
            if text:
                return text
    return ""


def _in_a_child(run: Callable[[], str]) -> str:
    """Run something in a copy of this process; a crash or no end is an answer, too."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 1))
        with os.fdopen(writer, "w") as pipe:
            pipe.write("ended: " + run())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text.startswith("ended: "):
        return text.removeprefix("ended: ")
    return (
        f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else text
    )


if __name__ == "__main__":
    main()
