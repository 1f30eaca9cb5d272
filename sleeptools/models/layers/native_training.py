"""Native training on the CPU: whether it runs, in which precision, and its dropout.

Autocast to bfloat16 is followed as far as it pays: the ops take float32 tensors and give them, and
round the operands of their products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sleeptools import native
from sleeptools.models import ops
from sleeptools.models.ops.dropout import dropout
from sleeptools.native import Precision


def trains_native(x: Tensor) -> bool:
    """Whether training takes native ops; on a GPU cuDNN has the Tensor Cores."""
    if torch.compiler.is_compiling() or x.is_cuda:
        return False
    if not torch.is_autocast_enabled("cpu"):
        return ops.runs_native(x)
    if torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    return x.is_cpu and x.dtype in {torch.float32, torch.bfloat16} and native.available()


def precision() -> Precision:
    """Give the precision of products in training: as autocast says, where the CPU has it."""
    return "bf16" if torch.is_autocast_enabled("cpu") and native.has_bf16() else "fp32"


def whole(x: Tensor) -> Tensor:
    """Undo what autocast did to a tensor: native ops take float32."""
    return x.float() if x.dtype == torch.bfloat16 else x


def share(layer: nn.Dropout) -> float:
    """Give the probability with which a layer drops, 0 outside training."""
    return layer.p if layer.training else 0.0


def draw_seed(p: float) -> int:
    """Draw the seed of a native dropout from PyTorch's generator, which a run restores."""
    return int(torch.randint(2**63 - 1, ())) if p > 0 else 0


def drop(x: Tensor, p: float) -> Tensor:
    """Run the native dropout of (N, T, D)."""
    return dropout(whole(x), p, draw_seed(p)) if p > 0 else x
