"""A day of 20 channels at 512 Hz is converted and preprocessed one signal at a time."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from sleeptools.formats import edf
from sleeptools.preprocessing.epochs import open_epochs

CHANNELS = (
    "Fp1",
    "Fp2",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "C3",
    "Cz",
    "C4",
    "P7",
    "P3",
    "Pz",
    "P4",
    "P8",
    "O1",
    "O2",
    "T7",
    "T8",
    "E1",
)
RATE, HOURS = 512, 24
PRESET = f"""
name = "day"
data_set = "sleep-edf"
sample_rate = 256
montage = [{", ".join(f'"{c}-M1"' for c in CHANNELS)}]
trim = {{rule = "none"}}
[[processing]]
do = "band-pass"
low_hz = 0.3
high_hz = 100
[[processing]]
do = "robust-scale"
[[processing]]
do = "baseline"
degree = 3
"""


def write_day(folder: Path) -> None:
    """Write 1.8 GB of EDF: one record of noise again and again."""
    count = len(CHANNELS)
    fields = [
        [f"{c}-A1" for c in CHANNELS],
        *([x] * count for x in ("", "uV", -3276.8, 3276.7, -32768, 32767, "", RATE, "")),
    ]
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    head = f"{'0':8}{'X':80}{'X':80}01.01.0100.00.00{256 * (count + 1):<8}{'':44}"
    head += f"{HOURS * 3600:<8}{'1':<8}{count:<4}"
    head += "".join(f"{v:<{w}}" for column, w in zip(fields, widths, strict=True) for v in column)
    noise = np.random.default_rng(0).normal(0, 400, count * RATE).astype("<i2")
    with (folder / "SC4001E0-PSG.edf").open("wb") as file:
        file.write(head.encode())
        for _ in range(HOURS * 36):
            file.write(noise.tobytes() * 100)
    events = [(0.0, HOURS * 3600.0, "Sleep stage 2")]
    edf.write_annotations(folder / "SC4001EC-Hypnogram.edf", events, datetime(2001, 1, 1))


def peak_mib(command: list[str], folder: Path) -> float:
    """Run a command and watch its anonymous memory, MiB."""
    peak = 0
    # as a user's: the tests themselves may run with memory that stays in the process
    usual = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    with subprocess.Popen(
        [sys.executable, "-m", "sleeptools.cli", *command], cwd=folder, env=usual
    ) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = [int(x.split()[1]) for x in status.splitlines() if x.startswith("RssAnon")]
            peak = max(peak, *found, 0)
            time.sleep(0.02)
    assert process.returncode == 0
    return peak / 1024


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "raw").mkdir()
    write_day(tmp_path / "raw")
    (tmp_path / "day.toml").write_text(PRESET)
    yield tmp_path
    shutil.rmtree(tmp_path)  # 6 GB, which pytest would keep


@pytest.mark.slow
@pytest.mark.parametrize("native", ["1", "0"])
def test_a_long_recording_fits(day: Path, monkeypatch: pytest.MonkeyPatch, native: str) -> None:
    monkeypatch.setenv("SLEEPTOOLS_NATIVE", native)
    peaks = [
        peak_mib(["convert", "sleep-edf", "raw", "recordings"], day),
        peak_mib(["preprocess", "day.toml", "recordings", "epochs"], day),
    ]
    print(f"peak anonymous memory: {peaks[0]:.0f} MiB converting, {peaks[1]:.0f} MiB preprocessing")
    assert max(peaks) < 1200
    (file,) = open_epochs(day / "epochs").files
    assert file.signals.shape == (HOURS * 120, len(CHANNELS), 30 * 256)
