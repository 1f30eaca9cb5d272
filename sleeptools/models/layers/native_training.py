"""Training by the native ops: whether they run, their precision and their statistics.

Autocast to bfloat16 is followed where it is faster: the ops take and give float32 tensors, and
round the operands of their products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sleeptools import native
from sleeptools.models import ops
from sleeptools.models.layers.stacking import is_stacked
from sleeptools.models.ops.conv_block import Running
from sleeptools.native import Precision
from sleeptools.native.devices import runs_kernels


def trains_native(x: Tensor) -> bool:
    """Whether training uses the native ops of the CPU."""
    if torch.compiler.is_compiling() or x.is_cuda or is_stacked():
        return False
    if not torch.is_autocast_enabled("cpu"):
        return ops.runs_native(x)
    if torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    return x.is_cpu and x.dtype in {torch.float32, torch.bfloat16} and native.available()


def trains_on_tensor_cores(x: Tensor) -> bool:
    """Whether training uses the CUDA kernels of `conv_block` and `feed_forward`: in bfloat16.

    Not in a CUDA graph, which would repeat the seeds of the dropout with every step.
    """
    if torch.compiler.is_compiling() or not x.is_cuda or is_stacked():
        return False
    half = torch.get_autocast_dtype("cuda") == torch.bfloat16
    if not (half and torch.is_autocast_enabled("cuda")):
        return False
    if torch.cuda.is_current_stream_capturing():
        return False
    return x.dtype in {torch.float32, torch.bfloat16} and runs_kernels(x.device.index)


def training_precision() -> Precision:
    """Give the precision of products in training: autocast's, if the device has it."""
    if torch.is_autocast_enabled("cuda"):
        return "bf16"
    return "bf16" if torch.is_autocast_enabled("cpu") and native.has_bf16() else "fp32"


def to_float32(x: Tensor) -> Tensor:
    """Convert a tensor that autocast made bfloat16: native ops take float32."""
    return x.float() if x.dtype == torch.bfloat16 else x


def batch_counted(norm: nn.BatchNorm1d) -> Running:
    """Count a batch for a BatchNorm, and give the statistics that an op is to update."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    return Running(norm.running_mean, norm.running_var, norm.momentum)
