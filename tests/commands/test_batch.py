"""Work on many recordings: the same outcome for any number of processes, and an orderly end."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sleeptools.errors import DataError, Stopped, StorageError
from sleeptools.store import batch, workers

Row = tuple[dict[str, Any], str]


def work(number: int) -> Row:
    if number == 2:
        raise DataError("number is 2", hint="a hint")
    if number == 3:
        raise FileNotFoundError(2, "gone", "x.edf")
    time.sleep(0.05 * (number % 2))  # so that they end in another order than they began
    return {"recording": str(number), "process": 0}, f"{number} done"


def die(number: int) -> Row:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(number)


def full(number: int) -> Row:
    raise StorageError(f"no room for {number}")


def bug(number: int) -> Row:
    raise ZeroDivisionError(number)


def stop(woken: Path, number: int) -> Row:
    if number == 1:
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(600)
        woken.touch()
    return work(number)


class Callback:
    """Work in a place where Python drops exceptions."""

    def __init__(self, seconds: float, began: Path) -> None:
        self.seconds, self.began = seconds, began

    def __del__(self) -> None:
        end = time.monotonic() + self.seconds
        self.began.touch()
        while time.monotonic() < end:
            time.sleep(0.01)


def miss(began: Path) -> Row:
    Callback(0.5, began)
    return {}, ""


def deaf(began: Path) -> Row:
    Callback(600, began)
    return {}, ""


def bug_once(began: Path) -> Row:
    while not began.exists():
        time.sleep(0.01)
    raise ZeroDivisionError


def items(do: Any, count: int = 6) -> list[tuple[str, Any]]:
    return [(f"r{i}", partial(do, i)) for i in range(count)]


def test_any_number_of_processes_has_one_outcome(tmp_path: Path) -> None:
    outcomes, listed = [], []
    for jobs in (1, 3):
        steps: list[batch.FinishedItem] = []
        outcomes.append(batch.run(items(work), tmp_path, steps.append, jobs=jobs))
        listed.append((tmp_path / "failures.csv").read_text())
        assert [s.number for s in steps] == [1, 2, 3, 4, 5, 6]
        assert {s.id: s.text for s in steps} == {
            "r0": "0 done",
            "r1": "1 done",
            "r2": "number is 2; a hint",
            "r3": "x.edf: cannot be read: gone",
            "r4": "4 done",
            "r5": "5 done",
        }
        assert {s.id for s in steps if s.failed} == {"r2", "r3"}
    assert outcomes[0].rows == outcomes[1].rows
    assert outcomes[0].failure_facts() == outcomes[1].failure_facts()
    assert [r["recording"] for r in outcomes[0].rows] == ["0", "1", "4", "5"]
    assert listed[0] == listed[1]


def test_a_killed_process_fails_its_own_recording_only(tmp_path: Path) -> None:
    outcome = batch.run(items(die), tmp_path, jobs=2)
    assert "killed by SIGKILL" in str(outcome.failures["r1"])
    assert outcome.failures["r1"].code == "MEM-FULL"
    assert [r["recording"] for r in outcome.rows] == ["0", "4", "5"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_concerns_all_ends_all(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(StorageError):
        batch.run(items(full), tmp_path, jobs=jobs)
    with pytest.raises(ZeroDivisionError):
        batch.run(items(bug), tmp_path, jobs=jobs)


def test_a_signal_ends_every_process_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        batch.run(items(partial(stop, tmp_path / "woken")), tmp_path, jobs=2)
    assert not (tmp_path / "woken").exists()  # the sleeping process was ended, not waited for
    assert signal.getsignal(signal.SIGTERM) == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{c}/cmdline").read_bytes() for c in children]
    assert not any(b"spawn_main" in c for c in commands)


@pytest.mark.parametrize("task", [miss, deaf])
def test_a_process_that_misses_the_signal_is_not_waited_for(
    task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python drops what a signal's handler raises in a callback; the end came never, then."""
    monkeypatch.setattr(workers, "PATIENCE", 2.0)
    began = tmp_path / "began"
    tasks = [partial(bug_once, began), partial(task, began)]
    with pytest.raises(ZeroDivisionError):
        batch.run([(f"r{i}", task) for i, task in enumerate(tasks)], tmp_path, jobs=2)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not any(b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes() for c in children)


def test_tasks_are_given_only_as_they_are_taken() -> None:
    """So that what is read ahead of a stopped loop is one task for each process."""
    found = workers.run([partial(work, i) for i in (0, 1, 4, 5)], 2)
    assert next(found)[1][1].endswith("done")
    found.close()


def test_a_failure_is_told_with_what_to_do_about_it(tmp_path: Path) -> None:
    """In a batch there is no line for each one's hint; a long one is cut in the last line only."""
    long = "there are: " + ", ".join(f"channel {n}" for n in range(200))

    def fail() -> tuple[dict[str, Any], str]:
        raise DataError("no signal 'EEG'", hint=long, code="SIG-MISSING")

    alone = batch.run([("a", fail)], tmp_path)
    with pytest.raises(DataError, match=r"^a: no signal 'EEG'$") as e:
        alone.raise_failures(tmp_path)
    assert e.value.hint == long
    outcome = batch.run([("a", fail), ("b", lambda: ({}, ""))], tmp_path)
    facts = {"code": "SIG-MISSING", "message": "no signal 'EEG'", "hint": long}
    assert outcome.failure_facts() == {"a": facts}
    assert "channel 199" in (tmp_path / "failures.csv").read_text()
    with pytest.raises(DataError, match=r"first of them a: no signal 'EEG'; there are: .*\[...\]$"):
        outcome.raise_failures(tmp_path)
