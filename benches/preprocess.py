"""Raw night to epochs, ours against MNE: read, resample, filter, cut, on one core, interleaved.

One process, in turn, medians of wall and of processor time, epochs in memory (ours also written
to their file). MNE filters by its default (a zero-phase FIR) and by the same Butterworth as
ours. `PYTHONPATH=WHERE_MNE_IS python benches/preprocess.py` writes benches/results/preprocess.json
and .md.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from instruments import provenance
from sleeptools import native, store
from sleeptools.datasets import RecordingFiles, sleep_edf
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.recording_epochs import write_recording_epochs
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, Signal

RESULTS = Path(__file__).parent / "results"
TURNS = 5
BAND = (0.3, 35.0)
ISRUC = ("F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1", "ROC-A1", "X1")
AUXILIARY = ("LOC-A2", *(f"X{i}" for i in range(2, 9)), "SaO2")
CASES = {
    "Sleep-EDF, 22 h, 4 of 7 signals at 100 Hz and 1 Hz": (
        "SC4001",
        22.0,
        [s.label for s in sleep_edf.SIGNALS if s.label.startswith("E")][:4],
    ),
    "ISRUC-like, 8 h, 8 of 17 signals, 200 to 100 Hz": ("SC4011", 8.0, list(ISRUC)),
}


def write(root: Path, name: str, hours: float) -> None:
    """Write a night of noise in the layout of Sleep-Cassette, with a stage for every epoch."""
    heads = sleep_edf.SIGNALS
    if name == "SC4011":
        fields = ("uV", -819.2, 819.1, -32768, 32767, "", 6000, 0)
        heads = tuple(SignalHeader(n, "", *fields) for n in (*ISRUC, *AUXILIARY))
    rng = np.random.default_rng(0)
    signals = {}
    for head in heads:
        rate = head.samples_per_record / sleep_edf.RECORD_SECONDS
        middle, span = (head.physical_max + head.physical_min) / 2, head.physical_max
        values = middle + span * 0.1 * rng.standard_normal(round(hours * 3600 * rate))
        signals[head.label] = Signal(
            head.label, rate, "uV", "eeg", values.size, partial(np.float32, values)
        )
    night = Recording(name, name[:5], 1, signals, start=datetime(2001, 1, 1))
    edf.write(root / f"{name}E0-PSG.edf", night, heads)
    events = [(30.0 * i, 30.0, f"Sleep stage {'W123R'[i % 5]}") for i in range(round(hours * 120))]
    edf.write_annotations(root / f"{name}EC-Hypnogram.edf", events, night.start)


def settings(labels: list[str]) -> presets.Preset:
    values = {"name": "b", "data_set": "sleep-edf", "sample_rate": 100, "montage": labels}
    step = {"do": "band-pass", "low_hz": BAND[0], "high_hz": BAND[1]}
    values |= {"trim": {"rule": "none"}, "processing": [step]}
    return presets.resolve(values, source="bench")


def ours(source: RecordingFiles, labels: list[str], out: Path) -> Callable[[], object]:
    preset = settings(labels)

    def run() -> object:
        recording = sleep_edf.read(source)
        assert recording.hypnogram is not None
        signals = montage.pick(recording, preset.montage)
        onsets = 30.0 * np.arange(len(recording.hypnogram))
        return epoching.cut_epochs(preset, recording, signals, onsets, out).values

    return run


def written(source: RecordingFiles, labels: list[str], out: Path) -> Callable[[], object]:
    preset, path = settings(labels), out / f"{source.id}.safetensors"
    return lambda: write_recording_epochs(preset, sleep_edf.read(source), path, {})


def mne(source: RecordingFiles, labels: list[str], method: str) -> Callable[[], object]:
    import mne as library

    library.set_log_level("ERROR")
    psg = source.files[0]
    iir = {"order": 4, "ftype": "butter", "output": "sos"} if method == "iir" else None

    def run() -> object:
        raw = library.io.read_raw_edf(psg, include=labels, preload=True)
        if raw.info["sfreq"] != 100:
            raw.resample(100)
        raw.filter(*BAND, picks="all", method=method, iir_params=iir)
        epochs = library.make_fixed_length_epochs(raw, 30, preload=True)
        return (epochs.get_data(copy=False) * 1e6).astype(np.float32)

    return run


def in_turn(ways: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, run in ways.items():
            begun, busy = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first warms up: imports, the file's cache
                seconds[name].append((time.perf_counter() - begun, time.process_time() - busy))
    return {
        name: {
            "wall": statistics.median(w for w, _ in t),
            "cpu": statistics.median(c for _, c in t),
        }
        for name, t in seconds.items()
    }


def agree(ways: dict[str, Callable[[], object]]) -> list[float]:
    """Compare with MNE's Butterworth 5 minutes from the ends: RMS of the difference, uV."""
    epochs, mne_epochs = ways["sleeptools"](), ways["MNE, the same Butterworth"]()
    assert isinstance(epochs, np.ndarray)
    assert isinstance(mne_epochs, np.ndarray)
    difference = (epochs - mne_epochs)[10:-10]
    return [float(x) for x in np.sqrt(np.mean(difference.astype(float) ** 2, (0, 2)))]


def measure(root: Path, title: str) -> dict[str, object]:
    name, hours, labels = CASES[title]
    write(root, name, hours)
    (source,) = (s for s in sleep_edf.find(root) if s.id == name)
    ways = {
        "sleeptools": ours(source, labels, root),
        "sleeptools, written to a file": written(source, labels, root),
        "MNE, its default FIR": mne(source, labels, "fir"),
        "MNE, the same Butterworth": mne(source, labels, "iir"),
    }
    seconds = in_turn(ways)
    return {"case": title, "difference": agree(ways), "seconds": seconds}


def report(results: dict[str, object]) -> str:
    lines = [
        "# Raw night to epochs, against MNE",
        "",
        f"One core, {results['variant']}, {results['machine']}, {results['commit']}; one process, "
        f"in turn, medians of {results['turns']}; load {results['load']:.2f} at the start. Epochs "
        "in memory, where it does not say otherwise. Ratio: processor time against ours.",
        "",
        "| night | | wall, s | processor, s | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:  # type: ignore[attr-defined]
        base = row["seconds"]["sleeptools"]["cpu"]
        lines += [
            f"| {row['case']} | {name} | {t['wall']:.2f} | {t['cpu']:.2f} | {t['cpu'] / base:.1f} |"
            for name, t in row["seconds"].items()
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    load = os.getloadavg()[0]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(Path(folder), title) for title in CASES]
    results = {
        "machine": provenance.machine("numpy", "scipy", "mne"),
        "variant": native.variant(),
        "commit": provenance.commit(),
        "load": load,
        "turns": TURNS,
        "rows": rows,
    }
    store.write_json(RESULTS / "preprocess.json", results)
    store.write_text(RESULTS / "preprocess.md", report(results))
    print(report(results))
    for row in rows:
        print(row["case"], "difference to MNE's Butterworth, uV RMS:", row["difference"])


if __name__ == "__main__":
    main()
