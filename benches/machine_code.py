"""The machine code of the CUDA kernels: what a compiler makes of them, where no GPU can time them.

nvcc compiles csrc/cuda to cubins for each architecture that the core ships, and NVIDIA's nvdisasm
(of the wheel nvidia-cuda-nvdisasm) reads them. Of each kernel: registers, bytes that did not fit
into them (spills, stack), shared memory, the length of the hot loop, and how many there are of the
instructions that decide its speed: Tensor Core products (HMMA, HGMMA), scalar ones (FFMA), loads
from shared memory and copies into it (LDS, LDGSTS) by their width in bits, loads of whole matrices
(LDSM), and calls (64-bit divisions are such).

`python benches/machine_code.py` renews benches/results/machine_code.json and .md, `--check`
compares with them and ends with 1 where the code is worse, 3 where it cannot tell.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from instruments import provenance, timing
from sleeptools import store

HERE = Path(__file__).parent
SOURCES = HERE.parent / "csrc" / "cuda"
RESULT = HERE / "results" / "machine_code.json"
ARCHITECTURES = ("sm_80", "sm_90")
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG")  # as CMakeLists.txt has them
WHEEL = "nvidia-cuda-nvdisasm"
WORSE, UNKNOWN = 1, 3  # exit codes of --check

NONE_MORE = ("spills", "stack")  # bytes
HARDLY_MORE = ("registers", "shared", "instructions", "FFMA", "calls", "loop")
HARDLY = 1.05  # what they may rise to
PRODUCTS = ("HMMA", "HGMMA", "FFMA")

ENTRY = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers(.*?)$",
    re.DOTALL | re.MULTILINE,
)
INSTRUCTION = re.compile(  # that is not left out for good, @!PT
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?!@!PT)(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?);"
)
LABEL = re.compile(r"^(\.L_x_\d+):")
WIDE = re.compile(r"\.(64|128)\b")


class CannotTellError(Exception):
    """Nothing can be compiled or compared here; the text says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        sys.exit(check() if options.check else renew())
    except CannotTellError as error:
        print(f"machine code not compared: {error}")
        sys.exit(UNKNOWN)


def renew() -> int:
    report = {"made_by": made_by(), "commit": provenance.commit(), "kernels": measure()}
    store.write_json(RESULT, report)
    store.write_text(RESULT.with_suffix(".md"), markdown(report))
    print(markdown(report))
    return 0


def check() -> int:
    stored, here = json.loads(RESULT.read_text()), made_by()
    different = [
        f"{k} {v!r} then, {here[k]!r} now" for k, v in stored["made_by"].items() if here[k] != v
    ]
    if different:
        raise CannotTellError(f"the stored one is of {'; '.join(different)}")
    lines = compare(measure(), stored["kernels"])
    print("\n".join(lines) or "no kernel has become worse")
    return WORSE if lines else 0


def compare(now: dict[str, dict[str, int]], then: dict[str, dict[str, int]]) -> list[str]:
    """One line for each kernel that is new or gone, and for each number that is worse."""
    renew_it = "if that is right, renew it: python benches/machine_code.py"
    lines = [f"{kernel}: not in {RESULT.name}; {renew_it}" for kernel in now if kernel not in then]
    lines += [f"{kernel}: stored, but no longer there; {renew_it}" for kernel in then.keys() - now]
    for kernel in now.keys() & then.keys():
        for name in sorted(now[kernel].keys() | then[kernel].keys()):
            new, old = now[kernel].get(name, 0), then[kernel].get(name, 0)
            if is_worse(name, new, old):
                lines.append(f"{kernel}: {name} {new:,}, {old:,} before; {renew_it}")
    return sorted(lines)


def is_worse(name: str, new: int, old: int) -> bool:
    """Whether a number tells of slower code; Tensor Core products and wide loads may not go."""
    if name in NONE_MORE:
        return new > old
    if name in HARDLY_MORE:
        return new > HARDLY * old
    if name in {"HMMA", "HGMMA"} or name.endswith((" 64", " 128")):
        return new < old
    return new > HARDLY * old  # narrow loads


def made_by() -> dict[str, str]:
    """List what else decides the code; only the same may be compared."""
    nvcc = shutil.which("nvcc")
    if not nvcc:
        raise CannotTellError("nvcc is not installed")
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return {"nvcc": re.findall(r"V([\d.]+)", text)[0]}


