"""Cards that cannot run the CUDA kernels, with a core that only says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from sleeptools import native
from sleeptools.native import devices


@pytest.fixture
def fake_core(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Put a core with CUDA kernels in the place of the built one; gives the devices asked."""

    def use(obstacle: Callable[[int], str], architectures: tuple[str, ...] = ("sm_90",)) -> list:
        asked: list[int] = []

        def cuda_obstacle(device: int) -> str:
            asked.append(device)
            return obstacle(device)

        module = SimpleNamespace(
            cuda_architectures=lambda: list(architectures),
            cuda_devices=lambda: ["old card", "new card"],
            cuda_obstacle=cuda_obstacle,
        )
        core = SimpleNamespace(module=module, variant="fake", obstacles={})
        monkeypatch.setattr(native, "loaded_core", lambda: core)
        monkeypatch.setattr(devices, "loaded_core", lambda: core)
        return asked

    return use


def test_each_device_is_asked_once_and_told_of_once(fake_core, caplog) -> None:
    asked = fake_core(lambda device: "too old" if device == 0 else "")
    with caplog.at_level(logging.WARNING):
        answers = [devices.runs_kernels(device) for device in (0, 1, 0, 1, 0)]
    assert answers == [False, True, False, True, False]
    assert asked == [0, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "warning: cuda:0: too old; the native kernels are compiled for sm_90, so PyTorch computes "
        "in their place"
    ]
    assert native.describe() == (
        "native: fake, cuda sm_90 (old card, new card; not on cuda:0: too old)"
    )


def test_an_error_is_not_remembered_as_an_answer(fake_core) -> None:
    def broken(device: int) -> str:
        raise RuntimeError("an illegal memory access was encountered")

    asked = fake_core(broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="illegal"):
            devices.runs_kernels(0)
    assert asked == [0, 0]


def test_a_core_without_cuda_asks_no_device(fake_core) -> None:
    asked = fake_core(lambda device: "", architectures=())
    assert not devices.runs_kernels(0)
    assert asked == []
