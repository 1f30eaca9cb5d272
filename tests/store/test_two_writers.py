"""Two processes on one folder: one wins or both work in turn, and never do both write.

SLEEPTOOLS_RACES is how often each command is tried (3; 50 in `make fuzz`).
"""

import os
import random
from dataclasses import replace

import pytest

import rotation
from tests.helpers import faults
from tests.helpers.fault_chain import COMMANDS, Chain, check_writers
from tests.helpers.faults import Run

RACES = int(os.environ.get("SLEEPTOOLS_RACES", "3"))
PAUSE = 400  # ms in which one process stands still in the midst of its work
LATE = 0.15  # s, at most, between their beginnings


def race(chain: Chain, name: str, number: int, *, namespace: bool) -> list[int]:
    """Race two of a command: one stands still at some operation, the other begins some time on."""
    rng = random.Random(f"{rotation.SEED} {name} {number} {namespace}")
    last = len(chain.undisturbed(name)[0].operations)
    runs = [
        Run([], "", rng.randint(1, last), faults.PAUSE, PAUSE, namespace=namespace),
        Run([], "", delay=rng.uniform(0, LATE), namespace=namespace),
    ]
    rng.shuffle(runs)
    return chain.check_race(name, *runs)


@pytest.mark.parametrize("name", ["hypnogram", "convert"])
def test_one_of_two_writes(chain: Chain, name: str) -> None:
    race(chain, name, 0, namespace=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_two_at_once(chain: Chain, name: str) -> None:
    for number in range(RACES):
        race(chain, name, number, namespace=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_two_at_once_in_namespaces_of_their_own(chain: Chain, name: str, namespaces: None) -> None:
    for number in range(RACES):
        race(chain, name, number, namespace=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_dead_process_of_another_namespace_is_followed(
    chain: Chain, name: str, namespaces: None
) -> None:
    """It has the same number in its own namespace as the one that comes after it."""
    rng = random.Random(f"{rotation.SEED} {name}")
    last = len(chain.undisturbed(name)[0].operations)
    for _ in range(RACES):
        chain.prepare(name)
        run = Run(chain.words(name), str(chain.out), namespace=True)
        killed = chain.server.run(replace(run, at=rng.randint(5, last), mode=faults.KILL))
        assert killed.code == faults.KILLED
        again = chain.server.run(run)
        assert again.code == 0, again.text
        chain.check_complete(name, killed)


@pytest.fixture
def namespaces(chain: Chain, skip_loudly) -> None:
    tried = chain.server.run(Run(["--version"], str(chain.out), namespace=True))
    if "PermissionError" in tried.text:
        skip_loudly("PID namespaces are not tried: they need a privilege")
    assert tried.code == 0, tried.text


@pytest.mark.parametrize(
    "operations",
    [
        [(0, "linked", "/o/.lock"), (1, "linked", "/o/.lock")],
        [(0, "linked", "/o/.lock"), (1, "unlink", "/o/.lock")],
        [(0, "linked", "/o/.lock"), (1, "write", "/o/a/.x.1-01234567.part")],
        [(0, "linked", "/o/.lock"), (0, "unlink", "/o/.lock"), (0, "rename", "/o/x")],
        [(0, "linked", "/o/.y.lock"), (0, "write", "/o/.x.1-01234567.part")],
    ],
)
def test_two_writers_would_be_noticed(operations) -> None:
    with pytest.raises(AssertionError):
        check_writers(operations)


def test_one_writer_after_the_other_is_fine() -> None:
    lines = [("linked", "/o/.lock"), ("write", "/o/a/.x.1-01234567.part"), ("unlink", "/o/.lock")]
    files = [("linked", "/o/.x.lock"), ("write", "/o/.x.1-01234567.part"), ("rename", "/o/x")]
    check_writers([(run, *line) for run in (0, 1) for line in lines] + [(0, *f) for f in files])
