"""Folders made by several processes are those made by one, and a stopped command is continued."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.preprocessing import presets


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=3, nights=2, hours=0.5)


def files(folder: Path) -> dict[str, bytes]:
    skip = ("manifest.json",)
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name not in skip}


def test_folders_are_the_same_for_any_number_of_jobs(raw: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    psg = raw / "SC4011E0-PSG.edf"
    spoilt = tmp_path / "raw"
    spoilt.mkdir()
    for path in raw.glob("*.edf"):
        (spoilt / path.name).write_bytes(path.read_bytes()[: -5000 if path == psg else None])
    for jobs in (1, 2):
        for do in (
            partial(convert.convert, "sleep-edf", spoilt, tmp_path / f"recordings-{jobs}"),
            partial(preprocess.preprocess, preset, spoilt, tmp_path / f"epochs-{jobs}"),
        ):
            with pytest.raises(
                DataError, match="1 of 6 recordings failed, the first of them SC4011"
            ):
                do(jobs=jobs)
    for kind in ("recordings", "epochs"):
        one, two = (tmp_path / f"{kind}-{jobs}" for jobs in (1, 2))
        assert files(one) == files(two)
        assert len(list(one.glob("*.safetensors"))) == 5
        hashes = [store.read_json(f / "manifest.json")["files"] for f in (one, two)]
        assert hashes[0] == hashes[1]


def test_nights_are_the_same_for_any_number_of_jobs(tmp_path: Path) -> None:
    one, two = (
        simulate("sleep-edf", tmp_path / str(jobs), subjects=2, hours=0.5, fast=True, jobs=jobs)
        for jobs in (1, 2)
    )
    hashes = [store.read_json(folder / "manifest.json")["files"] for folder in (one, two)]
    assert len(hashes[0]) == 7
    assert hashes[0] == hashes[1]
    with pytest.raises(OutputError, match="fast: True there, False now"):
        simulate("sleep-edf", one, subjects=2, hours=0.5)
    with pytest.raises(UsageError, match="kjaerby is of mice"):
        simulate("kjaerby", tmp_path / "mice", subjects=1, fast=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_is_continued(raw: Path, tmp_path: Path, number: int) -> None:
    """One file is a pipe that nobody writes to, so that there is always something to stop."""
    (tmp_path / "raw").mkdir()
    for path in raw.glob("*.edf"):
        (tmp_path / "raw" / path.name).symlink_to(path)
    stuck = tmp_path / "raw/SC4021E0-PSG.edf"
    stuck.unlink()
    os.mkfifo(stuck)
    command = [
        sys.executable,
        "-m",
        "sleeptools.cli",
        "preprocess",
        "sleep-edf",
        "raw",
        "epochs",
        "--jobs",
        "2",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to every process of the command
        else:
            process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == 75, rest
    assert first.startswith("[1/6]")
    assert f"error: stopped by {signal.Signals(number).name}; what is done is kept" in rest
    assert "Traceback" not in rest
    left = {p.name for p in (tmp_path / "epochs").iterdir()}
    assert not {n for n in left if n.startswith(".") or n == "manifest.json"}
    stuck.unlink()
    stuck.symlink_to(raw / stuck.name)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "as before" in done.stderr
    assert store.verify(tmp_path / "epochs") == []
