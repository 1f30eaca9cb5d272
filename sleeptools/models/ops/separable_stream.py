"""Blocks of separable convolutions over each signal, and the mean over time (ULW-SleepNet).

Every signal goes through the same extractor by itself: in a block, twice a depthwise convolution, a
pointwise one, ReLU and a pool over two steps, beside a linear shortcut, which takes every 4th step.
BatchNorm and the shortcut's two convolutions are folded
(`sleeptools.native.separable_stream.fold_separable`); in training
BatchNorm uses the statistics of the batch, which cannot be folded, so a model in training mode runs
its layers one by one. Arithmetic is float32: on an x86 CPU with bfloat16 products the pointwise
convolutions of such widths took 1.24 times as long with them, the rounding not counted.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools import native
from sleeptools.models import ops
from sleeptools.native import threads
from sleeptools.native.separable_stream import check_separable_stream, separable_layout

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Tensor, Tensor, list[int], int]

_check = functools.lru_cache(maxsize=64)(check_separable_stream)


def separable_stream(x: Tensor, weights: Tensor, widths: Sequence[int], kernel: int = 3) -> Tensor:
    """Run the blocks.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x
        Signals, (B, C, T).
    weights
        Weights of all blocks in one vector, in the order of `sleeptools.native.separable_stream`.
    widths
        Feature maps after each block.
    kernel
        Length of the depthwise convolutions; odd.

    Returns
    -------
    Tensor
        (B, C, widths[-1]).

    Raises
    ------
    ValueError
        For wrong shapes, and for weights of another type or device than `x`.
    """
    sizes = (tuple(x.shape), tuple(weights.shape))
    check = check_separable_stream if torch.compiler.is_compiling() else _check
    check(*sizes, tuple(widths), kernel)
    ops.check_alike("separable_stream", x, (weights,))
    return _operator(x, weights, widths, kernel)


def reference(x: Tensor, weights: Tensor, widths: Sequence[int], kernel: int = 3) -> Tensor:
    """As `separable_stream`, in plain PyTorch: the specification."""
    signals = x.flatten(0, 1).unsqueeze(1)  # (B C, 1, T)
    index = 0

    def take(*size: int) -> Tensor:
        nonlocal index
        count = functools.reduce(int.__mul__, size)
        index += count
        return weights[index - count : index].view(size)

    for inputs, width in itertools.pairwise((1, *widths)):
        main = signals
        for maps in (inputs, width):
            depthwise, pointwise, bias = take(maps, 1, kernel), take(maps, width, 1), take(width)
            main = functional.conv1d(main, depthwise, padding=kernel // 2, groups=maps)
            main = functional.conv1d(main, pointwise.transpose(0, 1), bias)  # (B C, width, T)
            main = functional.relu(main)
            main = functional.max_pool1d(main, 2, ceil_mode=True)  # (B C, width, T / 2)
        matrix, bias = take(inputs, width, 1).transpose(0, 1), take(width)
        signals = main + functional.conv1d(signals, matrix, bias, stride=4)  # (B C, width, T / 4)
    return signals.mean(2).view(*x.shape[:2], widths[-1])


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    cases: list[tuple[tuple[int, int, int], list[int], int]] = [
        ((batch, 4, 3000), [8, 16, 32], 3),
        ((2, 2, 13), [2, 3], 3),
        ((1, 1, 1), [3], 5),
        ((1, 3, 18), [2], 1),
        ((0, 4, 3000), [8, 16, 32], 3),
        ((1, 2, 333), [5, 17, 9, 2], 7),
        ((2, 1, 301), [1, 33], 31),
        ((1, 1, 4500), [8, 4, 1, 4, 3, 4], 3),
    ]
    return [_example(generator, torch.device(device), *case) for case in cases]


def _example(
    generator: torch.Generator,
    device: torch.device,
    size: tuple[int, int, int],
    widths: list[int],
    kernel: int,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    weights = []
    for inputs, width in itertools.pairwise((1, *widths)):
        for maps in (inputs, width):
            weights += [normal(maps, kernel) * kernel**-0.5]
            weights += [normal(maps, width) * maps**-0.5, normal(width)]
        weights += [normal(inputs, width) * inputs**-0.5, normal(width)]
    return normal(*size), torch.cat([weight.flatten() for weight in weights]), widths, kernel


def _forward(x: Tensor, weights: Tensor, widths: Sequence[int], kernel: int) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, weights, widths, kernel).contiguous()
    batch, signals, samples = x.shape
    device = x.device.index if x.is_cuda else native.CPU
    layout = separable_layout(tuple(widths), kernel, samples, device)
    slots = batch * signals if x.is_cuda else threads.threads_for(batch * signals, layout.work)
    workspace = torch.empty(slots * layout.floats, dtype=x.dtype, device=x.device)
    out = torch.empty((batch, signals, widths[-1]), dtype=x.dtype, device=x.device)
    ops.launch(
        "separable_stream",
        x,
        {"x": x.contiguous(), "weights": weights.contiguous(), "space": workspace, "out": out},
        widths=layout.widths,
        batch=batch,
        signals=signals,
        samples=samples,
        blocks=len(widths),
        kernel=kernel,
        slots=slots,
        work=layout.work,
    )
    return out


def _fake(x: Tensor, weights: Tensor, widths: Sequence[int], kernel: int) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], widths[-1]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, ctx.widths, ctx.kernel = inputs
    ctx.save_for_backward(x, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the blocks from their input and differentiate that; only inputs are kept."""
    x, weights = ctx.saved_tensors
    again = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:2]
    with torch.enable_grad():
        x, weights = (t if again else t.detach().requires_grad_() for t in (x, weights))
        out = reference(x, weights, ctx.widths, ctx.kernel)
    inputs = [t for t, needs in zip((x, weights), needed, strict=True) if needs]
    gradients = iter(torch.autograd.grad(out, inputs, grad, create_graph=again))
    return (*(next(gradients) if needs else None for needs in needed), None, None)


_operator = ops.define(
    "separable_stream",
    "(Tensor x, Tensor weights, int[] widths, int kernel) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
