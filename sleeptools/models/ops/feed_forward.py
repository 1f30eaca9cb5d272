"""Feed-forward block of a Transformer layer: Linear, ReLU, dropout, Linear, hidden layer unseen.

The hidden layer is many times wider than the block's input and output. The kernel makes a part of
it for a few rows, uses it up and overwrites it; autograd keeps only the inputs and makes it again
in the backward pass, with the same dropout, which is a function of the seed (`layers.philox`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.models.layers import philox
from sleeptools.native import PRECISIONS, threads
from sleeptools.native.check import check_choice
from sleeptools.native.dropout import check_dropout, drop_below
from sleeptools.native.feed_forward import (
    SHAPES,
    feed_forward_backward_cuda_workspace,
    feed_forward_backward_workspace,
    feed_forward_workspace,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
WIDEST = 128  # columns that the CUDA kernels of the gradients take

Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, str, float, int]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def feed_forward(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    precision: str = "fp32",
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Compute w2 drop(relu(w1 x + b1)) + b2 for every row of `x`.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous. On the CPU a row's result depends
    neither on the rows after it nor on the number of threads.

    Parameters
    ----------
    x
        (N, D): tokens, width.
    w1, b1
        First layer, (H, D) and (H,).
    w2, b2
        Second layer, (D, H) and (D,).
    precision
        "fp32", or "bf16": all products, those of the gradients too, take their operands rounded to
        bfloat16 and add in float32.
    dropout
        Probability that a hidden unit is zero; the others are divided by 1 - dropout. 0 to below 1.
    seed
        Seed of the dropout, 0 to 2^63 - 1; the same seed drops the same units on every device.

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        For wrong shapes, for weights of another type or device than `x`, for another precision, and
        for a dropout or seed out of range.
    """
    weights = (w1, b1, w2, b2)
    ops.check(SHAPES, x, *weights, None, None)
    check_choice("feed_forward", "precision", precision, PRECISIONS)
    check_dropout("feed_forward", dropout, seed)
    return _operator(x, *weights, precision, dropout, seed)


