"""`fetch`: a whole data set from a server, by the publisher's sums, and continued."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import http_server
from sleeptools import datasets, registry, store
from sleeptools.commands import fetch
from sleeptools.commands.fetch import Server
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import sleep_edf
from sleeptools.datasets.download import transfer
from sleeptools.datasets.download.http import RetryPolicy
from sleeptools.errors import DataError, UnavailableError, UsageError

CASSETTE = [
    f"sleep-cassette/SC4{n}E{end}.edf"
    for n in ("001", "002", "201", "822")
    for end in ("0-PSG", "C-Hypnogram")
]
TELEMETRY = [f"sleep-telemetry/ST7011J{end}.edf" for end in ("0-PSG", "P-Hypnogram")]
LISTS = ["RECORDS", "RECORDS-v1", "SC-subjects.xls", "ST-subjects.xls"]
POLICY = RetryPolicy(attempts=3, timeout=300.0, wait=lambda _: None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[http_server.Served]:
    """A small set in the publisher's layout, whose list passes for the published one."""
    monkeypatch.setenv("no_proxy", "*")
    with http_server.serving() as found:
        for number, name in enumerate([*CASSETTE, *TELEMETRY, *LISTS]):
            found.files[name] = bytes([number]) * (90_000 if "PSG" in name else 900)
        sums = found.list_sums()
        monkeypatch.setattr(sleep_edf, "SUMS_SHA256", hashlib.sha256(sums).hexdigest())
        yield found


def run(served: http_server.Served, dest: Path, **options) -> list[transfer.FetchProgress]:
    told: list[transfer.FetchProgress] = []
    server = Server(served.url, policy=POLICY)
    fetch.fetch("sleep-edf", dest, server, told.append, **options)
    return told


def there(dest: Path) -> list[str]:
    return sorted(str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file())


def test_all_of_it(served: http_server.Served, tmp_path: Path) -> None:
    told = run(served, tmp_path / "raw")
    assert there(tmp_path / "raw") == sorted(served.files)
    for name, data in served.files.items():
        assert (tmp_path / "raw" / name).read_bytes() == data
    steps = [p.step for p in told if p.step]
    assert [s.number for s in steps] == list(range(1, 15))
    assert {s.total for s in steps} == {14}
    whole = sum(len(d) for n, d in served.files.items() if n != "SHA256SUMS.txt")
    assert (told[-1].received, told[-1].total) == (whole, whole)
    served.asked.clear()
    again = run(served, tmp_path / "raw")
    assert served.asked == []  # not even the list
    assert {p.step.text for p in again if p.step} == {"as before"}


def test_the_time_left_can_be_told_early(served: http_server.Served, tmp_path: Path) -> None:
    """The first recording tells how long the others will be."""
    told = run(served, tmp_path, jobs=1)
    first = next(p for p in told if p.step and p.step.id == CASSETTE[0])
    assert first.received < 100_000
    assert first.total is not None
    assert first.total > 5 * 90_000


SUBSETS = {
    "20": [*CASSETTE[:4], "RECORDS", "RECORDS-v1", "SC-subjects.xls"],
    "78": [*CASSETTE, "RECORDS", "RECORDS-v1", "SC-subjects.xls"],
    "telemetry": [*TELEMETRY, "RECORDS", "RECORDS-v1", "ST-subjects.xls"],
}


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset(served: http_server.Served, tmp_path: Path, subset: str) -> None:
    run(served, tmp_path, subset=subset)
    assert there(tmp_path) == sorted([*SUBSETS[subset], "SHA256SUMS.txt"])


def test_the_published_list(real_data: Path) -> None:
    """Our constant is the sum of the real list, and its subsets have the published sizes."""
    path = real_data / "sleep-edf/manifest/SHA256SUMS.txt"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sleep_edf.SUMS_SHA256
    names = datasets.read_sums(path.read_text(), str(path))
    assert len(names) == 398
    counts = {s: len(sleep_edf.published(names, s)) for s in (None, "20", "78", "telemetry")}
    assert counts == {None: 398, "20": 78 + 3, "78": 306 + 3, "telemetry": 88 + 3}