def disassembler() -> str:
    """Find nvdisasm: of the wheel, or of a toolkit that has it.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    programs = [str(f.locate()) for f in files if f.name == "nvdisasm"]
    program = next(iter(programs), None) or shutil.which("nvdisasm")
    if not program:
        raise FileNotFoundError(f"nvdisasm is missing: pip install {WHEEL}")
    return program


def measure() -> dict[str, dict[str, int]]:
    """Compile every kernel for every architecture and count."""
    tasks = [(path, name) for path in sorted(SOURCES.glob("*.cu")) for name in ARCHITECTURES]
    with ThreadPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as folder:
        counts = pool.map(lambda task: dict(kernels(*task, Path(folder))), tasks)
        return {kernel: numbers for table in counts for kernel, numbers in table.items()}


def kernels(source: Path, architecture: str, folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Give "ARCHITECTURE FILE KERNEL" and the numbers of each kernel of a file."""
    cubin = folder / f"{source.stem}.{architecture}.cubin"
    command = ["nvcc", *FLAGS, f"-arch={architecture}", "-cubin", "--resource-usage", str(source)]
    defined = '-DSLEEPTOOLS_CUDA_ARCHITECTURES=""'
    compiled = subprocess.run(
        [*command, defined, "-o", str(cubin)], capture_output=True, text=True, check=False
    )
    if compiled.returncode:
        raise RuntimeError(compiled.stderr)
    usage = resources(compiled.stderr)
    if not usage:
        return
    done = subprocess.run(
        [disassembler(), "-c", str(cubin)], capture_output=True, text=True, check=True
    )
    for symbol, lines in functions(done.stdout):
        if symbol in usage:
            yield f"{architecture} {source.stem} {short(symbol)}", usage[symbol] | count(lines)


def resources(text: str) -> dict[str, dict[str, int]]:
    """Read what ptxas says of each kernel."""
    numbers = {}
    for symbol, stack, stores, loads, registers, others in ENTRY.findall(text):
        shared = re.search(r"(\d+) bytes smem", others)
        numbers[symbol] = {
            "registers": int(registers),
            "spills": int(stores) + int(loads),
            "stack": int(stack),
            "shared": int(shared[1]) if shared else 0,
        }
    return numbers


def functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give the name and the lines of each section of code in what nvdisasm prints."""
    for section in re.split(r"^//-+ \.text\.", text, flags=re.MULTILINE)[1:]:
        lines = section.splitlines()
        yield lines[0].split()[0], lines[1:]


def count(lines: list[str]) -> dict[str, int]:
    """Count the instructions of a kernel by kind."""
    code, labels = [], {}
    for line in lines:
        label = LABEL.match(line)
        if label:
            labels[label[1]] = len(code)
        instruction = INSTRUCTION.match(line)
        if instruction:
            code.append((instruction[1], instruction[2]))
    numbers = Counter(kind for name, _ in code for kind in kinds(name))
    numbers["instructions"] = sum(name != "NOP" for name, _ in code)
    numbers["loop"] = hot_loop(code, labels)
    return dict(numbers)


def kinds(name: str) -> Iterator[str]:
    first = name.partition(".")[0]
    if first in {*PRODUCTS, "LDSM"}:
        yield first
    elif first in {"LDS", "LDGSTS"}:
        wide = WIDE.search(name)
        yield f"{first} {wide[1] if wide else 32}"
    elif first == "CALL":
        yield "calls"


def hot_loop(code: list[tuple[str, str]], labels: dict[str, int]) -> int:
    """Count the instructions of the innermost loop with the most products; 0 without a loop."""
    loops = []
    for end, (name, operands) in enumerate(code):
        target = re.search(r"`\((\.L_x_\d+)\)", operands)
        if name.startswith("BRA") and target and labels.get(target[1], end + 1) <= end:
            loops.append((labels[target[1]], end))
    loops = [loop for loop in loops if loop[0] < loop[1]]  # the last line of all is a loop of one
    inner = [
        (start, end)
        for start, end in loops
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b in loops)
    ]
    products = {
        (start, end): sum(name.startswith(PRODUCTS) for name, _ in code[start : end + 1])
        for start, end in inner
    }
    if not products:
        return 0
    start, end = max(products, key=lambda loop: (products[loop], loop))
    return end - start + 1


def short(symbol: str) -> str:
    """Name a kernel as the source does."""
    done = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True)
    name = re.sub(r"\(.*", "", done.stdout.strip().replace("(anonymous namespace)::", ""))
    return name.rpartition("::")[2].removeprefix("void ")


def markdown(report: dict[str, Any]) -> str:
    columns = sorted({name for numbers in report["kernels"].values() for name in numbers})
    first = ["registers", "spills", "stack", "shared", "instructions", "loop"]
    columns = first + [name for name in columns if name not in first]
    rows = [
        [*kernel.split(" ", 2), *(f"{numbers.get(name, 0):,}" for name in columns)]
        for kernel, numbers in report["kernels"].items()
    ]
    lines = [
        "# Machine code of the CUDA kernels",
        "",
        f"nvcc {report['made_by']['nvcc']}, {report['commit']}; nothing here was run. Registers of "
        "a thread; bytes spilled, of stack and of shared memory; instructions of the kernel and of "
        "its hot loop (the innermost with the most products); then counts of instructions. "
        "`tests/native/test_machine_code.py` fails where one becomes worse.",
        "",
        *timing.table(["architecture", "op", "kernel", *columns], rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
