"""The training convolution block in the native core: shapes, and the workspace that it needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import address, module
from sleeptools.native.check import Shapes

SHAPES = Shapes(
    "conv_block",
    x="batch time inputs",
    weight="outputs inputs kernel",
    gamma="outputs",
    beta="outputs",
)


def conv_block_workspace(
    op: str, layer: NDArray[np.int64], batch: int, samples: int, slots: int
) -> int:
    """Floats of workspace that `conv_block` or `conv_block_backward` needs; layer is its table."""
    floats = getattr(module(op), f"{op}_workspace")
    return int(floats(layer=address(layer), batch=batch, samples=samples, slots=slots))