def test_every_data_set_can_be_fetched_or_says_how(command, tmp_path: Path) -> None:
    assert hasattr(sleep_edf, "ADDRESS")
    for name in registry.names("datasets"):
        module = registry.load("datasets", name)
        assert hasattr(module, "ADDRESS") != hasattr(module, "HOW_TO_GET"), name
        if hasattr(module, "ADDRESS"):
            continue
        ran = command("fetch", name, "raw")
        assert ran.code == 69
        assert ran.out.rstrip() == module.HOW_TO_GET
        assert f"error: {name} cannot be fetched by a command" in ran.err
        assert f"sleeptools preprocess {name} FOLDER" in ran.err
    assert there(tmp_path) == []


def test_one_failure_stops_none_of_the_others(served: http_server.Served, tmp_path: Path) -> None:
    gone, wrong, bad = CASSETTE[0], CASSETTE[2], TELEMETRY[1]
    kept = {name: served.files[name] for name in (gone, wrong, bad)}
    del served.files[gone]
    served.files[wrong] = b"x" * 90_000
    served.faults[bad] = [http_server.drop(10)] * 9
    with pytest.raises(DataError, match=rf"3 of 14 files failed, the first of them {gone}: .*404"):
        run(served, tmp_path)
    failures = pl.read_csv(tmp_path / "failures.csv")
    assert failures["file"].to_list() == [gone, wrong, bad]
    for text, words in zip(failures["error"], ("404", "SHA-256", "broke off"), strict=True):
        assert words in text
    assert not any((tmp_path / name).exists() for name in kept)
    assert len(there(tmp_path)) == 12 + 1 + 1  # failures.csv, and the part of one file
    served.files |= kept
    served.faults.clear()
    run(served, tmp_path)
    assert there(tmp_path) == sorted(served.files)
    assert served.begins(bad)[-1] == 10


def test_a_file_that_is_not_the_published_one_is_fetched_again(
    served: http_server.Served, tmp_path: Path
) -> None:
    run(served, tmp_path)
    (tmp_path / CASSETTE[0]).write_bytes(b"cut")
    told = run(served, tmp_path)
    (step,) = [p.step for p in told if p.step and p.step.text != "as before"]
    assert step.id == CASSETTE[0]
    assert "it was not the published file" in step.text
    assert (tmp_path / CASSETTE[0]).read_bytes() == served.files[CASSETTE[0]]


def test_a_mirror_with_another_list(served: http_server.Served, tmp_path: Path) -> None:
    served.files["RECORDS"] = b"other"
    served.list_sums()
    with pytest.raises(DataError, match=r"not the list that the publisher gives out") as e:
        run(served, tmp_path / "raw")
    assert "`trust_sums`" in str(e.value.hint)
    assert not (tmp_path / "raw").exists()
    server = Server(served.url, trust_sums=True, policy=POLICY)
    fetch.fetch("sleep-edf", tmp_path / "raw", server)
    assert (tmp_path / "raw/RECORDS").read_bytes() == b"other"


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        ("0" * 64 + " ../SC4001E0-PSG.edf\n", "outside of the folder"),
        ("0" * 64 + " /tmp/SC4001E0-PSG.edf\n", "outside of the folder"),
        ("<html>not found</html>\n", "line 1 is '<html>"),
        ("0" * 63 + " SC4001E0-PSG.edf\n", "expected a SHA-256"),
        ("0" * 64 + " other.edf\n", "names no files"),
    ],
)
def test_a_hostile_list(served: http_server.Served, tmp_path: Path, sums: str, words: str) -> None:
    served.files["SHA256SUMS.txt"] = sums.encode()
    server = Server(served.url, trust_sums=True, policy=POLICY)
    with pytest.raises(DataError, match=words):
        fetch.fetch("sleep-edf", tmp_path / "raw", server)
    assert not (tmp_path / "raw").exists()


def test_a_server_that_goes_away_ends_all_at_once(
    served: http_server.Served, tmp_path: Path
) -> None:
    for name in (*CASSETTE, *TELEMETRY):
        served.faults[name] = [http_server.say(503)] * 9
    with pytest.raises(UnavailableError, match="503"):
        run(served, tmp_path, jobs=2)
    assert not (tmp_path / "failures.csv").exists()
    assert not (tmp_path / ".lock").exists()
    asked = {name for _, name, _ in served.asked}
    assert len(asked & {*CASSETTE, *TELEMETRY}) <= 2  # at most one for each thread


