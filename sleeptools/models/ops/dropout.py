"""Dropout whose mask is a function of a seed, the same on every device (`layers.philox`).

PyTorch's own generator takes a quarter of a training step on a CPU. The backward pass draws the
mask again, so nothing is kept for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sleeptools.models import ops
from sleeptools.models.layers import philox
from sleeptools.native.dropout import SHAPES, check_dropout, drop_below

TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}

Example = tuple[Tensor, float, int]


def dropout(x: Tensor, probability: float, seed: int) -> Tensor:
    """Set values to zero at random and divide the others by 1 - probability.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x
        (B, T, maps).
    probability
        Probability of a zero, 0 to below 1.
    seed
        0 to 2^63 - 1; the same seed drops the same values on every device.

    Returns
    -------
    Tensor
        As `x`.

    Raises
    ------
    ValueError
        For a wrong shape, and for a probability or seed out of range.
    """
    ops.check(SHAPES, x)
    check_dropout("dropout", probability, seed)
    out: Tensor = _operator(x, probability, seed)
    return out


def reference(x: Tensor, probability: float, seed: int) -> Tensor:
    """As `dropout`, in plain PyTorch: the specification."""
    return (x * philox.mask(x.shape, probability, seed, x)).contiguous()


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: attention weights of MMASleepNet first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    seed = 0x123456789ABCDEF
    cases = [((4 * batch, 64, 64), 0.1, seed), ((2, 3, 5), 0.5, seed), ((0, 4, 8), 0.5, 1)]
    cases += [((3, 1, 1), 0.0, 0), ((1, 9, 17), 0.9, 2**63 - 1), ((2, 6, 33), 1e-9, 5)]
    return [
        (torch.randn(size, generator=generator).to(torch.device(device)), p, s)
        for size, p, s in cases
    ]


def _forward(x: Tensor, probability: float, seed: int) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, probability, seed)
    x = x.contiguous()
    out = torch.empty_like(x)
    batch, steps, maps = x.shape
    ops.launch(
        "dropout",
        x,
        {"x": x, "out": out},
        batch=batch,
        steps=steps,
        maps=maps,
        drop_below=drop_below(probability),
        seed=seed,
    )
    return out


def _fake(x: Tensor, probability: float, seed: int) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.probability, ctx.seed = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _operator(grad, ctx.probability, ctx.seed), None, None


_operator = ops.define(
    "dropout",
    "(Tensor x, float probability, int seed) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
