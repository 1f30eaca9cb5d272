"""The training convolution block in the native core: the workspace that it needs."""

from __future__ import annotations

from sleeptools.native import module


def conv_block_workspace(op: str, layer: int, batch: int, samples: int, slots: int) -> int:
    """Floats of workspace that `conv_block` or `conv_block_backward` needs; layer is an address."""
    floats = getattr(module(op), f"{op}_workspace")
    return int(floats(layer=layer, batch=batch, samples=samples, slots=slots))
