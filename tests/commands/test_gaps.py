"""A night that was interrupted, through the commands: gaps are counted and never staged."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from edf_plus import write_records
from preset_model import save_preset_model
from sleeptools import formats, store
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.recording import read_recording

CHANNELS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental")
OWN = f"""
name = "own"
data_set = "edf"
montage = [{", ".join(f'"{c}"' for c in CHANNELS)}]
sample_rate = 100.0
trim = {{rule = "none"}}
processing = [{{do = "band-pass", low_hz = 0.3, high_hz = 35.0}}]
"""
SETTINGS = 'signals = "{subject}.edf"\nhypnograms = "{subject}.edf"\n'
RECORDS, EPOCHS = 15, 23  # of 30 s, four before the gap
GAP = (120.0, 370.0)
IN_GAP = range(4, 13)  # the epoch from 360 s on begins in it
"""Epochs that touch the gap."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    signals = {c: rng.normal(0, 300, (RECORDS, 3000)).round().astype(int) for c in CHANNELS}
    stamps = [str(30 * k + 250 * (k > 3)) for k in range(RECORDS)]
    events = [(30.0 * k, 30.0, f"Sleep stage {'W123R'[k % 5]}") for k in range(EPOCHS)]
    write_records(raw / "p1.edf", signals, stamps, record_seconds="30", events=events)
    (raw / "edf.toml").write_text(SETTINGS)
    (tmp_path / "own.toml").write_text(OWN)
    return tmp_path


def test_a_gap_is_counted_by_every_command(command, folder: Path) -> None:
    shown = json.loads(command("inspect", "raw/p1.edf", "--json", cwd=folder).out)[0]
    assert shown["gaps"] == [[*GAP]]
    assert (shown["seconds"], shown["epochs"]) == (700.0, EPOCHS)
    assert f"{len(IN_GAP)} of {EPOCHS} epochs touch a gap" in shown["problems"]
    text = command("inspect", "raw/p1.edf", cwd=folder).out
    assert "interrupted by 1 gap: 250 s at 120 s" in text
    assert f"problem: {len(IN_GAP)} of {EPOCHS} epochs touch a gap" in text

    ran = command("convert", "edf", "raw", "rec", cwd=folder)
    assert ran.code == 0, ran.err
    assert "interrupted by 1 gap: 250 s at 120 s" in ran.err
    assert f"{len(IN_GAP)} epochs touch a gap" in ran.err
    assert store.read_json(folder / "rec/manifest.json")["gap"] == len(IN_GAP)
    row = pl.read_csv(folder / "rec/index.csv").to_dicts()[0]
    assert (row["gap"], row["hours"]) == (len(IN_GAP), round(700 / 3600, 4))
    assert read_recording(folder / "rec/p1.safetensors").gaps == (GAP,)

    for source, out in (("rec", "one"), ("raw", "two")):
        ran = command("preprocess", "own.toml", source, out, cwd=folder)
        assert ran.code == 0, ran.err
        assert f"dropped: {len(IN_GAP)} gap" in ran.err
        made = open_epochs(folder / out)
        assert made.manifest["excluded"]["gap"] == len(IN_GAP)
        assert made.files[0].onset.tolist() == [30.0 * k for k in range(EPOCHS) if k not in IN_GAP]
    one, two = (open_epochs(folder / name).files[0] for name in ("one", "two"))
    assert np.array_equal(one.signals, two.signals)
    assert one.stages.tolist() == [k % 5 for k in range(EPOCHS) if k not in IN_GAP]
    segments = made.windows(np.arange(len(made)), sequence=4).inputs
    assert not any(3 in row and 4 in row for row in segments.tolist())


@pytest.mark.parametrize("quality", ["count", "exclude"])
def test_score_leaves_a_gap_unscored(command, folder: Path, quality: str) -> None:
    wanted = presets.changed(presets.load(str(folder / "own.toml")), quality=quality)
    save_preset_model(folder / "model", wanted)
    ran = command("score", "model", "raw/p1.edf", "--out", "scores", cwd=folder)
    assert ran.code == 0, ran.err
    assert f"left unscored, without a signal: {len(IN_GAP)} gap" in ran.err
    row = store.read_json(folder / "scores/manifest.json")["recordings"]["p1"]
    assert row["unscored"] == {"gap": len(IN_GAP)}
    table = pl.read_csv(folder / "scores/p1.csv")
    unscored = ["gap" if k in IN_GAP else None for k in range(EPOCHS)]
    assert table["unscored"].to_list() == unscored
    stages = formats.read_hypnogram(folder / "scores/p1-hypnogram.edf").stages
    assert [s < 0 for s in stages.tolist()] == [k in IN_GAP for k in range(EPOCHS)]
