"""The device that a training runs on, and its CPU threads."""

from __future__ import annotations

import torch

from sleeptools.errors import UnavailableError, UsageError
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
