"""A command killed at any write operation is continued by the same command; a full disk is 74.

The quick tests take a few operations of each command, others with every SLEEPTOOLS_SEED; the slow
ones take all of them, or `MOST` spread ones of the commands that have more.
"""

import errno
from collections.abc import Sequence

import pytest

import rotation
from tests.helpers import faults
from tests.helpers.fault_chain import COMMANDS, Chain
from tests.helpers.faults import Ended

QUICK = 3  # operations of each command
SLOW = {
    *("report", "report again", "tables", "figures"),
    *("evaluate", "evaluate again", "train", "export", "export again"),
}
"""Commands that compute for a second."""
MOST = 200  # operations of a command
SHARES = 8  # in which a command's operations are divided, so that each test is short
FLUSHES = {"fsync", "close", "ftruncate"}
FAULTS = {
    "killed": (faults.KILL, 0, None),
    "disk full once": (faults.FAIL, errno.ENOSPC, None),
    "disk full from there on": (faults.FAIL_ON, errno.ENOSPC, None),
    "flush fails": (faults.FAIL, errno.EIO, FLUSHES),
    "short write": (faults.SHORT, 0, {"write"}),
}
"""What goes wrong: mode, error, and the names of the operations; None for all."""


def operations(ended: Ended, fault: str) -> list[int]:
    """Numbers of the operations at which something can go wrong in this way."""
    names = FAULTS[fault][2]
    numbers = [n for n, (name, _) in enumerate(ended.operations, 1) if not names or name in names]
    return spread(numbers, MOST)


def spread(numbers: Sequence[int], count: int) -> list[int]:
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[i * (len(numbers) - 1) // (count - 1)] for i in range(count)]


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SLOW))
@pytest.mark.parametrize("fault", ["killed", "disk full from there on"])
def test_a_few_operations(chain: Chain, name: str, fault: str) -> None:
    numbers = operations(chain.undisturbed(name)[0], fault)
    for at in rotation.sample(numbers, QUICK, name, fault):
        chain.check_fault(name, at, *FAULTS[fault][:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("share", range(SHARES))
def test_every_operation(chain: Chain, name: str, fault: str, share: int) -> None:
    for at in operations(chain.undisturbed(name)[0], fault)[share::SHARES]:
        chain.check_fault(name, at, *FAULTS[fault][:2])


def test_no_operation_is_overlooked(chain: Chain) -> None:
    """What is opened is closed, what is renamed was flushed, and so was its folder."""
    names = [name for name, _ in chain.undisturbed("hypnogram")[0].operations]
    assert names.count("rename") == 2
    assert names.count("link") == 2
    assert names.count("write") == 4
    assert names.count("fsync") == 4
    assert names.count("open") == names.count("close")
