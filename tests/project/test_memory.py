"""A day of 20 channels at 512 Hz: every command holds one signal at a time, and maps no more."""

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

from preset_model import save_preset_model
from sleeptools.formats import edf
from sleeptools.preprocessing import presets
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
FEW = """
name = "few"
data_set = "sleep-edf"
sample_rate = 100
montage = ["Fp1-M1", "P3-P4", "C3-C4", "E1-M1"]
trim = {rule = "none"}
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


def run_under(limit: int | None, folder: Path, *words: str, **settings: str) -> float:
    """Run a command under a limit of address space, bytes; return its peak of anonymous memory."""
    peak = 0
    # as a user's: the tests themselves may run with memory that stays in the process
    usual = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | settings
    limited = [] if limit is None else ["prlimit", f"--as={limit}"]
    command = [*limited, sys.executable, "-m", "sleeptools.cli", *words]
    with subprocess.Popen(command, cwd=folder, env=usual) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = [int(x.split()[1]) for x in status.splitlines() if x.startswith("RssAnon")]
            peak = max(peak, *found, 0)
            time.sleep(0.02)
    assert process.returncode == 0, words
    return peak * 1024.0


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("day")
    (folder / "raw").mkdir()
    write_day(folder / "raw")
    (folder / "day.toml").write_text(PRESET)
    (folder / "few.toml").write_text(FEW)
    few = presets.load(str(folder / "few.toml"))  # its montage the day has
    save_preset_model(folder / "model", few, "mmasleepnet")
    yield folder
    shutil.rmtree(folder)  # 6 GB, which pytest would keep


WORK = (
    ("inspect", "raw/SC4001E0-PSG.edf"),
    ("convert", "sleep-edf", "raw", "recordings"),
    ("preprocess", "day.toml", "recordings", "epochs"),
    ("preprocess", "few.toml", "raw", "few"),
    ("verify", "epochs"),
    ("score", "model", "raw/SC4001E0-PSG.edf", "--out", "scores"),
)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1_200_000_000])
def test_a_long_recording_fits(day: Path, limit: int | None) -> None:
    peaks = {
        " ".join(words[:2]): run_under(limit, day, *words, OMP_NUM_THREADS="1") for words in WORK
    }
    print({name: f"{peak / 1e6:.0f} MB" for name, peak in peaks.items()})
    assert max(peaks.values()) < 400e6, peaks
    (file,) = open_epochs(day / "epochs").files
    assert file.signals.shape == (HOURS * 120, len(CHANNELS), 30 * 256)
    for folder in ("recordings", "epochs", "few", "scores"):
        shutil.rmtree(day / folder)


@pytest.mark.slow
def test_a_long_recording_fits_without_the_core(day: Path) -> None:
    peaks = [
        run_under(None, day, *words, OMP_NUM_THREADS="1", SLEEPTOOLS_NATIVE="0")
        for words in WORK[1:4]
    ]
    assert max(peaks) < 1200e6, peaks
    for folder in ("recordings", "epochs", "few"):
        shutil.rmtree(day / folder)
