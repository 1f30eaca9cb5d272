"""Blocks of separable convolutions over each signal in training, and the mean over time.

As `separable_stream`, with BatchNorm by the statistics of the batch before each ReLU and dropout
behind each block (ULW-SleepNet). The kernel runs all blocks in one call. It gathers the covariance
of each unit's depthwise results, which says what BatchNorm needs, so that a unit goes from its
input to its pool at once; it keeps the units' outputs for the backward pass and makes the rest
again. On a GPU the reference runs, as for `conv_block`. Arithmetic is float32, for the reasons
given in `separable_stream`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.models.layers import philox
from sleeptools.models.ops.conv_block import Running
from sleeptools.native import threads
from sleeptools.native.dropout import check_dropout, drop_below
from sleeptools.native.separable_blocks import (
    OP,
    SIGNALS,
    blocks_work,
    blocks_workspace,
    check_separable_blocks,
    kept_sizes,
    list_units,
    width_table,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Tensor, Tensor, list[int], int, float, float, int]
Forward = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

_check = functools.lru_cache(maxsize=64)(check_separable_blocks)


def separable_blocks(
    x: Tensor,
    weights: Tensor,
    widths: Sequence[int],
    kernel: int = 3,
    eps: float = 1e-3,
    dropout: float = 0.0,
    seed: int = 0,
    *,
    running: Sequence[Running] = (),
) -> Tensor:
    """Run the blocks as in training.

    Float32 on the CPU runs natively where the core is built, and so do the gradients of the
    weights; the gradient of `x` and everything else is `reference`'s. Any strides are taken; the
    output is contiguous. The result does not depend on the number of threads.

    Parameters
    ----------
    x
        Signals, (B, C, T).
    weights
        Weights of all blocks in one vector, in the order of `sleeptools.native.separable_blocks`.
    widths
        Feature maps after each block.
    kernel
        Length of the depthwise convolutions; odd.
    eps
        Added to the variance by BatchNorm.
    dropout
        Probability that a value of a block's output is zero; the others are divided by
        1 - dropout. 0 to below 1.
    seed
        Seed of the first block's dropout, 0 to 2^63 - 1; of block i it is seed + i.
    running
        Statistics of the units' BatchNorms in turn, updated in place as by torch.nn.BatchNorm1d.

    Returns
    -------
    Tensor
        (B, C, widths[-1]).

    Raises
    ------
    ValueError
        For wrong shapes, for weights of another type or device than `x`, for settings out of range,
        and for a batch with one value per map, as PyTorch does.
    """
    shapes = (tuple(x.shape), tuple(weights.shape))
    check = check_separable_blocks if torch.compiler.is_compiling() else _check
    check(*shapes, tuple(widths), kernel)
    ops.check_alike(OP, x, (weights,))
    check_dropout(OP, dropout, seed)
    units = list(list_units(widths, x.shape[2]))
    signals = x.shape[0] * x.shape[1]
    if signals * units[-1].steps == 1:
        raise ValueError(
            "Expected more than 1 value per channel when training, got input size "
            f"{torch.Size([1, widths[-1], 1])}"
        )
    out, *_, mean, variance = _operator(x, weights, widths, kernel, eps, dropout, seed)
    if running and signals:
        counts = [unit.outputs for unit in units]
        means, variances = torch.split(mean, counts), torch.split(variance, counts)
        parts = zip(running, units, means, variances, strict=True)
        for statistics, unit, unit_mean, unit_variance in parts:
            statistics.update(unit_mean, unit_variance, signals * unit.steps)
    return out


def reference(
    x: Tensor,
    weights: Tensor,
    widths: Sequence[int],
    kernel: int = 3,
    eps: float = 1e-3,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """As `separable_blocks`, in plain PyTorch: the specification."""
    return _run(x, weights, widths, kernel, eps, dropout, seed)[0]


def _run(
    x: Tensor,
    weights: Tensor,
    widths: Sequence[int],
    kernel: int,
    eps: float,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the output, and mean and variance of what each BatchNorm sees."""
    signals, index = x.flatten(0, 1).unsqueeze(1), 0  # (B C, 1, T)
    means, variances = [], []

    def take(*size: int) -> Tensor:
        nonlocal index
        count = functools.reduce(int.__mul__, size)
        index += count
        return weights[index - count : index].view(size)

    for block, (inputs, width) in enumerate(itertools.pairwise((1, *widths))):
        main = signals
        for maps in (inputs, width):
            depthwise, pointwise, bias = take(maps, 1, kernel), take(maps, width, 1), take(width)
            main = functional.conv1d(main, depthwise, padding=kernel // 2, groups=maps)
            main = functional.conv1d(main, pointwise.transpose(0, 1), bias)  # (B C, width, T)
            means.append(main.mean((0, 2)))
            variances.append((main - means[-1][:, None]).square().mean((0, 2)))
            norm = take(width), take(width)
            main = functional.batch_norm(main, None, None, *norm, training=True, eps=eps)
            main = functional.max_pool1d(functional.relu(main), 2, ceil_mode=True)
        matrix, bias = take(inputs, width, 1).transpose(0, 1), take(width)
        signals = main + functional.conv1d(signals, matrix, bias, stride=4)  # (B C, width, T / 4)
        if dropout > 0:
            steps = (len(signals), signals.shape[2], width)
            signals = signals * philox.mask(steps, dropout, seed + block, signals).mT
    out = signals.mean(2).view(*x.shape[:2], widths[-1])
    return out, torch.cat(means).detach(), torch.cat(variances).detach()


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    cases: list[tuple[tuple[int, int, int], list[int], int, float]] = [
        ((batch, 4, 3000), [8, 16, 32], 3, 0.1),
        ((2, 2, 13), [2, 3], 3, 0.0),
        ((5, 1, 9), [3], 5, 0.3),
        ((1, 3, 18), [2], 1, 0.0),
        ((0, 4, 3000), [8, 16, 32], 3, 0.1),
        ((1, 2, 333), [5, 17, 9], 7, 0.2),
        ((17, 2, 301), [1, 33], 15, 0.0),
        ((1, 19, 1500), [8, 4, 1, 4, 3], 3, 0.5),
    ]
    return [_example(generator, torch.device(device), *case) for case in cases]


def _example(
    generator: torch.Generator,
    device: torch.device,
    size: tuple[int, int, int],
    widths: list[int],
    kernel: int,
    dropout: float,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    weights = []
    for inputs, width in itertools.pairwise((1, *widths)):
        for maps in (inputs, width):
            weights += [normal(maps, kernel) * kernel**-0.5, normal(maps, width) * maps**-0.5]
            weights += [normal(width), normal(width), normal(width)]
        weights += [normal(inputs, width) * inputs**-0.5, normal(width)]
    vector = torch.cat([weight.flatten() for weight in weights])
    seed = 0x123456789ABCDEF if dropout else 0
    return normal(*size), vector, widths, kernel, 1e-3, dropout, seed


def _native(x: Tensor) -> bool:
    return x.shape[0] > 0 and x.shape[1] > 0 and not x.is_cuda and ops.runs_native(x)


def _forward(x: Tensor, weights: Tensor, *settings: Any) -> Forward:
    results = _fake(x, weights, *settings)
    if len(x) == 0 or x.shape[1] == 0:
        return tuple(t.zero_() for t in results)  # type: ignore[return-value]
    if not _native(x):
        out, mean, variance = _run(x, weights, *settings)
        return out.contiguous(), *results[1:4], mean, variance
    names = ("out", "maps", "marks", "moments", "mean", "variance")
    tensors = {"x": x.contiguous(), "weights": weights.contiguous()}
    _launch(OP, tensors | dict(zip(names, results, strict=True)), settings)
    return results


def _launch(op: str, tensors: dict[str, Tensor], settings: Sequence[Any]) -> None:
    """Run one of the two ops of the core on tensors under the names of csrc/fields.h."""
    x = tensors["x"]
    widths, kernel, eps, dropout, seed = settings
    signals, samples = x.shape[0] * x.shape[1], x.shape[2]
    backward = op != OP
    work = blocks_work(widths, kernel, samples) * (2 if backward else 1)
    slots = threads.threads_for(-(-signals // SIGNALS), SIGNALS * work)
    size = (signals, samples)
    floats = blocks_workspace(tuple(widths), kernel, size, slots, backward=backward)
    ops.launch(
        op,
        x,
        {**tensors, "workspace": x.new_empty(floats)},
        widths=width_table(tuple(widths)),
        signals=signals,
        samples=samples,
        blocks=len(widths),
        kernel=kernel,
        slots=slots,
        eps=eps,
        drop_below=drop_below(dropout),
        seed=seed,
        work=work,
    )


def _fake(x: Tensor, weights: Tensor, *settings: Any) -> Forward:
    widths, kernel, _, dropout, _ = settings
    batch, signals, samples = x.shape
    out = x.new_empty(batch, signals, widths[-1])
    count = 2 * sum(widths)
    norms = x.new_empty(count), x.new_empty(count)
    if not _native(x):
        return out, x.new_empty(0), x.new_empty(0, dtype=torch.int32), x.new_empty(0), *norms
    kept = kept_sizes(widths, kernel, batch * signals, samples, drops=drop_below(dropout) > 0)
    marks = x.new_empty(kept.marks, dtype=torch.int32)
    return out, x.new_empty(kept.maps), marks, x.new_empty(kept.moments), *norms


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Forward) -> None:
    x, weights, *ctx.settings = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    kept = output[1:4] + output[5:]  # the mean is in the moments
    ctx.save_for_backward(x, weights, *kept)


def _backward(ctx: Any, grad: Tensor | None, *unused: Any) -> tuple[Tensor | None, ...]:
    none = (None,) * len(ctx.settings)
    if grad is None:
        return (None, None, *none)
    x, weights, *kept = ctx.saved_tensors
    needed = ctx.needs_input_grad[:2]
    if needed[0] or torch.is_grad_enabled() or not _native(grad):
        return (*_gradients(grad, x, weights, ctx.settings, needed), *none)
    return (None, _native_gradients(grad, x, weights, *kept, *ctx.settings), *none)


def _gradients(
    grad: Tensor, x: Tensor, weights: Tensor, settings: Sequence[Any], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Run the reference again and differentiate it, to be traced and differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x, weights = (t if again else t.detach().requires_grad_() for t in (x, weights))
        out = reference(x, weights, *settings)
    inputs = [t for t, needs in zip((x, weights), needed, strict=True) if needs]
    gradients = iter(torch.autograd.grad(out, inputs, grad, create_graph=again))
    return [next(gradients) if needs else None for needs in needed]


def _on_cpu(
    grad: Tensor,
    x: Tensor,
    weights: Tensor,
    maps: Tensor,
    marks: Tensor,
    moments: Tensor,
    variance: Tensor,
    *settings: Any,
) -> Tensor:
    gradient = torch.empty_like(weights, memory_format=torch.contiguous_format)
    tensors = {
        "x": x.contiguous(),
        "weights": weights.contiguous(),
        "maps": maps,
        "marks": marks,
        "moments": moments,
        "mean": variance,  # not read
        "variance": variance,
        "grad": grad.contiguous(),
        "d_weights": gradient,
    }
    _launch(f"{OP}_backward", tensors, settings)
    return gradient


def _fake_gradients(grad: Tensor, x: Tensor, weights: Tensor, *settings: Any) -> Tensor:
    return weights.new_empty(weights.shape)


_SETTINGS = "int[] widths, int kernel, float eps, float dropout, int seed"
_operator = ops.define(
    OP,
    f"(Tensor x, Tensor weights, {_SETTINGS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
_native_gradients = ops.define_gradients(
    f"{OP}_backward",
    "(Tensor grad, Tensor x, Tensor weights, Tensor maps, Tensor marks, Tensor moments, "
    f"Tensor variance, {_SETTINGS}) -> Tensor",
    forward=_on_cpu,
    fake=_fake_gradients,
)
