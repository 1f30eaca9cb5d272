"""Read mutated files, each in a process of its own with limits of time and memory.

`python -m fuzzed READER SEED COUNT [SECONDS]` prints a line for every case that ends otherwise than
with the data read or a clean error: with an exception, a signal, too much memory or time.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

import onnx_bytes
import reviews
from edf_plus import write_records
from mutations import mutate
from sleeptools import formats, store
from sleeptools.commands.inspect import inspect
from sleeptools.commands.inspect.cross_check import cross_check_file
from sleeptools.datasets import spreadsheets
from sleeptools.errors import SleeptoolsError
from sleeptools.formats import hypnodensity, review
from sleeptools.inference.card import METADATA, parse_card
from sleeptools.inference.onnx_file import read_onnx
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, read_recording
from sleeptools.recording.stages import UNKNOWN
from sleeptools.runs import model_folder
from sleeptools.runs.run import open_run

ARCHIVE = Path(__file__).parents[1] / "data" / "archive"
SECONDS, PER_BYTE, FREE = 10, 20, 64 << 20
CLEAN = (2, 65, 66, 69)
TEXTS = {
    "labels": "W\nN1\nS2\nstage 4\nREM\nMT\n?\n\n\n",
    "visbrain": "*Duration_sec\t300.0\nWake\t60.0\nN1\t90\nREM\t240\nArt\t270\n",
    "yasa": "Time,Stage\n2020-01-01 23:59:30,WAKE\n2020-01-02 00:00:00,UNS\n",
    "usleep": "init,duration,stage\n0,60,W\n60,30,UNKNOWN\n",
    "bids": "onset\tduration\ttrial_type\n-30\t30\tW\n0\t30\tN1\n12.5\t3\tarousal\n",
    "luna": "class\tinstance\tchannel\tstart\tstop\tmeta\nW\t.\t.\t0\t30\t.\nN1\t.\t.\t30\t+30\t.\n",  # noqa: E501
    "luna-clock": "W\t23:59:30\t...\nN2\t00:00:30\t+60\nR\t00:01:30\t00:02:00\n",
    "accusleepy": "brain_state,confidence_score\n1,0.9\n2,1\n3,0.5\n-1,0\n",
    "nsrr": "<PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents><ScoredEvent><EventType>"
    "Stages|Stages</EventType><EventConcept>Wake|0</EventConcept><Start>0.0</Start><Duration>60.0"
    "</Duration></ScoredEvent></ScoredEvents></PSGAnnotation>",
    "profusion": "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages><SleepStage>0"
    "</SleepStage><SleepStage>5</SleepStage></SleepStages></CMPStudyConfig>",
    "columns-100Hz": "1.5\t2.0\n-3\t4\n" * 200,
}
SUFFIXES = {"nsrr": "-nsrr.xml", "profusion": ".xml", "bids": "_events.tsv", "luna": ".annot"}


def _inspect(path: Path) -> None:
    inspect(path, scheme=None, epoch_seconds=None)


def _read_samples(path: Path) -> None:
    recording: Recording = formats.read_any(path)
    for signal_ in recording.signals.values():
        signal_.samples()
    inspect(path)


def _read_as_pyedflib(path: Path) -> None:
    """Read an EDF file; where pyedflib takes it too, its data must be the same."""
    _read_samples(path)
    facts = cross_check_file(path)
    wrong = [d for d in facts["differences"] if d["in_data"]]
    assert not wrong, wrong[:3]


def _epochs(folder: Path) -> None:
    epochs = open_epochs(folder)
    epochs.gather(np.arange(len(epochs)))
    epochs.windows(np.arange(len(epochs)), sequence=2)
    _ = epochs.stages, epochs.subjects, epochs.simulated


def _model(folder: Path) -> None:
    from sleeptools.inference.engine import Engine

    model_folder.read_weights(folder)
    Engine.load(folder)


def _onnx(path: Path) -> None:
    content = read_onnx(path)
    parse_card(content.metadata.get(METADATA, ""), path)


def _run(folder: Path) -> None:
    from sleeptools.evaluation.evaluation import compute_evaluation

    compute_evaluation(open_run(folder))


def _recording(path: Path) -> None:
    for signal_ in read_recording(path).signals.values():
        signal_.samples()
    _inspect(path)


def _table(path: Path) -> None:
    store.read_table(path)


def _copy(source: Path) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        target = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return target

    return made


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        path = folder / f"{name}{SUFFIXES.get(name, '.txt')}"
        path.write_text(text)
        return path

    return made


def _xlsx(folder: Path) -> Path:
    path = folder / "t.xlsx"
    rows = [["subject", "night", "age"], *([float(i), 1.0, "F"] for i in range(20))]
    spreadsheets.write_xlsx(path, rows)
    return path


def _discontinuous(folder: Path) -> Path:
    signals = {"EEG": np.arange(640).reshape(10, 64), "Temp": np.arange(10)[:, None]}
    stamps = [f"{k + 60.5 * (k > 3) + 0.25 * (k > 7):g}" for k in range(10)]
    return write_records(folder / "d.edf", signals, stamps, events=[(0, 2, "Sleep stage W")])


def _edf(folder: Path, kind: str) -> Path:
    signals = {"EEG": np.arange(640).reshape(10, 64) % 500, "Temp": np.arange(10)[:, None]}
    stamps = [f"{k}" for k in range(10)]
    events = [(0.0, 2.0, "Sleep stage W"), (2.0, 0.0, "Lights off")]
    name = folder / f"n.{kind[:3].lower()}"
    return write_records(name, signals, stamps, kind=kind, events=events)


def _mat(folder: Path, *, packed: bool) -> Path:
    from scipy.io import savemat

    values = {"eeg": np.arange(512.0) / 1e6, "emg": np.zeros(512), "eeg_frequency": 128.0}
    path = folder / "m.mat"
    savemat(path, values | {"sleep_scores": np.array([1.0, 2, 3, 1])}, do_compression=packed)
    return path


def _hdf5(folder: Path) -> Path:
    import h5py

    path = folder / "m.mat"
    with h5py.File(path, "w") as file:
        for name in ("eeg", "emg"):
            file.create_dataset(name, data=np.arange(512.0)[None] / 1e6, compression="gzip")
        file["eeg_frequency"] = np.array([[128.0]])
        file["sleep_scores"] = np.array([[1.0, 2, 3, 1]])
    return path


def _parquet(folder: Path) -> Path:
    return _copy(ARCHIVE / "run-1" / "folds.parquet")(folder)  # made elsewhere: a child of a
    # process in which polars has begun to work would wait for its threads for ever


def _preset(folder: Path) -> Path:
    source = Path(presets.__file__).parent / "sleep-edf.toml"
    return _copy(source if source.exists() else source.with_name("sleep_edf.toml"))(folder)


def _model_folder(folder: Path) -> Path:
    from sleeptools.models.folder import build_model, save_model

    facts = {
        "montage": ["EEG", "EOG"],
        "sample_rate": 100.0,
        "epoch_seconds": 30.0,
        "stages": ["W", "N1", "N2", "N3", "REM"],
        "preprocessing": {},
    }
    save_model(build_model("ulw-sleepnet"), folder / "model", facts)
    return folder / "model"


def _hypnodensity(folder: Path) -> Path:
    names = ("W", "N1", "N2", "N3", "REM")
    stages = np.arange(-1, 11, dtype=np.int8) % 6 - 1
    begin = datetime(1989, 12, 31, 23, 58)
    reasons = (stages < 0) * np.int8(UNKNOWN)
    scored = Hypnogram(stages, names, 30.0, 0.0, begin=begin, reasons=reasons)
    density = np.where(stages[:, None] < 0, np.nan, np.eye(5)[stages]).astype(np.float32)
    hypnodensity.write_table(folder / "n.csv", scored, density)
    return folder / "n.csv"


def _review(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    fresh = reviews.untouched(rng, reviews.random_hypnogram(rng, epochs=20))
    review.write_review(reviews.edited(rng, fresh, 20), folder / "n-review.csv")
    return folder / "n-review.csv"


def _read_hypnodensity(path: Path) -> None:
    _inspect(path)
    hypnodensity.read_hypnogram(path)
    hypnodensity.read_density(path)


def _onnx_file(folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(onnx_bytes.network(metadata={METADATA: json.dumps(onnx_bytes.CARD)}))
    return path


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    **{f"text {name}": (_text(name, text), _inspect) for name, text in TEXTS.items()},
    **{
        f"hypnogram {path.name}": (_copy(path), _inspect)
        for path in sorted((ARCHIVE / "hypnograms-1").iterdir())
    },
    "recording": (_copy(ARCHIVE / "recording-3.safetensors"), _recording),
    "recording 2": (_copy(ARCHIVE / "recording-2.safetensors"), _recording),
    "recording 1": (_copy(ARCHIVE / "recording-1.safetensors"), _recording),
    "epochs": (_copy(ARCHIVE / "epochs-1"), _epochs),
    "run": (_copy(ARCHIVE / "run-1"), _run),
    "model": (_model_folder, _model),
    "onnx": (_onnx_file, _onnx),
    "hypnodensity": (_hypnodensity, _read_hypnodensity),
    "review": (_review, review.read_review),
    "edf+d": (_discontinuous, _read_samples),
    "edf": (lambda folder: _edf(folder, "EDF+C"), _read_as_pyedflib),
    "bdf": (lambda folder: _edf(folder, "BDF+C"), _read_as_pyedflib),
    "xlsx": (_xlsx, spreadsheets.read_table),
    "mat": (lambda folder: _mat(folder, packed=False), _read_samples),
    "mat packed": (lambda folder: _mat(folder, packed=True), _read_samples),
    "mat hdf5": (_hdf5, _read_samples),
    "parquet": (_parquet, _table),
    "preset": (_preset, lambda path: presets.load(str(path))),
}


def one_case(
    source: Path, read: Callable[[Path], object], rng: random.Random, folder: Path
) -> tuple[str, Path]:
    """Mutate one file of `source` and read it in a child process: how it ended, and what it read.

    Returns
    -------
    ending, path
        "" for data read or a clean error.
    """
    target = folder / source.name
    shutil.rmtree(target, ignore_errors=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    files = sorted(p for p in target.rglob("*") if p.is_file()) if source.is_dir() else [target]
    file = rng.choice(files)
    file.write_bytes(mutate(file.read_bytes(), rng))
    size = sum(p.stat().st_size for p in files)
    begin, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.write(end, _ending(read, target, size).encode()[:4000])
        os._exit(0)
    os.close(end)
    with open(begin, "rb") as pipe:  # noqa: PTH123 - of a number
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        text = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return text, file


def _ending(read: Callable[[Path], object], path: Path, size: int) -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))
    signal.alarm(SECONDS)
    before, since = _peak(), time.monotonic()
    text = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except SleeptoolsError as e:
        text = "" if e.exit_code in CLEAN else f"exit {e.exit_code}: {e}"
        if "\n" in str(e):
            text = f"a message of several lines: {e}"
    except BaseException as e:
        import traceback

        frames = traceback.extract_tb(e.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "sleeptools" in f.filename]
        text = f"{type(e).__name__}: {str(e)[:200]} at {' '.join(ours[-3:])}"
    taken = _peak() - before
    if not text and taken > PER_BYTE * size + FREE:
        text = f"{taken >> 20} MiB for {size} bytes in {time.monotonic() - since:.1f} s"
    return text


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run_cases(reader: str, seed: int, count: int, folder: Path, *, until: float = 0) -> list[str]:
    """Read `count` mutated files, or as many as there is time for; return what went wrong.

    Parameters
    ----------
    until
        When to stop, of `time.monotonic`; 0 for no limit.
    """
    make, read = READERS[reader]
    (folder / "right").mkdir(parents=True)
    source = make(folder / "right")
    failures = []
    for number in range(count):
        if until and time.monotonic() > until:
            break
        rng = random.Random(f"{reader} {seed} {number}")
        text, file = one_case(source, read, rng, folder)
        if text:
            failures.append(f"{reader}, seed {seed}, case {number}, {file.name}: {text}")
    return failures


def main(name: str, seed: int, count: int, seconds: float = 0) -> None:
    """Print what went wrong with one reader, or with all of them, which share the time."""
    names = list(READERS) if name == "all" else [name]
    for reader in names:
        until = time.monotonic() + seconds / len(names) if seconds else 0
        with tempfile.TemporaryDirectory() as scratch:
            for line in run_cases(reader, seed, count, Path(scratch) / "f", until=until):
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:]))
