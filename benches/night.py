"""Time a night from its EDF to a hypnogram, as whole processes: our models against YASA.

A simulated night of 8 h in Sleep-EDF's layout, a model with random weights (the time does not
depend on them), and processes that start anew each time, in turn; the file is in the page cache.
YASA 0.8.1 has an environment of its own, because of its pins: `make bench` makes it, VENV-bench.
`python benches/night.py` writes benches/results/night.json and .md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from instruments import material, provenance, timing
from sleeptools import store
from sleeptools.commands.simulate import simulate
from sleeptools.models.folder import save_model

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TURNS = 5
TARGETS = {"fp32": 1.3, "bf16": 1.0}  # s, of MMASleepNet
OTHER = "attnsleep"  # a model that is computed in fp32
YASA_SHARE = 0.25  # largest share of YASA's time that we may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yasa", type=Path, default=HERE.parent / ".venv-bench/bin/python")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    facts = provenance.facts("numpy")
    with tempfile.TemporaryDirectory() as folder:
        runners = commands(Path(folder), options)
        rows = race(runners, options.turns, Path(folder))
        epochs = {n: count(Path(folder) / n) for n, r in rows.items() if "seconds" in r}
    assert len(set(epochs.values())) == 1, f"the hypnograms differ in length: {epochs}"
    report = {"hours": options.hours, "epochs": epochs, **facts, "rows": rows}
    store.write_json(options.out / "night.json", report)
    store.write_text(options.out / "night.md", markdown(report))
    print(markdown(report))


def commands(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Make the night and the model; the command lines by the contenders' names."""
    simulate("sleep-edf", folder / "raw", subjects=1, hours=options.hours, seed=material.SEED)
    psg = next(str(path) for path in (folder / "raw").glob("*-PSG.edf"))
    found: dict[str, list[str]] = {}
    for name, precision in [*(("mmasleepnet", p) for p in TARGETS), (OTHER, "fp32")]:
        network = material.model(name)
        save_model(network, folder / name, material.facts(network))
        title = f"sleeptools score, {precision}" if name != OTHER else f"sleeptools score, {name}"
        score = [sys.executable, "-m", "sleeptools.cli", "score", str(folder / name), psg]
        found[title] = [*score, "--out", str(folder / title), "--precision", precision]
    yasa = [str(options.yasa), str(HERE / "night_yasa.py"), psg, str(folder / "YASA")]
    return found | {"YASA": yasa}


def race(commands: dict[str, list[str]], turns: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Medians of whole processes by name, or why there are none; each writes `folder` / name."""
    environment = provenance.environment(folder / "python")
    measured: dict[str, list[tuple[float, float, float]]] = {}
    absent: dict[str, dict[str, Any]] = {}
    for turn in range(turns + 1):
        for name, command in commands.items():
            if name in absent:
                continue
            shutil.rmtree(folder / name, ignore_errors=True)  # finished nights would be skipped
            if not Path(command[0]).exists():
                absent[name] = {"absent": "not installed"}
            elif turn:
                measured.setdefault(name, []).append(whole_process(command, environment))
            else:  # fills the page cache and the caches of compiled Python
                whole_process(command, environment)
    medians = {
        name: [statistics.median(c) for c in zip(*r, strict=True)] for name, r in measured.items()
    }
    keys = ("seconds", "cpu_seconds", "peak_mib")
    return {n: dict(zip(keys, m, strict=True)) for n, m in medians.items()} | absent


def whole_process(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory in MiB of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def count(path: Path) -> int:
    """Epochs that a contender has scored."""
    if path.is_file():
        return len(path.read_text().splitlines())
    (table,) = path.glob("*.parquet")
    return len(store.read_table(table))


def markdown(report: dict[str, Any]) -> str:
    rows = report["rows"]
    yasa = rows["YASA"].get("seconds")
    lines = [
        "# A night from its file to a hypnogram, cold process",
        "",
        provenance.describe(report),
        "",
        f"A simulated night of {report['hours']:g} h in Sleep-EDF's layout, MMASleepNet (or the "
        "model that is named, in fp32) on all cores; whole processes in turn, medians. YASA 0.8.1 "
        "from EEG Fpz-Cz, EOG and EMG.",
        "",
        *timing.table(
            ["", "s", "CPU s", "peak MiB", "of YASA's time", "target"],
            [cells(name, row, yasa) for name, row in rows.items()],
        ),
        "",
    ]
    return "\n".join(lines)


def cells(name: str, row: dict[str, Any], yasa: float | None) -> list[str]:
    if "absent" in row:
        return [name, row["absent"], "", "", "", ""]
    figures = [f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", f"{row['peak_mib']:.0f}"]
    target = TARGETS.get(name.rsplit(" ", maxsplit=1)[-1])
    limits = f"<= {target:g} s and <= {YASA_SHARE:.0%}" if target else f"<= {YASA_SHARE:.0%}"
    limits = "" if name == "YASA" else limits
    return [name, *figures, f"{row['seconds'] / yasa:.0%}" if yasa else "-", limits]


if __name__ == "__main__":
    main()
