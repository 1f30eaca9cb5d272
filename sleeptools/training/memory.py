"""A device whose memory is too small for a step: the training ends and names a batch that fits."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import torch

from sleeptools.errors import UnavailableError
from sleeptools.training.batches import EpochSource
from sleeptools.training.pace import TrialTraining
from sleeptools.training.stop import Stop
from sleeptools.training.task import Task

WORDS: Final = ("out of memory", "ALLOC_FAILED")
"""In errors of CUDA itself, and of cuBLAS and cuDNN, which PyTorch gives no class of their own."""
SMALLEST: Final = 2  # BatchNorm needs two


def lacks_memory(error: BaseException, device: torch.device) -> bool:
    """Whether an error says that the device's memory is too small."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    on_device = device.type != "cpu" and isinstance(error, RuntimeError)
    return on_device and any(word in str(error) for word in WORDS)


def fitting_batch(task: Task, source: EpochSource, stop: Stop) -> int:
    """Find a batch of which a step fits, by halving the recipe's; 0 if there is none.

    Parameters
    ----------
    task
        The training; its step is tried on a copy that is thrown away.
    source
        The epochs, on the device.
    stop
        Checked between two trials.
    """
    task = replace(task, folder=task.folder / "copy", continued=None)
    batch = task.recipe.batch // 2
    while batch >= SMALLEST:
        stop.check()
        recipe = task.recipe.model_copy(update={"batch": batch})
        if step_fits(replace(task, recipe=recipe), source, stop):
            return batch
        batch //= 2
    return 0


def step_fits(task: Task, source: EpochSource, stop: Stop) -> bool:
    """Whether the memory suffices for a step."""
    try:
        TrialTraining(task, source, stop).step()
    except RuntimeError as error:
        if not lacks_memory(error, source.device):
            raise
        return False
    except ArithmeticError:  # a loss that is no number: there was memory for it
        return True
    return True


@contextlib.contextmanager
def device_memory(
    batch: int, device: torch.device, fitting: Callable[[], int] | None = None
) -> Iterator[None]:
    """Turn a lack of device memory into a message that says what would fit.

    Parameters
    ----------
    batch
        Epochs, or sequences, of a step.
    device
        Device of the training.
    fitting
        Finds a batch that fits, 0 if none does; None where that cannot be tried.

    Raises
    ------
    UnavailableError
        Where memory is lacking.
    """
    try:
        yield
        return
    except RuntimeError as error:
        if not lacks_memory(error, device):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what the step had computed
        reason = error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    raise UnavailableError(
        f"the device's memory is too small for a batch of {batch} epochs",
        hint=_hint(batch, fitting),
        code="MEM-DEVICE",
    ) from reason


def _hint(batch: int, fitting: Callable[[], int] | None) -> str:
    if fitting is None:
        return f"`recipe.batch={max(1, batch // 2)}` (it changes the results), or `device=cpu`"
    fits = fitting()
    if fits:
        return f"`recipe.batch={fits}` fits (tried; it changes the results), or `device=cpu`"
    return f"no batch of {SMALLEST} or more fits, which was tried: `device=cpu`"
