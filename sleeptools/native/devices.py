"""Which CUDA devices can run the core's kernels: each is asked once in a process.

A card of an architecture that the kernels were not compiled for, or an older driver, is no error:
the ops run their reference there, and one line says so.
"""

from __future__ import annotations

import logging

from sleeptools.native import has_cuda, loaded_core

LOGGER = logging.getLogger("sleeptools")


def runs_kernels(device: int) -> bool:
    """Whether a CUDA device can run the kernels; where it cannot, the first call logs why.

    Parameters
    ----------
    device
        Its CUDA index. The core makes it the calling thread's device.

    Raises
    ------
    RuntimeError
        For an error of CUDA that says nothing about the card or its driver.
    """
    if not has_cuda():
        return False
    core = loaded_core()
    if device not in core.obstacles:
        core.obstacles[device] = core.module.cuda_obstacle(device)
        if core.obstacles[device]:
            LOGGER.warning("warning: %s", obstacle_text(device))
    return not core.obstacles[device]


def obstacle_text(device: int) -> str:
    """Say in one line why a device, which was asked before, does not run the kernels."""
    core = loaded_core()
    return (
        f"cuda:{device}: {core.obstacles[device]}; the native kernels are compiled for "
        f"{' '.join(core.module.cuda_architectures())}, so PyTorch computes in their place"
    )
