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

Example = tuple[Tensor, float, int, Tensor | None]


def dropout(x: Tensor, probability: float, seed: int, seeds: Tensor | None = None) -> Tensor:
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
    seeds
        (K,) int64 on the device of `x`, whose B / K first epochs are those of one task, and so on:
        each task's seed is its own here and `seed` added, below 2^63. A CUDA graph reads them anew
        whenever it is replayed. None for one task with `seed`.

    Returns
    -------
    Tensor
        As `x`.

    Raises
    ------
    ValueError
        For a wrong shape, for a probability or seed out of range, and for seeds of another type or
        device, or whose number does not divide B.
    """
    ops.check(SHAPES, x)
    check_dropout("dropout", probability, seed)
    if seeds is not None:
        _check_seeds(x, seeds)
    out: Tensor = _operator(x, probability, seed, seeds)
    return out


def _check_seeds(x: Tensor, seeds: Tensor) -> None:
    if seeds.dtype != torch.int64 or seeds.dim() != 1 or seeds.device != x.device:
        raise ValueError(
            f"dropout: seeds are {seeds.dtype} {(*seeds.shape,)} on {seeds.device}; expected "
            f"torch.int64 (K,) on {x.device}, as x"
        )
    if not len(seeds) or len(x) % len(seeds):
        raise ValueError(f"dropout: {len(seeds)} seeds for {len(x)} epochs; expected a divisor")


def reference(x: Tensor, probability: float, seed: int, seeds: Tensor | None = None) -> Tensor:
    """As `dropout`, in plain PyTorch: the specification."""
    if seeds is None:
        return (x * philox.mask(x.shape, probability, seed, x)).contiguous()
    tasks = x.reshape(len(seeds), len(x) // len(seeds), *x.shape[1:])  # (K, B / K, T, maps)
    drawn = (seeds + seed).view(-1, 1, 1, 1)
    return (tasks * philox.mask(tasks.shape[1:], probability, drawn, x)).flatten(0, 1)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: attention weights of MMASleepNet first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    seed = 0x123456789ABCDEF
    cases = [((4 * batch, 64, 64), 0.1, seed), ((2, 3, 5), 0.5, seed), ((0, 4, 8), 0.5, 1)]
    cases += [((3, 1, 1), 0.0, 0), ((1, 9, 17), 0.9, 2**63 - 1), ((2, 6, 33), 1e-9, 5)]
    examples: list[Example] = [
        (torch.randn(size, generator=generator).to(torch.device(device)), p, s, None)
        for size, p, s in cases
    ]
    x = torch.randn(3 * batch, 6, 33, generator=generator).to(torch.device(device))
    return [*examples, (x, 0.4, 7, torch.tensor([seed, 0, 2**62], device=device))]


def _forward(x: Tensor, probability: float, seed: int, seeds: Tensor | None) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, probability, seed, seeds)
    if seeds is not None and not x.is_cuda:
        rows = x.reshape(len(seeds), len(x) // len(seeds), *x.shape[1:])  # (K, B / K, T, maps)
        drawn = zip(rows, seeds.tolist(), strict=True)
        return torch.cat([_forward(row, probability, seed + own, None) for row, own in drawn])
    x = x.contiguous()
    out = torch.empty_like(x)
    batch, steps, maps = x.shape
    ops.launch(
        "dropout",
        x,
        {"x": x, "out": out, **({} if seeds is None else {"seeds": seeds.contiguous()})},
        batch=batch,
        steps=steps,
        maps=maps,
        tasks=1 if seeds is None else len(seeds),
        drop_below=drop_below(probability),
        seed=seed,
    )
    return out


def _fake(x: Tensor, *arguments: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.probability, ctx.seed, seeds = inputs
    ctx.save_for_backward(seeds)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (seeds,) = ctx.saved_tensors
    return _operator(grad, ctx.probability, ctx.seed, seeds), None, None, None


_operator = ops.define(
    "dropout",
    "(Tensor x, float probability, int seed, Tensor? seeds) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
