"""One file over HTTP, from a server that breaks off, stalls, refuses and sends other bytes."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import http_server
from sleeptools import store
from sleeptools.datasets.download import http
from sleeptools.datasets.download.http import RetryPolicy
from sleeptools.errors import DataError, Stopped, UnavailableError, UsageError

DATA = bytes(range(256)) * 4000
SUM = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[http_server.Served]:
    monkeypatch.setenv("no_proxy", "*")
    with http_server.serving() as found:
        found.files["a.edf"] = DATA
        yield found


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetch(served: http_server.Served, tmp_path: Path, waits: list[float]):
    """Fetch a.edf and return what was told."""

    def run(name: str = "a.edf", timeout: float = 300.0) -> list[tuple[int, int | None]]:
        told: list[tuple[int, int | None]] = []
        policy = RetryPolicy(attempts=4, timeout=timeout, wait=waits.append)
        http.fetch_file(
            served.url + name, tmp_path / "in/a.edf", SUM, lambda *p: told.append(p), policy
        )
        return told

    return run


def test_a_file_arrives_whole(fetch, tmp_path: Path, waits: list[float]) -> None:
    told = fetch()
    assert (tmp_path / "in/a.edf").read_bytes() == DATA
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["a.edf"]
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))
    assert [have for have, _ in told] == sorted({have for have, _ in told})
    assert waits == []


def test_a_broken_connection_is_continued(
    fetch, served: http_server.Served, waits: list[float]
) -> None:
    """More often than there are attempts, as long as each brings something."""
    stops = [HALF // 8 * k for k in range(1, 8)]
    served.faults["a.edf"] = [http_server.drop(n) for n in stops]
    told = fetch()
    assert served.begins("a.edf") == [0, *stops]
    assert {whole for _, whole in told} == {len(DATA)}
    assert waits == [1.0] * 7


def test_breaking_off_at_the_same_place_ends(
    fetch, served: http_server.Served, tmp_path: Path, waits: list[float]
) -> None:
    served.faults["a.edf"] = [http_server.drop(HALF)] * 9
    with pytest.raises(DataError, match=r"a\.edf: broke off after 0 of \d+ bytes, 4 times"):
        fetch()
    assert waits == [1, 2, 4]
    assert (tmp_path / "in/a.edf.part").read_bytes() == DATA[:HALF]
    assert not (tmp_path / "in/a.edf").exists()
    served.faults.clear()
    fetch()
    assert (tmp_path / "in/a.edf").read_bytes() == DATA
    assert served.begins("a.edf")[-1] == HALF


def test_a_server_without_ranges_starts_over(
    fetch, served: http_server.Served, tmp_path: Path
) -> None:
    served.ranges = False
    served.faults["a.edf"] = [http_server.drop(HALF), http_server.drop(HALF - 1)]
    told = fetch()
    assert (tmp_path / "in/a.edf").read_bytes() == DATA
    assert [have for have, _ in told].count(0) == 3


def test_a_server_without_lengths(fetch, served: http_server.Served, tmp_path: Path) -> None:
    served.faults["a.edf"] = [http_server.unmeasured]
    told = fetch()
    assert told[-1] == (len(DATA), None)
    assert (tmp_path / "in/a.edf").read_bytes() == DATA


def test_wrong_bytes_once(fetch, served: http_server.Served, tmp_path: Path) -> None:
    served.faults["a.edf"] = [http_server.spoil]
    fetch()
    assert (tmp_path / "in/a.edf").read_bytes() == DATA
    assert served.begins("a.edf") == [0, 0]


def test_wrong_bytes_for_ever(fetch, served: http_server.Served, tmp_path: Path) -> None:
    served.files["a.edf"] = DATA[::-1]
    with pytest.raises(DataError, match=rf"a\.edf: its SHA-256 is not {SUM}, 2 times"):
        fetch()
    assert served.begins("a.edf") == [0, 0]
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize("left", [b"x" * 1000, DATA, DATA + b"x", b"x" * len(DATA)])
def test_whatever_an_earlier_call_left(fetch, tmp_path: Path, left: bytes) -> None:
    """Other bytes, all of it, or more than it: the file is right in the end."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.edf.part").write_bytes(left)
    fetch()
    assert (tmp_path / "in/a.edf").read_bytes() == DATA
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["a.edf"]


