"""A scratch array holds what was put into it, in memory and in its file, and takes no addresses."""

from pathlib import Path

import numpy as np
import pytest

from sleeptools.errors import StorageError
from sleeptools.store import Scratch, scratch

SHAPE = (11, 3, 5)


@pytest.fixture(params=[0, 1 << 20], ids=["file", "memory"])
def filled(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Scratch, np.ndarray]:
    monkeypatch.setattr(scratch, "IN_MEMORY", request.param)
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    made = Scratch(tmp_path, SHAPE)
    for channel in range(SHAPE[1]):
        made.put(channel, values[:, channel])
    assert not list(tmp_path.iterdir())  # the file has no name
    return made, values


def test_epochs_come_back(filled: tuple[Scratch, np.ndarray]) -> None:
    made, values = filled
    assert (len(made), made.shape) == (11, SHAPE)
    for index in (
        slice(None),
        slice(2, 7),
        slice(9, 40),
        slice(4, 4),
        np.array([3]),
        np.array([7, 0, 1, 2, 10, 10]),
        np.array([[0, 1, 2], [5, 4, 3]]),
    ):
        taken = made[index]
        np.testing.assert_array_equal(taken, values[index])
        assert taken.flags.c_contiguous


def test_epochs_are_left_out(filled: tuple[Scratch, np.ndarray]) -> None:
    made, values = filled
    mask = np.arange(11) % 3 > 0
    made.keep(mask)
    assert made.shape == (7, 3, 5)
    np.testing.assert_array_equal(made[np.array([[6, 0]])], values[mask][[[6, 0]]])
    np.testing.assert_array_equal(np.concatenate(list(made.pieces())), values[mask])


def test_pieces_are_small(
    filled: tuple[Scratch, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, values = filled
    monkeypatch.setattr(scratch, "BLOCK", 2 * 3 * 5 * 4)
    pieces = list(made.pieces())
    assert [len(p) for p in pieces] == [2, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(pieces), values)


def test_a_full_disk_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)

    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", refuse)
    with pytest.raises(StorageError, match="no room for a scratch file") as caught:
        Scratch(tmp_path, SHAPE)
    assert caught.value.code == "DISK-FULL"
