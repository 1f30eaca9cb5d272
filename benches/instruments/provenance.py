"""Provenance of a result: machine, libraries and commit with which it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

HELD_OUT_SEED = 7
"""Seed of simulated nights; the simulator was tuned on seeds 0, 100 and 303."""

# what decides how fast a matrix product can be; OpenVINO and oneDNN use AMX where it is
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")


def machine(*libraries: str) -> str:
    """Processor architecture, cores, Python, and the versions of some libraries."""
    versions = [f"{name} {version(name)}" for name in libraries]
    cores = f"{os.cpu_count()} cores"
    return ", ".join([platform.machine(), cores, f"Python {platform.python_version()}", *versions])


def version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Commit that was measured, with "-dirty" if files were changed since."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    """Environment of a timed or counted process: nothing but what it needs.

    Compiled Python is kept in `folder`, whatever the caller's settings; the first run fills it.
    """
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return variables | {"PYTHONPYCACHEPREFIX": str(folder), "COLUMNS": "100"}


def facts(*libraries: str) -> dict[str, object]:
    """List what a reader needs to judge a time."""
    from sleeptools import native

    cpu = _cpu()
    flags = cpu.get("flags", "").split()
    return {
        "commit": commit(),
        "architecture": platform.machine(),
        "cpu": cpu.get("model name", "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "variant": native.variants()[-1],
        "load": round(os.getloadavg()[0], 2),
        "niceness": os.nice(0),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def describe(facts: dict) -> str:
    """One paragraph for the head of a table."""
    lacking = "".join(f", no {name}" for name in INSTRUCTIONS if name not in facts["instructions"])
    versions = ", ".join(f"{name} {text}" for name, text in facts["libraries"].items())
    return (
        f"{facts['cpu']}, {facts['architecture']}, {facts['cores']} cores, "
        f"{' '.join(facts['instructions'])}{lacking}; native variant {facts['variant']}; "
        f"Python {facts['python']}, {versions}; load {facts['load']} at the start, "
        f"niceness {facts['niceness']}; {facts['commit']}."
    )


def _cpu() -> dict[str, str]:
    """First processor of /proc/cpuinfo; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
