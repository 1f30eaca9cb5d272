"""Files are whole or not there, mapped files are checked, and one folder has one writer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError, OutputError, StorageError

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "empty": np.empty((0, 5), np.int8),
    "b": np.array([-1, 2], np.int16),
}


def test_arrays_round_trip_and_are_real_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = tmp_path / "x.safetensors"
    store.write_arrays(path, ARRAYS, {"format": "f", "version": 1, "list": [1, "a"]})
    ours, theirs = store.read_tensors(path, "f"), load_file(path)
    assert ours.facts["list"] == [1, "a"]
    for name, wanted in ARRAYS.items():
        assert np.array_equal(ours[name], wanted)
        assert ours[name].dtype == wanted.dtype
        assert np.array_equal(theirs[name], wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_pieces_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    pieces = [np.zeros(3, np.float32), np.ones(7, np.float32)]
    store.write_tensors(path, {"a": (np.float32, (10,))}, lambda _: pieces, {})
    assert store.read_tensors(path)["a"].sum() == 7


@pytest.mark.parametrize("keep", [0, 5, 20, 90])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    store.write_arrays(path, ARRAYS, {"format": "f", "version": 1})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError):
        store.read_tensors(path, "f")


def test_a_newer_version_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write_arrays(path, ARRAYS, {"format": "f", "version": 2})
    with pytest.raises(DataError, match="version 2") as caught:
        store.read_tensors(path, "f", 1)
    assert caught.value.hint == "install a newer sleeptools"
    with pytest.raises(DataError, match="expected g"):
        store.read_tensors(path, "g")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    store.write_text(path, "old")
    with pytest.raises(RuntimeError), store.atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_disk_full_is_a_storage_error(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from sleeptools import store;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from sleeptools.errors import StorageError\n"
        "try: store.write_text(Path(sys.argv[1]), 'x' * 5000)\n"
        "except StorageError as e: print(e.exit_code)"
    )
    path = tmp_path / "x.txt"
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(StorageError.exit_code)
    assert not list(tmp_path.iterdir())


KILLED_WRITER = """
import os, sys
from pathlib import Path
from sleeptools import store

def wait_to_be_killed(*_):
    print("ready", flush=True)
    sys.stdin.read()

path, pieces = Path(sys.argv[1]), int(sys.argv[2])
if pieces == 20:
    os.fsync = wait_to_be_killed
with store.atomic_write(path) as file:
    for piece in range(20):
        if piece == pieces:
            file.flush()
            wait_to_be_killed()
        file.write(b"new" * 10_000)
"""


@pytest.mark.parametrize("pieces", [0, 1, 13, 20])  # 20: all are written, but not on the disk
def test_killed_while_writing_never_leaves_half(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    words = [sys.executable, "-c", KILLED_WRITER, path, str(pieces)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        (draft,) = tmp_path.glob(".*.part")
        assert draft.stat().st_size == pieces * 30_000
        writer.kill()
    assert path.read_bytes() == b"old"
    with store.lock(tmp_path):
        assert not draft.exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    words = f"in use by process {os.getpid()}"
    with store.lock(tmp_path), pytest.raises(OutputError, match=words), store.lock(tmp_path):
        pass
    with store.lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    import socket

    no_pid = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    held = {"host": socket.gethostname(), "pid": no_pid, "since": ""}
    (tmp_path / ".lock").write_text(json.dumps(held))
    with store.lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("job", "start", "free"),
    [("7", "2", True), ("7", "1", False), ("8", "2", False), (None, "", False)],
)
def test_a_job_that_slurm_queued_again_takes_over_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str | None, start: str, free: bool
) -> None:
    """Its node may have died, and with it the process that this one cannot see."""
    held = {"host": "a node that is gone", "pid": 1, "since": "", "job": "7", "start": 1}
    (tmp_path / ".lock").write_text(json.dumps(held))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job is not None:
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", start)
    if free:
        with store.lock(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text())["start"] == 2
    else:
        with pytest.raises(OutputError, match="on a node that is gone"), store.lock(tmp_path):
            pass


def test_verify_names_what_changed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        store.write_text(tmp_path / name, name)
    store.Manifest("k").write(tmp_path, [tmp_path / n for n in "abc"])
    assert store.verify(tmp_path) == []
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").unlink()
    assert store.verify(tmp_path) == ["a: content differs from the manifest", "b: missing"]


def test_missing_input_says_what_is_near(tmp_path: Path) -> None:
    store.write_text(tmp_path / "near", "")
    with pytest.raises(MissingInputError) as caught:
        store.need(tmp_path / "far" / "off")
    assert "near" in str(caught.value.hint)


def test_a_mistyped_path_names_the_like_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        (tmp_path / f"a{number:02d}").mkdir()
    (tmp_path / "recordings/in").mkdir(parents=True)
    with pytest.raises(MissingInputError) as caught:
        store.need(Path("recordngs/in"))
    hint = str(caught.value.hint)
    assert hint.startswith(f"did you mean 'recordings/in'? {tmp_path} holds: a00, ")
    assert hint.endswith("a07, ...")
    with pytest.raises(MissingInputError) as caught:
        store.need(tmp_path / "recordngs/out")
    assert str(caught.value.hint).startswith(f"{tmp_path} holds: ")
