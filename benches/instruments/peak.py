"""The ceiling: float operations a second from registers alone, measured in the same run.

peak.cpp is compiled for the machine that it runs on. `python benches/instruments/peak.py` prints
the figures.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "peak.cpp"
KINDS = {
    "fp32": "float32 FMA",
    "bf16": "bfloat16 dot product of AVX-512",
    "amx_bf16": "bfloat16 tiles of AMX",
}
COMPILER = "g++"


@functools.cache
def measure(threads: int) -> dict[str, float]:
    """Gigaflops of `threads` threads together, by the keys of `KINDS` that the CPU has.

    Empty where there is no compiler.
    """
    if not shutil.which(COMPILER):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "peak")
        flags = ["-O3", "-march=native", "-pthread"]
        subprocess.run([COMPILER, *flags, str(SOURCE), "-o", program], check=True)
        out = subprocess.run([program, str(threads)], check=True, capture_output=True, text=True)
    return {name: float(figure) for name, figure in map(str.split, out.stdout.splitlines())}


def describe(peaks: dict[int, dict[str, float]]) -> list[str]:
    """Sentences for the head of a table."""
    return [_sentence(threads, peak) for threads, peak in peaks.items()]


def _sentence(threads: int, peak: dict[str, float]) -> str:
    if not peak:
        return f"Peak on {threads} threads: not measured, there is no {COMPILER}."
    lacking = "".join(f", no {text}" for name, text in KINDS.items() if name not in peak)
    rates = ", ".join(f"{peak[name]:.0f} {text}" for name, text in KINDS.items() if name in peak)
    return f"Peak on {threads} thread{'s'[: threads - 1]}, GF/s: {rates}{lacking}."


def main() -> None:
    print("\n".join(describe({threads: measure(threads) for threads in (1, 2)})))


if __name__ == "__main__":
    main()
