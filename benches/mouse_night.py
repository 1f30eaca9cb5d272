"""Time a mouse's day from its file to a hypnogram, as whole processes, against AccuSleePy.

A simulated recording of 24 h in the form of Kjaerby et al. (EEG and EMG of 512 Hz in MATLAB's
format; AccuSleePy gets the same samples as Parquet, one of the two forms it reads), models with
random weights (the time does not depend on them), and processes that start anew each time, in
turn; the files are in the page cache. AccuSleePy has an environment of its own, because of its
pins, which `make bench` makes: VENV-accusleepy. `python benches/mouse_night.py` writes
benches/results/mouse_night.json and .md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

import night
from instruments import material, provenance, timing
from sleeptools import read, store
from sleeptools.commands.simulate import simulate
from sleeptools.models.folder import save_model
from sleeptools.preprocessing import presets

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TURNS = 5
SHARE = 0.7  # largest share of AccuSleePy's time that mouse-cnn may take at the same epoch
MEMORY = 2048  # MiB
PRESET = "kjaerby"
EPOCHS = (4.0, 1.0)  # s
MODELS = ("mouse-cnn",)  # slumbernet takes the better part of an hour


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accusleepy", type=Path, default=HERE.parent / ".venv-accusleepy")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    facts = provenance.facts("numpy")
    with tempfile.TemporaryDirectory() as folder:
        runners = commands(Path(folder), options)
        rows = night.race(runners, options.turns, Path(folder))
        epochs = {n: count(Path(folder) / n) for n, r in rows.items() if "seconds" in r}
    report = {"hours": options.hours, "epochs": epochs, **facts, "rows": rows}
    print(markdown(report))
    if str(options.out) != "-":
        store.write_json(options.out / "mouse_night.json", report)
        store.write_text(options.out / "mouse_night.md", markdown(report))


def commands(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Make the recording and the models; the command lines by the contenders' names."""
    simulate(PRESET, folder / "raw", subjects=1, hours=options.hours, seed=material.SEED)
    (mouse,) = (folder / "raw").glob("*.mat")
    recording = read(mouse)
    signals = {name.lower(): signal.samples() for name, signal in recording.signals.items()}
    pl.DataFrame(signals).write_parquet(folder / "mouse.parquet")
    rate = recording.signals["EEG"].sample_rate
    found: dict[str, list[str]] = {}
    for seconds in EPOCHS:
        for name in options.models:
            model = folder / f"{name}-{seconds:g}"
            save(model, name, seconds)
            title = f"{name}, {seconds:g}-s epochs"
            score = [sys.executable, "-m", "sleeptools.cli", "score", str(model), str(mouse)]
            found[title] = [*score, "--only", "csv", "--out", str(folder / title)]
        python = options.accusleepy / "bin/python"
        program = [str(python), str(HERE / "mouse_night_accusleepy.py")]
        weights = str(folder / f"accusleepy-{seconds:g}.pth")
        if python.exists():
            subprocess.run([*program, "make", weights, f"{seconds:g}"], check=True)
        title = f"AccuSleePy, {seconds:g}-s epochs"
        found[title] = [*program, str(folder / "mouse.parquet"), repr(rate), f"{seconds:g}"]
        found[title] += [weights, str(folder / title)]
    return found


def count(path: Path) -> int:
    """Epochs that a contender has scored: rows of its table."""
    table = path / "mouse-01-1.csv" if path.is_dir() else path
    return len(table.read_text().splitlines()) - 1


def save(folder: Path, name: str, epoch_seconds: float) -> None:
    """Write a model folder for epochs of the preset, of another length."""
    preset = presets.load(PRESET)
    preset = preset.model_copy(update={"epoch_seconds": epoch_seconds})
    settings = {"sample_rate": preset.sample_rate, "epoch_seconds": epoch_seconds}
    network = material.model(name, **settings)
    facts = {
        "montage": [channel.name for channel in preset.montage],
        "stages": preset.stages,
        "preprocessing": {"preset": preset.model_dump(mode="json")},
    }
    save_model(network, folder, facts | settings)


def markdown(report: dict[str, Any]) -> str:
    lines = [
        "# A mouse's day from its file to a hypnogram, cold process",
        "",
        provenance.describe(report),
        "",
        f"A simulated recording of {report['hours']:g} h, EEG and EMG at 512 Hz, on all cores; "
        "whole processes in turn, medians. AccuSleePy 0.13.0 reads the samples from Parquet. Time "
        f"is compared at the same length of an epoch; mouse-cnn's is to be at most {SHARE:.0%}, "
        f"with at most {MEMORY:,} MiB.",
        "",
        *timing.table(
            ["", "epochs", "s", "CPU s", "peak MiB", "of AccuSleePy's time", "of its CPU time"],
            [cells(name, report) for name in report["rows"]],
        ),
        "",
    ]
    return "\n".join(lines)


def cells(name: str, report: dict[str, Any]) -> list[str]:
    row = report["rows"][name]
    if "absent" in row:
        return [name, "", row["absent"], "", "", "", ""]
    figures = [f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", f"{row['peak_mib']:.0f}"]
    other = report["rows"]["AccuSleePy, " + name.split(", ")[1]]
    shares = [f"{row[k] / other[k]:.0%}" if k in other else "-" for k in ("seconds", "cpu_seconds")]
    return [name, f"{report['epochs'][name]:,}", *figures, *shares]


if __name__ == "__main__":
    main()
