"""Feed-forward block of a Transformer layer: Linear, ReLU, Linear, without its hidden layer.

The hidden layer is many times wider than the block's input and output. The kernel makes a part of
it for a few rows, uses it up and overwrites it; autograd keeps only the inputs and makes it again
in the backward pass. There is no dropout inside: a model that trains with it runs its layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools import native, ops

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def feed_forward(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, precision: str = "fp32"
) -> Tensor:
    """Compute w2 relu(w1 x + b1) + b2 for every row of `x`.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous. A row's result depends neither on
    the rows beside it nor on the number of threads.

    Parameters
    ----------
    x
        (N, D): tokens, width.
    w1, b1
        First layer, (H, D) and (H,).
    w2, b2
        Second layer, (D, H) and (D,).
    precision
        "fp32", or "bf16": both products take their operands rounded to bfloat16 and add in float32.
        The gradient is that of "fp32".

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        For wrong shapes, for weights of another type or device than `x`, and for another precision.
    """
    weights = (w1, b1, w2, b2)
    native.check_feed_forward(x, *weights, precision)
    ops.check_alike("feed_forward", x, weights)
    return _operator(x, *weights, precision)


def reference(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, precision: str = "fp32"
) -> Tensor:
    """As `feed_forward`, in plain PyTorch: the specification."""
    if precision == "bf16":
        x, w1, w2 = (tensor.bfloat16().to(tensor.dtype) for tensor in (x, w1, w2))
    hidden = functional.relu(functional.linear(x, w1, b1))  # (N, H)
    if precision == "bf16":
        hidden = hidden.bfloat16().to(x.dtype)
    return functional.linear(hidden, w2, b2)  # (N, D)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` epochs first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(64 * batch, 96, 2048), (0, 3, 5), (1, 1, 1), (3, 4, 8), (7, 5, 3), (2, 3, 0)]
    sizes += [(33, 17, 131), (300, 8, 257)]
    return [_example(generator, torch.device(device), *size) for size in sizes]


def _example(
    generator: torch.Generator, device: torch.device, rows: int, width: int, hidden: int
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    w1, w2 = normal(hidden, width) / width**0.5, normal(width, hidden) / max(hidden, 1) ** 0.5
    return normal(rows, width), w1, normal(hidden), w2, normal(width)


def _forward(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, precision: str = "fp32"
) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, w1, b1, w2, b2, precision).contiguous()
    rows, width, hidden = len(x), x.shape[1], len(w1)
    bf16 = precision == "bf16"
    if bf16:
        w1, w2 = _paired(w1), _paired(w2)
    slots = 0 if x.is_cuda else native.threads(rows, 4 * width * hidden)
    workspace = x.new_empty(slots * native.feed_forward_workspace(width))
    inputs = (tensor.contiguous() for tensor in (x, w1, b1, w2, b2))
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    ops.launch("feed_forward", x, (*inputs, workspace, out), rows, width, hidden, slots, bf16)
    return out


def _paired(w: Tensor) -> Tensor:
    """Round to bfloat16, with rows of even length."""
    return functional.pad(w, (0, w.shape[1] % 2)).bfloat16()


def _fake(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w1, b1, w2, _, _ = inputs
    ctx.save_for_backward(x, w1, b1, w2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, w1, b1, w2 = ctx.saved_tensors
    hidden = functional.relu(functional.linear(x, w1, b1))  # (N, H)
    d_hidden = (grad @ w2) * (hidden > 0)  # (N, H)
    return (
        d_hidden @ w1,
        d_hidden.T @ x,
        d_hidden.sum(0),
        grad.T @ hidden,
        grad.sum(0),
        None,
    )


_operator = ops.define(
    "feed_forward",
    "(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, str precision='fp32') -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