def test_silence_is_not_waited_for_for_ever(
    fetch, served: http_server.Served, tmp_path: Path
) -> None:
    """Every answer falls silent, so that a timeout is the outcome however slow the machine is."""
    served.faults["a.edf"] = [http_server.stall(HALF)] * 99
    with pytest.raises((DataError, UnavailableError), match="timed out, 4 times"):
        fetch(timeout=0.3)
    part = (tmp_path / "in/a.edf.part").read_bytes()
    assert DATA[:HALF].startswith(part)
    served.faults.clear()
    fetch()
    assert served.begins("a.edf")[-1] == len(part)
    assert (tmp_path / "in/a.edf").read_bytes() == DATA


def test_a_file_that_is_not_there_is_not_asked_for_again(fetch, served: http_server.Served) -> None:
    with pytest.raises(DataError, match=r"none\.edf: the server says 404 Not Found"):
        fetch("none.edf")
    assert served.begins("none.edf") == [0]


def test_a_busy_server_says_when(fetch, served: http_server.Served, waits: list[float]) -> None:
    served.faults["a.edf"] = [
        http_server.say(503, Retry_After="7"),
        http_server.say(429),
        http_server.say(500),
    ]
    fetch()
    assert waits == [7, 2, 4]
    served.faults["a.edf"] = [http_server.say(503)] * 9
    with pytest.raises(UnavailableError, match="503 Service Unavailable, 4 times"):
        fetch()
    served.faults["a.edf"] = [http_server.say(500)] * 9
    with pytest.raises(DataError, match="500 Internal Server Error, 4 times"):
        fetch()


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    waits: list[float] = []
    with socket.socket() as mine:  # bound and not listening: nobody answers there
        mine.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{mine.getsockname()[1]}/a.edf"
        policy = RetryPolicy(attempts=8, wait=waits.append)
        with pytest.raises(UnavailableError, match=r"cannot be reached: .*refused, 8 times"):
            http.fetch_file(url, tmp_path / "a.edf", SUM, lambda *_: None, policy)
    assert waits == [1, 2, 4, 8, 16, 32, 60]
    with pytest.raises(UsageError, match="no address of a server"):
        http.check_address("file:///etc")
    with pytest.raises(UsageError, match="no address of a server"):
        http.check_address("https:///nowhere")


def test_a_caller_that_stops(served: http_server.Served, tmp_path: Path) -> None:
    def told(have: int, whole: int | None) -> None:
        if have:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        http.fetch_file(served.url + "a.edf", tmp_path / "a.edf", SUM, told, RetryPolicy())
    part = (tmp_path / "a.edf.part").read_bytes()
    assert part
    assert DATA.startswith(part)


def test_a_list_that_is_no_list(served: http_server.Served) -> None:
    served.files["list"] = b"x" * ((4 << 20) + 1)
    policy = RetryPolicy(wait=lambda _: None)
    with pytest.raises(DataError, match="more than 4 MiB"):
        http.fetch_bytes(served.url + "list", policy)
    served.files["list"] = b"abc"
    served.faults["list"] = [http_server.drop(2)]
    assert http.fetch_bytes(served.url + "list", policy) == b"abc"
    assert http.fetch_size(served.url + "list", policy) == 3


def test_a_part_of_a_folder_that_cannot_be(tmp_path: Path) -> None:
    from sleeptools.errors import OutputError

    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"a\.edf: cannot be written"),
        store.PartialFile(tmp_path / "file/a.edf").open(0),
    ):
        pass
