"""A command killed at any write operation is continued by the same command; a full disk is 74.

The quick tests take a few operations of each command, spread; the slow ones take all of them.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleeptools.commands import convert, preprocess, train
from sleeptools.commands.simulate import simulate
from sleeptools.preprocessing import presets
from tests.helpers import faults
from tests.helpers.faults import FaultServer

QUICK = 3  # operations of each command
SLOW = {"report", "tables", "evaluate"}  # they compute for seconds
PASSING = {"created", "wall_seconds", "peak_memory_mib", "command", "environment"}
COMMANDS = {
    "convert": ("convert", "sleep-edf", "{source}/raw", "{out}/recordings"),
    "preprocess": ("preprocess", "sleep-edf", "{source}/recordings", "{out}/epochs"),
    "evaluate": ("evaluate", "{out}/run"),
    "report": ("report", "{source}/run", "--out", "{out}/report.html"),
    "tables": ("report", "{source}/run", "--format", "csv", "--out", "{out}/tables"),
    "score": (
        *("score", "{source}/run/leak-free/seed-0/fold-00", "{source}/raw/SC4001E0-PSG.edf"),
        *("--out", "{out}/scores"),
    ),
    "hypnogram": ("hypnogram", "{source}/raw/SC4001EC-Hypnogram.edf", "{out}/SC4001_events.tsv"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: a chain of tiny nights."""
    folder = tmp_path_factory.mktemp("source")
    raw = simulate("sleep-edf", folder / "raw", subjects=2, hours=0.5)
    convert.convert("sleep-edf", raw, folder / "recordings")
    epochs = preprocess.preprocess(
        presets.load("sleep-edf"), folder / "recordings", folder / "epochs"
    )
    options = train.TrainOptions(model="ulw-sleepnet", folds=2, passes=1, explain=False)
    train.train(epochs, folder / "run", options)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    with faults.fault_server(tmp_path_factory.mktemp("server")) as started:
        yield started


def prepared(folder: Path, source: Path, name: str) -> tuple[Path, list[str]]:
    """Make the folder that a command writes to; return it and the command's words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if name == "evaluate":
        shutil.copytree(source / "run", folder / "run")
    return folder, [word.format(source=source, out=folder) for word in COMMANDS[name]]


def contents(folder: Path) -> dict[str, bytes]:
    """Files by path, without those that tell the time."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    timed = ("manifest.json", "report.html", "failures.csv")
    return {n: b"" if p.name in timed else p.read_bytes() for n, p in files.items()}


def operations(count: int, share: int | None) -> list[int]:
    if share is None or count <= share:
        return list(range(1, count + 1))
    return sorted({1 + i * (count - 1) // (share - 1) for i in range(share)})


def sweep(
    server: FaultServer, source: Path, folder: Path, name: str, mode: int, share: int | None
) -> None:
    out, words = prepared(folder, source, name)
    code, count, text = server.run(words, out)
    assert code == 0, text
    assert count > 5
    undisturbed = contents(out)
    for at in operations(count, share):
        out, words = prepared(folder, source, name)
        before = contents(out)
        code, _, text = server.run(words, out, at, mode)
        if mode == faults.KILL:
            assert code == faults.KILLED, (name, at, code, text)
        else:
            assert code in {0, 74}, (name, at, code, text)
            assert "Traceback" not in text
            left = contents(out)
            assert before.items() <= left.items(), (name, at)
            assert not [n for n in left if n.endswith(".part")], (name, at)
        code, _, text = server.run(words, out)
        assert code == 0, (name, at, text)
        assert contents(out) == undisturbed, (name, at)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SLOW))
@pytest.mark.parametrize("mode", [faults.KILL, faults.FAIL], ids=["killed", "disk full"])
def test_a_few_operations(
    server: FaultServer, source: Path, tmp_path: Path, name: str, mode: int
) -> None:
    sweep(server, source, tmp_path / "out", name, mode, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "mode", [faults.KILL, faults.FAIL, faults.FAIL_ON], ids=["killed", "once", "from there on"]
)
def test_every_operation(
    server: FaultServer, source: Path, tmp_path: Path, name: str, mode: int
) -> None:
    sweep(server, source, tmp_path / "out", name, mode, None)