def test_wrong_use(served: http_server.Served, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are: 20, 78, telemetry"):
        run(served, tmp_path, subset="79")
    with pytest.raises(UsageError, match="unknown data set"):
        fetch.fetch("sleep-edff", tmp_path)
    with pytest.raises(UsageError, match="no address"):
        fetch.fetch("sleep-edf", tmp_path, Server("ftp://x"))


def test_a_dry_run_writes_nothing(command, served: http_server.Served, tmp_path: Path) -> None:
    options = ("--base-url", served.url, "--dry-run")
    ran = command("fetch", "sleep-edf", "raw", *options)
    assert ran.code == 0, ran.err
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert {name: int(size) for size, _, name in rows} == {
        name: len(data) for name, data in served.files.items() if name != "SHA256SUMS.txt"
    }
    assert {state for _, state, _ in rows} == {"new"}
    assert "to fetch: 14 files of 14, 0.5 MB\n" in ran.err
    assert there(tmp_path) == []
    run(served, tmp_path / "raw")
    (tmp_path / "raw" / CASSETTE[0]).rename(tmp_path / "raw" / f"{CASSETTE[0]}.part")
    del served.files[CASSETTE[0]]
    ran = command("fetch", "sleep-edf", "raw", *options)
    assert f"-\tbegun\t{CASSETTE[0]}" in ran.out
    assert ran.out.count("\tthere\t") == 13
    assert "to fetch: 1 file of 14, 0.0 MB and 1 file of unknown size" in ran.err


def test_from_simulated_nights_to_inspect(
    command, served: http_server.Served, tmp_path: Path
) -> None:
    made = simulate("sleep-edf", tmp_path / "made", subjects=2, hours=0.5)
    served.files = {f"sleep-cassette/{p.name}": p.read_bytes() for p in made.glob("*.edf")}
    served.list_sums()
    cut = "sleep-cassette/SC4011E0-PSG.edf"
    served.faults[cut] = [http_server.drop(1000)]
    refused = command("fetch", "sleep-edf", "raw", "--base-url", served.url)
    assert refused.code == 65
    assert "hint: files from there could be anything; --trust-sums" in refused.err
    ran = command("fetch", "sleep-edf", "raw", "--base-url", served.url, "--trust-sums")
    assert ran.code == 0, ran.err
    assert "[4/4] sleep-cassette/" in ran.err
    assert "raw: done; next: sleeptools preprocess sleep-edf raw" in ran.err
    seen = command("inspect", "raw", "--json")
    assert seen.code == 0
    (folder,) = json.loads(seen.out)
    assert folder["data_set"] == "sleep-edf"
    assert folder["totals"]["subjects"] == len(folder["nights"]) == 2
    assert command("convert", "sleep-edf", "raw").code == 0  # checks the sums again


def start(served: http_server.Served, cwd: Path, before: str = "pass") -> subprocess.Popen[str]:
    code = (
        f"import sys; {before}; from sleeptools.cli import run; sys.exit(run(['fetch', "
        f"'sleep-edf', 'raw', '--base-url', '{served.url}', '--trust-sums', '--jobs', '2']))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"no_proxy": "*"},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_fetch_is_continued(
    served: http_server.Served, tmp_path: Path, number: int
) -> None:
    """Two files stall: the command ends all the same, and what came of them is kept."""
    stuck = [CASSETTE[0], CASSETTE[2]]
    for name in stuck:
        served.faults[name] = [http_server.stall(50_000)]
    with start(served, tmp_path) as process:
        assert process.stderr is not None
        begun = process.stderr.readline()
        while {store.PartialFile(tmp_path / "raw" / n).size for n in stuck} != {50_000}:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == 75, rest
    assert begun.startswith("[1/14] ")
    assert f"error: stopped by {signal.Signals(number).name}; what is done is kept" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "raw/.lock").exists()
    run(served, tmp_path / "raw")
    assert there(tmp_path / "raw") == sorted(served.files)
    for name in stuck:
        assert served.begins(name) == [0, 50_000]


def test_a_full_disk(served: http_server.Served, tmp_path: Path) -> None:
    """A limit on the length of files stands for a quota: the same error, told the same way."""
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (40_000, 40_000))"
    with start(served, tmp_path, limit) as process:
        assert process.stderr is not None
        rest = process.stderr.read()
        assert process.wait() == 74, rest
    assert "-PSG.edf: File too large [DISK-FULL]\nhint: free some space" in rest
    parts = list((tmp_path / "raw").rglob("*.part"))
    assert parts
    assert (
        max(p.stat().st_size for p in parts) == 40_000
    )  # to the last byte that there was room for
