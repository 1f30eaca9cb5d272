"""Native training on the CPU: whether it runs, and dropout from PyTorch's own generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sleeptools import ops
from sleeptools.ops.dropout import dropout


def trains_native(x: Tensor) -> bool:
    """Whether training takes native ops; they are float32, and on a GPU cuDNN has Tensor Cores."""
    if torch.compiler.is_compiling() or x.is_cuda or torch.is_autocast_enabled("cpu"):
        return False
    return ops.runs_native(x)


def share(layer: nn.Dropout) -> float:
    """Give the probability with which a layer drops, 0 outside training."""
    return layer.p if layer.training else 0.0


def draw_seed(p: float) -> int:
    """Draw the seed of a native dropout from PyTorch's generator, which a run restores."""
    return int(torch.randint(2**63 - 1, ())) if p > 0 else 0


def drop(x: Tensor, p: float) -> Tensor:
    """Run the native dropout of (N, T, D)."""
    return dropout(x, p, draw_seed(p)) if p > 0 else x
