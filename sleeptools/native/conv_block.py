"""The training convolution block in the native core: shapes, and the workspace that it needs."""

from __future__ import annotations

from sleeptools.native import module
from sleeptools.native.check import Shapes

SHAPES = Shapes(
    "conv_block",
    x="batch time inputs",
    weight="outputs inputs kernel",
    gamma="outputs",
    beta="outputs",
    bias="outputs or None",
    slopes="outputs or None",
)


def conv_block_workspace(op: str, layer: int, batch: int, samples: int, slots: int) -> int:
    """Floats of workspace that one of the two ops needs; `layer` is an address."""
    floats = getattr(module(op), f"{op}_workspace")
    return int(floats(layer=layer, batch=batch, samples=samples, slots=slots))


def conv_block_cuda_workspace(op: str, layer: int, batch: int, *, bf16: bool) -> int:
    """As `conv_block_workspace`, on CUDA."""
    floats = getattr(module(op), f"{op}_cuda_workspace")
    return int(floats(layer=layer, batch=batch, bf16=bf16))