def reference(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    precision: str = "fp32",
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """As `feed_forward`, in plain PyTorch: the specification."""
    rounded = ops.rounding(precision)
    hidden = rounded(functional.relu(functional.linear(rounded(x), rounded(w1), b1)))  # (N, H)
    if dropout > 0:
        hidden = hidden * _mask(x, w1, dropout, seed)
    return functional.linear(hidden, rounded(w2), b2)  # (N, D)


def _mask(x: Tensor, w1: Tensor, dropout: float, seed: int) -> Tensor:
    """Draw the factors of the hidden layer, (N, H): 0 or 1 / (1 - dropout)."""
    keep = philox.keep(len(x), len(w1), drop_below(dropout), seed, x.device)
    return keep.to(x.dtype) / (1 - dropout)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` epochs first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(64 * batch, 96, 2048, 0.0), (0, 3, 5, 0.0), (1, 1, 1, 0.0), (3, 4, 8, 0.5)]
    sizes += [(7, 5, 3, 0.0), (2, 3, 0, 0.0), (33, 17, 131, 0.1), (300, 8, 257, 0.0)]
    sizes += [(64 * batch, 96, 2048, 0.1)]
    return [_example(generator, torch.device(device), *size) for size in sizes]


def _example(
    generator: torch.Generator,
    device: torch.device,
    rows: int,
    width: int,
    hidden: int,
    dropout: float,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    w1, w2 = normal(hidden, width) / width**0.5, normal(width, hidden) / max(hidden, 1) ** 0.5
    seed = 0x123456789ABCDEF if dropout else 0
    return normal(rows, width), w1, normal(hidden), w2, normal(width), "fp32", dropout, seed


def _forward(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    precision: str,
    dropout: float,
    seed: int,
) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, w1, b1, w2, b2, precision, dropout, seed).contiguous()
    rows, width, hidden = len(x), x.shape[1], len(w1)
    bf16 = precision == "bf16"
    if bf16:
        w1, w2 = ops.paired(w1), ops.paired(w2)
    slots = 0 if x.is_cuda else threads.threads_for(rows, 4 * width * hidden)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    tensors = {
        "x": x.contiguous(),
        "w1": w1.contiguous(),
        "b1": b1.contiguous(),
        "w2": w2.contiguous(),
        "b2": b2.contiguous(),
        "workspace": x.new_empty(slots * feed_forward_workspace(width)),
        "out": out,
    }
    ops.launch(
        "feed_forward",
        x,
        tensors,
        rows=rows,
        width=width,
        hidden=hidden,
        slots=slots,
        bf16=bf16,
        drop_below=drop_below(dropout),
        seed=seed,
        eps=0.0,  # the layer normalises by itself
    )
    return out


def _fake(x: Tensor, *arguments: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w1, b1, w2, _, *ctx.settings = inputs
    ctx.save_for_backward(x, w1, b1, w2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    inputs = (grad, *ctx.saved_tensors, *ctx.settings)
    fast = not torch.is_grad_enabled() and _has_kernel(grad, ctx.settings[0])
    d_x, d_w1, d_b1, d_w2 = _native_gradients(*inputs) if fast else _gradients(*inputs)
    return d_x, d_w1, d_b1, d_w2, grad.sum(0), None, None, None


def _has_kernel(grad: Tensor, precision: str) -> bool:
    """Whether the core has the gradients; those in float32 on CUDA are products of cuBLAS."""
    if grad.is_cuda and (precision != "bf16" or not 0 < grad.shape[1] <= WIDEST):
        return False
    return ops.runs_native(grad)


def _gradients(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    precision: str,
    dropout: float,
    seed: int,
) -> Gradients:
    """Gradients in PyTorch operations, to be traced and differentiated again."""
    rounded = ops.rounding(precision)
    x, w1, w2 = rounded(x), rounded(w1), rounded(w2)
    hidden = functional.relu(functional.linear(x, w1, b1))  # (N, H)
    d_hidden = (rounded(grad) @ w2) * (hidden > 0)  # (N, H)
    scale = 1.0
    if dropout > 0:
        mask = _mask(x, w1, dropout, seed)
        hidden, d_hidden, scale = hidden * (mask > 0), d_hidden * (mask > 0), 1 / (1 - dropout)
    wide = rounded(d_hidden) * scale
    return (
        wide @ w1,
        wide.T @ x,
        d_hidden.sum(0) * scale,
        rounded(grad).T @ (rounded(hidden) * scale),
    )


def _launch_gradients(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    precision: str,
    dropout: float,
    seed: int,
) -> Gradients:
    rows, width, hidden = len(x), x.shape[1], len(w1)
    bf16 = precision == "bf16"
    matrices = {"w1": w1, "w1t": w1.T, "w2t": w2.T}
    slots = 0 if x.is_cuda else threads.threads_for(rows, 10 * width * hidden)
    if x.is_cuda:
        size = feed_forward_backward_cuda_workspace(rows, width, hidden)
        rounded = ops.paired(x), ops.paired(grad)
    else:
        size = feed_forward_backward_workspace(rows, width, hidden, slots)
        rounded = x, grad
    gradients = d_x, d_w1, d_b1, d_w2 = _fake_gradients(grad, x, w1, b1, w2)
    tensors = {
        "x": rounded[0].contiguous(),
        "grad": rounded[1].contiguous(),
        **{name: (ops.paired(w) if bf16 else w).contiguous() for name, w in matrices.items()},
        "b1": b1.contiguous(),
        "workspace": x.new_empty(size),
        "d_x": d_x,
        "d_w1": d_w1,
        "d_b1": d_b1,
        "d_w2": d_w2,
    }
    ops.launch(
        "feed_forward_backward",
        x,
        tensors,
        rows=rows,
        width=width,
        hidden=hidden,
        slots=slots,
        bf16=bf16,
        drop_below=drop_below(dropout),
        seed=seed,
    )
    return gradients


def _fake_gradients(grad: Tensor, x: Tensor, *arguments: Any) -> Gradients:
    d_x, d_w1, d_b1, d_w2 = (tensor.new_empty(tensor.shape) for tensor in (x, *arguments[:3]))
    return d_x, d_w1, d_b1, d_w2


_operator = ops.define(
    "feed_forward",
    "(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, str precision, float dropout, "
    "int seed) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
_native_gradients = ops.define_gradients(
    "feed_forward_backward",
    "(Tensor grad, Tensor x, Tensor w1, Tensor b1, Tensor w2, str precision, float dropout, "
    "int seed) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    forward=_launch_gradients,
    fake=_fake_gradients,
)
