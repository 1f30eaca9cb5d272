"""Batches of epochs on the training device, and the scoring of epochs with a model.

On a CPU a batch is copied out of the memory-mapped files; on CUDA the whole set lies on the device
in float32 where it fits into `SHARE` of the free memory, and is copied batch by batch through
pinned memory where not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.preprocessing.sequences import NONE, InputSpan, Windows
from sleeptools.recording.stages import UNSCORED
from sleeptools.training.stop import Stop

Numbers = npt.NDArray[np.int64]
CHUNK = 1024  # epochs copied to the device at a time
SHARE = 0.6  # of the free device memory that the epochs may take
EVALUATED = 256  # epochs at a time without gradients


class EpochSource:
    """Epochs and stages of a set as tensors on a device.

    Parameters
    ----------
    epochs
        The set.
    device
        Device of the batches.
    """

    def __init__(self, epochs: EpochSet, device: torch.device) -> None:
        self.epochs = epochs
        self.device = device
        self.stages = torch.from_numpy(epochs.stages.astype(np.int64)).to(device)
        self.resident = _resident(epochs, device)

    def take(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """Signals (*inputs.shape, channels, samples) float32 and stages, (*targets.shape,) int64.

        The stage of an output that is not used is -1.
        """
        scored = torch.from_numpy(windows.targets).to(self.device)
        stages = self.stages[scored].where(scored != NONE, UNSCORED)
        if self.resident is not None:
            return self.resident[torch.from_numpy(windows.inputs).to(self.device)], stages
        x = torch.from_numpy(self.epochs.gather(windows.inputs))
        if self.device.type == "cuda":
            x = x.pin_memory().to(self.device, non_blocking=True)
        return x, stages


class PinnedFeed:
    """Batches on their way to a GPU: two buffers in pinned memory, and two on the device.

    While the device computes with one batch, the host gathers the next one and a stream of its own
    copies it; the host waits only for the copy before the last.

    Parameters
    ----------
    shape
        Shape of a batch, float32.
    device
        The GPU.
    """

    def __init__(self, shape: Sequence[int], device: torch.device) -> None:
        self.pinned = [torch.empty(*shape, pin_memory=True) for _ in range(2)]
        self.staged = [torch.empty(*shape, device=device) for _ in range(2)]
        self.copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.copied, self.taken = (
            [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        self.count = 0

    def send(self, gather: Callable[[npt.NDArray[np.float32]], object], x: Tensor) -> None:
        """Bring a batch to the device.

        Parameters
        ----------
        gather
            Fills an array of the host with the batch.
        x
            Takes the batch on the device, when all that was launched before is done with it.
        """
        buffer, self.count = self.count % 2, self.count + 1
        pinned, staged = self.pinned[buffer], self.staged[buffer]
        self.copied[buffer].synchronize()
        gather(pinned.numpy())
        with torch.cuda.stream(self.copying):
            self.copying.wait_event(self.taken[buffer])
            staged.copy_(pinned, non_blocking=True)
            self.copied[buffer].record(self.copying)
        current = torch.cuda.current_stream(x.device)
        current.wait_event(self.copied[buffer])
        x.copy_(staged)
        self.taken[buffer].record(current)


def _resident(epochs: EpochSet, device: torch.device) -> Tensor | None:
    """Copy the set to a CUDA device; None on a CPU, or where it does not fit."""
    if device.type != "cuda":
        return None
    shape = (len(epochs), *epochs.files[0].signals.shape[1:])
    free, _ = torch.cuda.mem_get_info(device)
    if 4 * np.prod(shape, dtype=np.int64) > SHARE * free:
        return None
    resident = torch.empty(shape, device=device)
    for start in range(0, len(epochs), CHUNK):
        numbers = np.arange(start, min(start + CHUNK, len(epochs)))
        resident[start : start + len(numbers)] = torch.from_numpy(epochs.gather(numbers))
    return resident


def windows(model: nn.Module, epochs: EpochSet, numbers: Numbers) -> Windows:
    """Arrange epochs for a model, whose settings say how many it takes at once."""
    config: Any = model.config
    span: InputSpan = config.input_span
    return epochs.windows(numbers, sequence=span.sequence, context=span.context)


def batches(arranged: Windows) -> Iterator[slice]:
    """Slices of windows that are scored at once."""
    batch = max(1, EVALUATED * len(arranged) // arranged.inputs.size)
    return (slice(start, start + batch) for start in range(0, len(arranged), batch))


@torch.inference_mode()
def probabilities(
    model: nn.Module, source: EpochSource, numbers: Numbers, stop: Stop
) -> npt.NDArray[np.float32]:
    """Score epochs, each exactly once: (len(numbers), stages) float32, in the order given.

    Raises
    ------
    Stopped
        Between two batches, if a stop signal has come.
    """
    model.eval()
    arranged = windows(model, source.epochs, numbers)
    densities = []
    for rows in batches(arranged):
        stop.check()
        x, _ = source.take(arranged.pick(rows))
        densities.append(model(x).float().softmax(-1).flatten(0, -2).cpu())
    targets = arranged.targets.ravel()
    scored = targets != NONE
    assert (targets[scored] == numbers).all()
    out: npt.NDArray[np.float32] = torch.cat(densities).numpy()[scored]
    return out
