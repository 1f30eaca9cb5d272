"""Write one small file of every on-disk format version into tests/archive, once and for all.

Run it only when a format gets a new version; files of older versions stay as they are.
"""

import json
from datetime import datetime
from pathlib import Path

import numpy as np

import synthetic_run
from sleeptools import formats, store
from sleeptools.models.folder import build_model, save_model
from sleeptools.preprocessing.epochs import EPOCHS_KIND, write_epoch_file
from sleeptools.recording import stages
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal, write_recording

ARCHIVE = Path(__file__).parent / "archive"


def recording(path: Path) -> None:
    samples = (np.arange(60) * 7 % 50).astype(np.int16)
    signal = Signal(
        *("EEG Fpz-Cz", 1.0, "uV", "eeg", 60, lambda: samples, 0.5, -3.0, np.int16),
        stored_range=(-2000, 2000),
        gaps=((20.0, 50.5), (70.5, 90.0)),
    )
    scoring = Hypnogram(np.array([0, -1], np.int8), scorer="simulated")
    start = datetime(1989, 4, 24, 16, 13)
    other = Hypnogram(np.array([4, 1], np.int8), onset=30.0, scorer="scorer 2")
    made = Recording(
        "SC4001", "SC400", 1, {signal.label: signal}, scoring, start, {"age": 33}, (other,)
    )
    write_recording(path, made, {"SC4001E0-PSG.edf": {"size": 1, "mtime_ns": 2, "sha256": "3"}})


def epoch_set(folder: Path) -> None:
    signals = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    write_epoch_file(
        folder / "SC4001.safetensors",
        signals=signals,
        stages=np.array([1, 4], np.int8),
        onset=np.array([30.0, 90.0]),
        hypnogram=np.array([-1, 1, -1, 4], np.int8),
        facts={"recording": "SC4001", "subject": "SC400", "night": 1, "simulated": True},
    )
    manifest = store.Manifest(
        EPOCHS_KIND,
        1,
        {
            "montage": ["a", "b", "c", "d"],
            "sample_rate": 1.0,
            "epoch_seconds": 5.0,
            "stages": ["W", "N1", "N2", "N3", "REM"],
            "recordings": ["SC4001"],
        },
        ["archive"],
    )
    manifest.write(folder, [folder / "SC4001.safetensors"])


def model(folder: Path) -> None:
    """The settings and the list of weights; the weights themselves would be megabytes."""
    made = build_model("mmasleepnet")
    facts = {
        "montage": ["a", "b", "c", "d"],
        "sample_rate": 100.0,
        "epoch_seconds": 30.0,
        "stages": ["W", "N1", "N2", "N3", "REM"],
        "preprocessing": {},
    }
    save_model(made, folder, facts)
    weights = store.read_tensors(folder / "model.safetensors")
    layout = {name: [str(a.dtype), list(a.shape)] for name, a in weights.arrays.items()}
    (folder / "layout.json").write_text(json.dumps({"facts": weights.facts, "arrays": layout}))
    (folder / "model.safetensors").unlink()


def hypnograms(folder: Path) -> None:
    """One file of every layout that hypnograms are written in, with every stage and reason."""
    folder.mkdir()
    human = Hypnogram(
        np.array([0, 1, 2, 3, 4, -1, -1, 0], np.int8),
        reasons=np.array([0, 0, 0, 0, 0, 1, 2, 0], np.int8),
    )
    mouse = Hypnogram(
        np.array([0, 1, 2, -1, -1, 0], np.int8),
        stages.MOUSE_STAGES,
        4.0,
        reasons=np.array([0, 0, 0, 1, 2, 0], np.int8),
    )
    for name in (
        "edf-h.edf",
        "bids-h_events.tsv",
        "luna-h.annot",
        "luna-h.eannot",
        "usleep-h.ids",
        "usleep-h.tsv",
        "usleep-h.hyp",
        "yasa-h.csv",
        "yasa-h.txt",
    ):
        formats.write_hypnogram(human, folder / name, to=name.partition("-")[0])
    formats.write_hypnogram(mouse, folder / "accusleepy-h.csv", to="accusleepy")


if __name__ == "__main__":
    recording(ARCHIVE / "recording-3.safetensors")
    epoch_set(ARCHIVE / "epochs-1")
    model(ARCHIVE / "model-1")
    hypnograms(ARCHIVE / "hypnograms-1")
    synthetic_run.write(ARCHIVE / "run-1", subjects=2, folds=2, epochs=30, passes=2)
