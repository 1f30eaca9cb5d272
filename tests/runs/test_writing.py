"""A run folder has one writer, `runs.writing`, besides those of models and checkpoints."""

import ast
import sys
from pathlib import Path

import pytest

import sleeptools
from sleeptools import store
from sleeptools.commands.external_test import score
from sleeptools.commands.train import TrainOptions, train
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.runs import writing
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
PACKAGE = Path(sleeptools.__file__).parent
WRITERS = {
    "runs/writing.py",
    "training/checkpoint.py",
    "runs/model_folder.py",
    "runs/task_table.py",  # of the plan, beside the run
}
ROOMS = ["runs", "training", "models", "commands/train.py", "commands/external_test.py"]
FILES = {
    "FOLDS_FILE": "folds.parquet",
    "FOLDS_EPOCHS": "folds_epochs.parquet",
    "NIGHTS_FILE": "nights.parquet",
    "PREDICTIONS_FILE": "predictions.parquet",
    "AUDIT_FILE": "audit.csv",
    "LOG_FILE": "log.csv",
    "SCORING_FILE": "scoring.json",
    "EXPLAIN": "explain.safetensors",
    "STATE": "state.safetensors",
    "LAST_STATE": "last.safetensors",
}
"""Constants that name the files that only a run has, and their names."""


def is_write(call):
    """Whether a call goes to a writing function of `store`, or to a manifest's `write`."""
    owner = getattr(getattr(call.func, "value", None), "id", "")
    name = getattr(call.func, "attr", "")
    return (owner, name) == ("manifest", "write") or (
        owner == "store" and name.startswith(("write_", "atomic_"))
    )


def writing_calls(path):
    tree = ast.parse(path.read_text())
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and is_write(n)]


def words(call):
    """Every name and every text in a call."""
    for node in ast.walk(call):
        for attribute in ("id", "attr", "value"):
            word = getattr(node, attribute, None)
            if isinstance(word, str):
                yield word


def modules(*rooms):
    for room in rooms:
        path = PACKAGE / room
        yield from (path.rglob("*.py") if path.is_dir() else [path])


def test_the_rooms_that_make_runs_write_in_one_place():
    writers = {str(p.relative_to(PACKAGE)) for p in modules(*ROOMS) if writing_calls(p)}
    assert writers == WRITERS


def test_no_other_module_names_a_file_of_a_run_to_write_it():
    targets = {*FILES, *FILES.values()}
    for path in modules("."):
        if str(path.relative_to(PACKAGE)) not in WRITERS:
            for call in writing_calls(path):
                assert not targets & set(words(call)), f"{path}:{call.lineno}"


def test_every_file_of_a_run_comes_from_its_writers(tmp_path, monkeypatch):
    """A training and an external test, and which module asked `store` for each file."""
    writers = {}
    atomic_path = store.files.atomic_path

    def spy(path):
        frame = sys._getframe(1)
        while any(name in frame.f_code.co_filename for name in ("/store/", "contextlib")):
            frame = frame.f_back
        writers[path] = str(Path(frame.f_code.co_filename).relative_to(PACKAGE))
        return atomic_path(path)

    data = write_epochs(tmp_path / "epochs", subjects=4, count=10)
    tested = write_epochs(tmp_path / "tested", subjects=2, count=10)
    small = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}
    monkeypatch.setattr(store.files, "atomic_path", spy)
    runs = tmp_path / "run", tmp_path / "external", tmp_path / "held-out"
    train(data, runs[0], TrainOptions(folds=2, passes=1, threads=1, fold=0, settings=small))
    score(runs[0] / "leak-free/seed-0/fold-00", tested, runs[1], allow_shared_subject_ids=True)
    unseen = TrainOptions(final=True, hold_out=("S03",), passes=1, threads=1, settings=small)
    train(data, runs[2], unseen)
    files = {path for run in runs for path in run.rglob("*") if path.is_file()}
    names = {path.name for path in files}
    assert names >= {*FILES.values()} - {"folds_epochs.parquet", "state.safetensors"}
    assert {writers[path] for path in files if path.suffix != ".safetensors"} <= WRITERS
    assert set(writers.values()) <= WRITERS


def test_the_fingerprint_is_that_of_the_files(tmp_path):
    first, same, different = (
        writing.epochs_fingerprint(open_epochs(write_epochs(tmp_path / name, count=5, seed=seed)))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == same
    assert first["sha256"] != different["sha256"]
    assert (first["recordings"], first["count"]) == (different["recordings"], different["count"])
