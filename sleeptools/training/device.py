"""The device that a training runs on, how it multiplies float32, and its CPU threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch

from sleeptools.errors import UnavailableError, UsageError
from sleeptools.models.recipe.recipe import StepPrecision
from sleeptools.native import threads


def choose_device(name: str) -> torch.device:
    """Resolve "auto", "cpu" or "cuda".

    Raises
    ------
    UsageError
        For any other name.
    UnavailableError
        If CUDA is asked for and not available.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise UsageError(f"unknown device {name!r}; there are: auto, cpu, cuda", code="USE-NAME")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UnavailableError(
            "`device=cuda`: no CUDA device is available to PyTorch",
            hint="use `device=cpu`",
            code="DEVICE-NONE",
        )
    if name == "cpu" or not available:
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")


TF32_SINCE: Final = (8, 0)
"""Compute capability of the first GPUs with TF32 (Ampere)."""


@contextlib.contextmanager
def float32_products(precision: StepPrecision, device: torch.device) -> Iterator[None]:
    """Have a GPU multiply float32 in TF32 for the precision "tf32", and else in full.

    PyTorch's own defaults are TF32 in cuDNN's convolutions and not in matrix products. Both are as
    before at the end.

    Raises
    ------
    UsageError
        If TF32 is asked for and the device does not have it.
    """
    tf32 = precision == "tf32"
    if tf32 and (why := _lacks_tf32(device)):
        raise UsageError(
            f"`precision=tf32`: {why}",
            hint="`precision=fp32` computes everywhere, `precision=bf16` faster on many CPUs",
            code="USE-TOGETHER",
        )
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _lacks_tf32(device: torch.device) -> str:
    """Say why a device has no TF32; empty if it has."""
    if device.type != "cuda":
        return "TF32 is arithmetic of NVIDIA GPUs, and this training runs on the CPU"
    if torch.cuda.get_device_capability(device) < TF32_SINCE:
        return f"{torch.cuda.get_device_name(device)} has no TF32, which came with Ampere"
    return ""


def numeric_flags() -> dict[str, object]:
    """List the settings of torch that change a result in its last bits, for a manifest."""
    return {
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


def set_cpu_threads(count: int | None) -> int:
    """Set the number of CPU threads: see `threads.requested_threads`.

    Raises
    ------
    UsageError
        For fewer than one.
    """
    requested = threads.requested_threads(count)
    if requested and requested != torch.get_num_threads():
        torch.set_num_threads(requested)
    return torch.get_num_threads()
