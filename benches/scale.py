"""What the whole chain takes of a data set's size: time and memory at 4, 20 and 78 subjects.

Every command is the real one, a process of its own with one thread, on fast simulated nights in the
form of Sleep-Cassette, two a subject and 22 h each; 78 subjects are 161 thousand epochs in the set
(Sleep-EDF-78, whose people lie in bed for longer, has 195 thousand). Processor time is that of all
its processes, which a busy machine hardly changes; memory is the most that all of them hold at
once, without files that are mapped, looked at 20 times a second. Growth compares what a further
subject costs in the larger step of sizes with what it costs in the smaller one: 1 is linear,
whatever a command takes to begin. Where the smaller step costs less than five seconds, it is
not said.

`python benches/scale.py` writes benches/results/scale.json and .md; it needs 20 GB of disk in
TMPDIR, which it leaves empty, and ten to thirty minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instruments import provenance, timing
from sleeptools import store

RESULTS = Path(__file__).parent / "results"
SIZES = (4, 20, 78)
LOOK = 0.05  # s
LINEAR = 0.15  # growth may be so far from 1
JOBS_AT = 1  # the size, of SIZES, that is preprocessed by one process and by two
LEAST = 5.0  # s; what a step of sizes must cost to be compared
CHAIN = {
    "simulate": "simulate sleep-edf raw --subjects {subjects} --nights 2 --fast",
    "preprocess": "preprocess sleep-edf raw epochs",
    "train": "train epochs run --model ulw-sleepnet --folds 2 --fold 0 --passes 1 --no-explain",
    "evaluate": "evaluate run --partial",
    "report": "report run --partial --out report.html",
}
WORKERS = "preprocess sleep-edf raw epochs-{jobs} --jobs {jobs}"


def held(process: int) -> int:
    """Memory of a process and those that it started, without mapped files, KiB."""
    total = 0
    try:
        folder = Path("/proc", str(process))
        for line in (folder / "status").read_text().splitlines():
            if line.startswith(("RssAnon", "RssShmem")):
                total += int(line.split()[1])
        for thread in (folder / "task").iterdir():
            total += sum(held(int(child)) for child in (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        pass
    return total


def measure(command: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a command in a folder: wall and processor time, s, and memory, MiB."""
    words = [sys.executable, "-m", "sleeptools.cli", *command.split()]
    begun, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            most = max(most, held(process.pid))
            time.sleep(LOOK)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command}: {process.returncode}: {said.read().decode()}")
    return {
        "wall": round(time.perf_counter() - begun, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "memory": round(most / 1024),
    }


def chain(
    folder: Path, subjects: int, environment: dict[str, str], more: str = ""
) -> dict[str, Any]:
    """Run every command of the chain once; `more` options go to the simulation."""
    rows = {}
    for name, command in CHAIN.items():
        words = command.format(subjects=subjects) + (more if name == "simulate" else "")
        rows[name] = measure(words, folder, environment)
        print(f"{subjects} subjects, {name}: {rows[name]}", flush=True)
    epochs = store.read_json(folder / "epochs/manifest.json")["epochs"]
    return {"subjects": subjects, "epochs": epochs, "commands": rows}


def growth(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Divide what a further unit costs in the last step of sizes by what it costs in the first."""
    first, last = (
        (values[i + 1] - values[i]) / (sizes[i + 1] - sizes[i]) for i in (0, len(sizes) - 2)
    )
    return last / first


def workers(folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Preprocess the same recordings by one process and by two."""
    return [
        {"jobs": jobs, **measure(WORKERS.format(jobs=jobs), folder, environment)} for jobs in (1, 2)
    ]


def at_size(
    subjects: int, cache: Path, what: Callable[[Path, dict[str, str]], Any], more: str = ""
) -> tuple[dict[str, Any], Any]:
    """Run the chain, and something after it, in a folder that is removed."""
    environment = provenance.environment(cache) | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        return chain(Path(folder), subjects, environment, more), what(Path(folder), environment)


def markdown(report: dict[str, Any]) -> str:
    sizes = [size["subjects"] for size in report["sizes"]]
    rows = []
    for name in CHAIN:
        found = [size["commands"][name] for size in report["sizes"]]
        cpu = [one["cpu"] for one in found]
        each = (cpu[-1] - cpu[-2]) / (sizes[-1] - sizes[-2])
        rows.append(
            [
                name,
                *(f"{seconds:.1f}" for seconds in cpu),
                f"{each:.2f}",
                f"{growth(sizes, cpu):.2f}" if cpu[1] - cpu[0] > LEAST else "-",
                *(str(one["memory"]) for one in found),
            ]
        )
    head = ["command", *map(str, sizes), "a subject", "growth", *(f"{n} " for n in sizes)]
    jobs = [
        [str(r["jobs"]), f"{r['wall']:.1f}", f"{r['cpu']:.1f}", str(r["memory"])]
        for r in report["workers"]
    ]
    texts = [f"{s['subjects']} ({s['epochs']:,} epochs)" for s in report["sizes"]]
    return "\n".join(
        [
            "# The whole chain at three sizes",
            "",
            provenance.describe(report),
            "",
            f"{', '.join(texts)} subjects, two fast simulated nights of 22 h each; "
            "`python benches/scale.py`. The first three columns are processor time, s, on one "
            "thread; `a subject` what one more costs, s; `growth` what it costs in the larger step "
            f"over what it costs in the smaller, 1 is linear, within {LINEAR:g}, and not said "
            f"where the smaller step costs less than {LEAST:g} s. The last three are the most "
            "memory that the command's processes hold at once, MiB, without mapped files.",
            "",
            *timing.table(head, rows),
            "",
            "Commands: " + "; ".join(f"`{command}`" for command in CHAIN.values()) + ".",
            "",
            f"`{WORKERS.format(jobs='N')}` of {sizes[JOBS_AT]} subjects:",
            "",
            *timing.table(["jobs", "wall, s", "processor, s", "memory, MiB"], jobs),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--hours", type=float, help="length of a night; left out, about 22")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    facts = provenance.facts("torch", "numpy", "polars", "scipy")
    more = f" --hours {options.hours}" if options.hours else ""
    with tempfile.TemporaryDirectory() as cache:
        at_size(min(options.sizes), Path(cache), lambda *_: None, " --hours 0.5")  # fills caches
        sizes, scaling = [], []
        for place, subjects in enumerate(options.sizes):
            what = workers if place == JOBS_AT else lambda *_: []
            size, jobs = at_size(subjects, Path(cache), what, more)
            sizes.append(size)
            scaling += jobs
    report = {**facts, "sizes": sizes, "workers": scaling}
    print(markdown(report))
    if str(options.out) != "-":
        (options.out / "scale.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "scale.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
