"""Instruction counts of the ops and of the command line's start-up: what no noise can hide.

Valgrind's callgrind counts what a call executes, so a slower kernel shows on a busy machine as on a
quiet one. An op's count is what the native core and the C libraries execute for one call at batch
1; Python is left out. Valgrind has no AVX-512, so the variants are baseline and avx2. Start-up is
counted whole. `python benches/instructions.py` renews benches/results/instructions.json and .md,
`--check` compares with them and ends with 1 where a count has risen, 3 where it cannot tell.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from instruments import provenance, timing
from sleeptools import native, store

HERE = Path(__file__).parent
RESULT = HERE / "results" / "instructions.json"
LIMITS = {"ops": 1.05, "start-up": 1.10}  # what a count may rise to
RISEN, UNKNOWN = 1, 3  # exit codes of --check
COMMANDS = {
    "sleeptools --help": ["-m", "sleeptools.cli", "--help"],
    "sleeptools list models": ["-m", "sleeptools.cli", "list", "models"],
    "python -c 'import sleeptools.inference.engine'": ["-c", "import sleeptools.inference.engine"],
}
# libraries whose own start-up is in the counts
LIBRARIES = ("numpy", "typer", "rich", "pydantic")
OWN = re.compile(r"_core\.|libm\.|libc\.|libgomp")  # objects that an op's work is in


class CannotTellError(Exception):
    """Nothing can be counted or compared here; the text says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", choices=tuple(LIMITS))
    options = parser.parse_args()
    parts = [options.only] if options.only else list(LIMITS)
    try:
        sys.exit(check(parts) if options.check else renew(parts))
    except CannotTellError as error:
        print(f"instruction counts not compared: {error}")
        sys.exit(UNKNOWN)


def renew(parts: list[str]) -> int:
    report = {"made_by": made_by(), "commit": provenance.commit()}
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    counts = {p: old.get("counts", {}).get(p, {}) for p in LIMITS} | count(parts)
    store.write_json(RESULT, report | {"counts": counts})
    store.write_text(RESULT.with_suffix(".md"), markdown(report | {"counts": counts}))
    print(markdown(report | {"counts": counts}))
    return 0


def check(parts: list[str]) -> int:
    stored = json.loads(RESULT.read_text())
    here = made_by()
    different = [
        f"{k} {v!r} then, {here[k]!r} now" for k, v in stored["made_by"].items() if here[k] != v
    ]
    if different:
        raise CannotTellError(f"the stored ones are of {'; '.join(different)}")
    found = count(parts)
    lines = [line for p in parts for line in compare(found[p], stored["counts"][p], LIMITS[p])]
    print("\n".join(lines) or "no count has risen")
    return RISEN if lines else 0


def compare(found: dict[str, int], stored: dict[str, int], limit: float) -> list[str]:
    """One line for each count that has risen, is gone or is new."""
    renew = "if that is right, renew it: python benches/instructions.py"
    lines = [f"{name}: not in {RESULT.name}; {renew}" for name in found if name not in stored]
    lines += [f"{name}: stored, but no longer counted; {renew}" for name in stored.keys() - found]
    for name in found.keys() & stored.keys():
        now, then = found[name], stored[name]
        if now > limit * then:
            lines.append(
                f"{name}: {now:,} instructions, {now / then - 1:+.1%} on {then:,}; {renew}"
            )
    return sorted(lines)


def made_by() -> dict[str, str]:
    """List what else decides the counts; only the same may be compared."""
    return {
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "compiler": compiler(),
        "valgrind": valgrind(),
        **{name: provenance.version(name) for name in LIBRARIES},
    }


def compiler() -> str:
    """Name the compiler that built the native core, as it signed the file."""
    if not native.available():
        raise CannotTellError(native.describe())
    core = importlib.util.find_spec("sleeptools._core")

    signature = re.search(rb"(?:GCC: |clang version )[ -~]+", Path(core.origin).read_bytes())
    return signature[0].decode() if signature else "unknown"


def valgrind() -> str:
    if not shutil.which("valgrind"):
        raise CannotTellError("valgrind is not installed")
    out = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return out.stdout.strip()


def count(parts: list[str]) -> dict[str, dict[str, int]]:
    makers = {"ops": count_ops, "start-up": count_start_up}
    with tempfile.TemporaryDirectory() as folder:
        return {part: makers[part](Path(folder)) for part in parts}


def count_ops(folder: Path) -> dict[str, int]:
    """Instructions of one call by op and variant."""
    marks = folder / "marks.so"
    source = str(HERE / "instruments" / "marks.c")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", str(marks)], check=True)
    out = folder / "ops"
    environment = provenance.environment(folder / "python")
    callgrind(
        [str(HERE / "instruments" / "counted.py"), str(marks)],
        out,
        environment,
        "--instr-atstart=no",
    )
    texts = [path.read_text() for path in sorted(folder.glob("ops.*"))]
    named = [(re.search(r"^desc: Trigger: Client Request: (.*)$", t, re.M), t) for t in texts]
    counts = {found[1]: own(by_object(text)) for found, text in named if found}
    return dict(sorted(counts.items()))


def count_start_up(folder: Path) -> dict[str, int]:
    """Instructions of a whole process; its modules are compiled beforehand."""
    found = {}
    environment = provenance.environment(folder / "python")
    for name, arguments in COMMANDS.items():
        out = folder / "start-up"
        command = [sys.executable, *arguments]
        subprocess.run(command, env=environment, capture_output=True, check=True)
        callgrind(arguments, out, environment)
        found[name] = sum(by_object(out.read_text()).values())
    return found


def callgrind(arguments: list[str], out: Path, environment: dict[str, str], *options: str) -> None:
    plain = [f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no"]
    command = ["valgrind", "--tool=callgrind", *plain, *options, sys.executable, *arguments]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS")}
    fixed = environment | one_thread | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=fixed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"callgrind failed:\n{done.stderr[-2000:]}")


def by_object(text: str) -> Counter[str]:
    """Instructions by the file that they are in, from callgrind's output without compression."""
    found: Counter[str] = Counter()
    at, called = "", False
    for line in text.splitlines():
        if line.startswith("ob="):
            at = line[3:]
        elif line.startswith("calls="):
            called = True  # the next line has what the callee took, which is counted there
        elif line[:1].isdigit():
            if not called:
                found[at] += int(line.split()[-1])
            called = False
    return found


def own(found: Counter[str]) -> int:
    return sum(n for name, n in found.items() if OWN.match(Path(name).name))


def markdown(report: dict[str, Any]) -> str:
    made = ", ".join(f"{name} {text}" for name, text in report["made_by"].items())
    rows = [
        [part, name, f"{count:,}", f"{LIMITS[part] - 1:.0%}"]
        for part, counts in report["counts"].items()
        for name, count in counts.items()
    ]
    lines = [
        "# Instructions, counted by callgrind",
        "",
        f"{made}; {report['commit']}. An op: one call at batch 1, without Python. Start-up: the "
        "whole process. `tests/test_instructions.py` fails where a count rises by more than the "
        "limit.",
        "",
        *timing.table(["", "", "instructions", "limit"], rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
