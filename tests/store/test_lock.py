"""Who holds a folder, and what may be written: dead holders, other containers, others' files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.errors import DataError, OutputError
from sleeptools.store import files, locks
from sleeptools.store.locks import lock_file

HOLDER = """
import sys
from pathlib import Path
from sleeptools import store
with store.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def held_text(folder: Path) -> dict[str, object]:
    """The text of a lock of this process."""
    with store.lock(folder):
        text: dict[str, object] = json.loads((folder / ".lock").read_text())
    return text


def test_a_killed_holder_is_followed_and_a_living_one_is_not(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        text = (tmp_path / ".lock").read_text()
        elsewhere = json.loads(text) | {"pid": 1, "namespace": "pid:[1]"}  # another PID namespace
        (tmp_path / ".lock").write_text(json.dumps(elsewhere))
        with pytest.raises(OutputError, match="in use by process 1 "), store.lock(tmp_path):
            pass
        holder.kill()
    with store.lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {},  # our own number, as of a container before this one
        {"namespace": "pid:[1]", "pid": 1},
        {"boot": "before", "pid": 1},
    ],
)
def test_a_lock_that_nobody_holds_is_taken_over(tmp_path: Path, changes: dict[str, object]) -> None:
    text = held_text(tmp_path) | changes
    (tmp_path / ".lock").write_text(json.dumps(text))
    with store.lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_without_flock_the_text_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleeptools.store.locks.lock_descriptor", lambda _: None)
    alive = held_text(tmp_path)
    for text, free in (
        (alive, False),
        (alive | {"namespace": "pid:[1]"}, False),  # it cannot be seen from here
        (alive | {"started": 1}, True),  # another process had our number
        (alive | {"boot": "before"}, True),
        (alive | {"boot": "before", "host": "another"}, False),
    ):
        (tmp_path / ".lock").write_text(json.dumps(text))
        assert store.clear_stale_lock(tmp_path) is free


def test_the_text_of_a_lock_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a disk that is nearly full takes a part of what is written at a time."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[: len(data) // 2]))
    assert held_text(tmp_path)["pid"] == os.getpid()


def test_only_ones_own_lock_is_removed(tmp_path: Path) -> None:
    with store.lock(tmp_path):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("of another")
    assert (tmp_path / ".lock").read_text() == "of another"


def test_unfinished_files_of_living_writers_stay(tmp_path: Path) -> None:
    (tmp_path / f".x.{os.getpid()}-0123abcd.part").touch()  # of an earlier process of our number
    (tmp_path / f".x.{os.getpid()}.part").touch()
    (tmp_path / ".notes.part").touch()  # not of ours
    with store.atomic_path(tmp_path / "y") as draft:
        store.sweep(tmp_path)
        assert draft.exists()
        draft.write_text("y")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".notes.part", "y"]


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.lock_descriptor
    moments = ["sweep"]

    def late(handle: int) -> bool | None:
        if moments:
            moments.pop()
            store.sweep(tmp_path)  # of another process
        return real(handle)

    monkeypatch.setattr(files, "lock_descriptor", late)
    with store.atomic_write(tmp_path / "x") as file:
        file.write(b"content")
        store.sweep(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"content"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_lock_that_is_not_held_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that sweeps may hold the file for a moment before it becomes the lock."""
    real, answers = files.lock_descriptor, [False]
    for module in (files, locks):
        monkeypatch.setattr(
            module, "lock_descriptor", lambda handle: answers.pop() if answers else real(handle)
        )
    with store.lock(tmp_path):
        assert not store.clear_stale_lock(tmp_path)


def test_a_single_file_leaves_the_rest_of_its_folder_alone(tmp_path: Path) -> None:
    for name in (".a.html.9999999.part", ".b.html.9999999.part"):
        (tmp_path / name).touch()
    with lock_file(tmp_path / "a.html"), store.lock(tmp_path / "sub"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".b.html.9999999.part"]


def test_a_companion_of_two_files_has_one_writer(tmp_path: Path) -> None:
    with (
        lock_file(tmp_path / "a.tsv", tmp_path / "a.json"),
        pytest.raises(OutputError, match=r"a\.json: in use by process"),
        lock_file(tmp_path / "a.txt", tmp_path / "a.json"),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "facts",
    [
        {"recordings": ["../evil"]},
        {"recordings": ["a/b"]},
        {"recordings": [".hidden"]},
        {"recordings": [""]},
        {"recordings": [3]},
        {"recordings": ["a\nb"]},
        {"recordings": {"..\\evil": {}}},
        {"failed": {"../x": "why"}},
        {"files": {"../x": "0"}},
        {"files": {"/etc/passwd": "0"}},
    ],
)
def test_names_in_a_manifest_stay_in_the_folder(tmp_path: Path, facts: dict[str, object]) -> None:
    store.write_json(tmp_path / "manifest.json", {"format": "k", "version": 1, "files": {}} | facts)
    with pytest.raises(DataError) as caught:
        store.read_manifest(tmp_path, "k")
    assert caught.value.code == "MAN-NAME"


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    store.refuse_foreign(tmp_path / "new", "k")
    (tmp_path / ".hidden").touch()
    store.refuse_foreign(tmp_path, "k")
    (tmp_path / "index.csv").touch()
    store.refuse_foreign(tmp_path, "k", ["index.csv"])
    with pytest.raises(OutputError, match=r"such as index.csv"):
        store.refuse_foreign(tmp_path, "k")
    store.Manifest("k").write(tmp_path)
    store.refuse_foreign(tmp_path, "k")
    with pytest.raises(OutputError, match="holds k; expected other"):
        store.refuse_foreign(tmp_path, "other")


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    store.write_text(tmp_path / "a", "abc")
    store.Manifest("sleeptools-x").write(tmp_path, [tmp_path / "a"])
    store.check_listed(tmp_path / "a")
    (tmp_path / "a").write_text("abd")
    with pytest.raises(DataError, match="not what the manifest") as caught:
        store.check_listed(tmp_path / "a")
    assert caught.value.code == "MAN-HASH"
    assert store.unlisted(tmp_path) == []
    (tmp_path / "b").touch()
    assert store.unlisted(tmp_path) == ["b"]


def test_a_folder_that_takes_no_file_is_refused_at_once() -> None:
    held = store.lock_file(Path("/proc/night.edf"))
    with pytest.raises(OutputError, match="no file can be made there") as caught, held:
        pass
    assert caught.value.code == "OUT-WRITE"
