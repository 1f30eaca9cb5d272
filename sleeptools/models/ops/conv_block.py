"""Convolution, BatchNorm with the statistics of the batch, activation, max-pool and dropout.

A layer of a convolution stream in training. Signals are channels-last, (batch, time, map): an
output step then reads one piece of memory, and the layers of a stream hand them on as they are. The
kernel keeps the convolution's output for the backward pass, which makes everything behind it again;
dropout is a function of the seed (`layers.philox`). On a GPU the products are our own in bfloat16
and cuDNN's, by PyTorch, in float32; all between them is ours. In some networks a PReLU, or a ReLU,
stands between convolution and BatchNorm instead of an activation behind it; only there a bias
changes more than BatchNorm's running mean.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sleeptools import native
from sleeptools.models import ops
from sleeptools.models.layers import philox
from sleeptools.native import PRECISIONS, conv_streams, threads, two_stream_conv
from sleeptools.native.check import check_choice
from sleeptools.native.conv_block import (
    SHAPES,
    conv_block_cuda_workspace,
    conv_block_workspace,
)
from sleeptools.native.dropout import check_dropout, drop_below

OP = "conv_block"
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Any, ...]  # as the parameters of conv_block
Forward = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, ...]  # of the six tensors; an empty one for one that is not there


class Running(NamedTuple):
    """Statistics that a BatchNorm keeps for evaluation, and the share that a batch adds to them."""

    mean: Tensor
    variance: Tensor
    momentum: float = 0.1

    def update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Add a batch with `count` values, whose variance is divided by their number."""
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (count / (count - 1)), self.momentum)


def conv_block(  # noqa: PLR0913, PLR0917 - six arrays and the settings of five layers
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    sizes: Sequence[int],
    activation: str = "leaky_relu",
    slope: float = 0.01,
    eps: float = 1e-5,
    dropout: float = 0.0,
    seed: int = 0,
    precision: str = "fp32",
    bias: Tensor | None = None,
    slopes: Tensor | None = None,
    *,
    running: Running | None = None,
) -> Tensor:
    """Run a layer of a stream as in training.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous. The result does not depend on the
    number of threads.

    Parameters
    ----------
    x
        (B, T, C): signals or maps over time.
    weight
        Weight of the convolution, (O, C, kernel).
    gamma, beta
        Weights of BatchNorm, (O,) each; any sign.
    sizes
        Stride and padding of the convolution; kernel, stride and padding of the max-pool, 1, 1, 0
        for none.
    activation
        After BatchNorm: "leaky_relu", "relu" or "gelu" (the exact one). None with `slopes`.
    slope
        Slope of leaky_relu below zero.
    eps
        Added to the variance.
    dropout
        Probability that a value of the output is zero; the others are divided by 1 - dropout. 0 to
        below 1.
    seed
        Seed of the dropout, 0 to 2^63 - 1; the same seed drops the same values on every device.
    precision
        "fp32", or "bf16": the convolution and its gradients take their operands rounded to bfloat16
        and add in float32. The kernels of a CPU that does not multiply bfloat16 do as for "fp32",
        which is more exact there.
    bias
        Bias of the convolution, (O,), or None.
    slopes
        Slopes of a PReLU between convolution and BatchNorm, (O,), or None; zeros are a ReLU.
    running
        Updated in place as by torch.nn.BatchNorm1d: the variance added is the unbiased one.

    Returns
    -------
    Tensor
        (B, T', O).

    Raises
    ------
    ValueError
        For wrong shapes, for weights of another type or device than `x`, for settings out of range,
        and for a batch with one value per map, as PyTorch does.
    """
    ops.check(SHAPES, x, weight, gamma, beta, bias, slopes)
    _check_sizes(x, weight, sizes)
    _check_settings(activation, dropout, seed, precision)
    layer = _layer(weight.shape[0], weight.shape[2], sizes)
    rows = _lengths(layer, x)[0]
    if len(x) * rows == 1:
        raise ValueError(
            "Expected more than 1 value per channel when training, got input size "
            f"{torch.Size([1, len(weight), 1])}"
        )
    settings = (sizes, activation, slope, eps, dropout, seed, precision, bias, slopes)
    out, _, mean, variance = _operator(x, weight, gamma, beta, *settings)
    if running is not None and len(x):
        running.update(mean, variance, len(x) * rows)
    return out


def reference(  # noqa: PLR0913, PLR0917 - as conv_block
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    sizes: Sequence[int],
    activation: str = "leaky_relu",
    slope: float = 0.01,
    eps: float = 1e-5,
    dropout: float = 0.0,
    seed: int = 0,
    precision: str = "fp32",
    bias: Tensor | None = None,
    slopes: Tensor | None = None,
) -> Tensor:
    """As `conv_block`, in plain PyTorch: the specification."""
    pool = sizes[2:]
    y = _before_norm(x, weight, sizes, precision, bias, slopes)  # (B, O, rows)
    y = functional.batch_norm(y, None, None, gamma, beta, training=True, eps=eps)
    if slopes is None:
        y = ops.activate(y, activation, slope)
    y = functional.max_pool1d(y, pool[0], pool[1], pool[2]).mT  # (B, T', O)
    if dropout > 0:
        y = y * philox.mask(y.shape, dropout, seed, y)
    return y.contiguous()


def _before_norm(
    x: Tensor,
    weight: Tensor,
    sizes: Sequence[int],
    precision: str,
    bias: Tensor | None,
    slopes: Tensor | None,
) -> Tensor:
    y = _convolve(x, weight, sizes, precision)
    y = y if bias is None else y + bias[:, None]
    return y if slopes is None else functional.prelu(y, slopes)


def _convolve(x: Tensor, weight: Tensor, sizes: Sequence[int], precision: str) -> Tensor:
    if precision == "bf16":
        x, weight = ops.rounded_operand(x), ops.rounded_operand(weight)
    y = functional.conv1d(x.mT, weight, None, *sizes[:2])
    return ops.with_rounded_gradient(y) if precision == "bf16" else y


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: a published size at `batch` epochs first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    cases: list[tuple[tuple[int, ...], list[int], str, float, float]] = [
        ((batch, 3000, 2, 64, 50), [8, 24, 8, 8, 4], "leaky_relu", 0.01, 0.5),
        ((2, 7, 2, 3, 3), [1, 1, 2, 2, 1], "leaky_relu", 0.3, 0.0),
        ((3, 6, 3, 2, 2), [2, 1, 3, 1, 1], "gelu", 0.0, 0.3),
        ((2, 5, 1, 2, 3), [1, 2, 1, 1, 0], "leaky_relu", -0.5, 0.0),
        ((4, 3, 2, 1, 3), [1, 0, 1, 1, 0], "leaky_relu", 0.1, 0.0),
        ((1, 8, 3, 2, 1), [3, 0, 1, 1, 0], "relu", 0.0, 0.0),
        ((3, 61, 5, 17, 7), [3, 5, 5, 5, 2], "gelu", 0.0, 0.5),
        ((5, 47, 32, 64, 8), [1, 4, 1, 1, 0], "leaky_relu", 0.01, 0.0),
        ((0, 50, 7, 33, 5), [1, 2, 4, 4, 2], "leaky_relu", 0.01, 0.5),
        ((9, 14, 33, 48, 6), [2, 7, 2, 3, 1], "relu", 0.0, 0.1),
    ]
    made = [_example(generator, torch.device(device), *case) for case in cases]
    behind_prelu: list[tuple[tuple[int, ...], list[int], float]] = [
        ((2, 7, 2, 3, 3), [2, 3, 1, 1, 0], 0.3),
        ((3, 6, 3, 2, 2), [1, 1, 2, 2, 1], 0.0),
        ((5, 61, 16, 33, 7), [2, 3, 1, 1, 0], 0.1),
    ]
    for size, sizes, dropout in behind_prelu:
        example = _example(generator, torch.device(device), size, sizes, "relu", 0.0, dropout)
        vectors = (torch.randn(size[3], generator=generator).to(device) for _ in range(2))
        made.append((*example, *vectors))
    return made


def _example(
    generator: torch.Generator,
    device: torch.device,
    size: tuple[int, ...],
    sizes: list[int],
    activation: str,
    slope: float,
    dropout: float,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    batch, samples, inputs, outputs, kernel = size
    weight = normal(outputs, inputs, kernel) / (inputs * kernel) ** 0.5
    seed = 0x123456789ABCDEF if dropout else 0
    tensors = (normal(batch, samples, inputs), weight, normal(outputs), normal(outputs))
    return *tensors, sizes, activation, slope, 1e-5, dropout, seed, "fp32"


def _check_sizes(x: Tensor, weight: Tensor, sizes: Sequence[int]) -> None:
    outputs, inputs, kernel = weight.shape
    if min(inputs, outputs) < 1:
        raise ValueError(
            f"{OP}: weight has shape {tuple(weight.shape)}; expected 1 or more in each place"
        )
    stride, pad, pool_kernel, pool_stride, pool_pad = sizes
    if min(stride, kernel, pool_kernel, pool_stride) < 1 or min(pad, pool_pad) < 0:
        raise ValueError(f"{OP}: sizes are {list(sizes)}; expected >= 1, and >= 0 for paddings")
    if 2 * pool_pad > pool_kernel:
        raise ValueError(
            f"{OP}: pool padding is {pool_pad}; expected at most half of {pool_kernel}"
        )
    if min(_lengths(_layer(outputs, kernel, sizes), x)) < 1:
        raise ValueError(f"{OP}: x has shape {tuple(x.shape)}; expected (batch, more, inputs)")


def _check_settings(activation: str, dropout: float, seed: int, precision: str) -> None:
    check_choice(OP, "activation", activation, conv_streams.ACTIVATIONS)
    check_choice(OP, "precision", precision, PRECISIONS)
    check_dropout(OP, dropout, seed)


def _layer(outputs: int, kernel: int, sizes: Sequence[int]) -> conv_streams.ConvLayer:
    stride, pad, *pool = sizes
    return conv_streams.ConvLayer(outputs, kernel, stride, pad, (pool[0], pool[1], pool[2]))


def _lengths(layer: conv_streams.ConvLayer, x: Tensor) -> conv_streams.Sizes:
    return conv_streams.layer_sizes(conv_streams.ConvStream(0, x.shape[2], (layer,)), x.shape[1])[0]


@functools.lru_cache(maxsize=256)
def _table(
    inputs: int, layer: conv_streams.ConvLayer, lengths: conv_streams.Sizes
) -> tuple[two_stream_conv.Table, int]:
    """Lay out the layer as ConvLayer of csrc/ops.h; the table and its address."""
    table = np.array([inputs, *layer[:4], *layer.pool, *lengths, 0, 0], np.int64)
    return table, native.address(table)


def _native(x: Tensor) -> bool:
    return len(x) > 0 and ops.runs_native(x)


def _forward(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *settings: Any) -> Forward:
    out, convolved, mean, variance = _fake(x, weight, gamma, beta, *settings)
    bias, slopes = (*settings[7:], None, None)[:2]  # the dispatcher leaves defaults out
    settings = settings[:7]
    if _native(x):
        operand, columns = x, weight
        if x.is_cuda and settings[-1] == "bf16":
            operand = x.bfloat16()
            columns = ops.paired(weight.permute(0, 2, 1).flatten(1))  # tap by tap
        elif x.is_cuda:
            with torch.autocast("cuda", enabled=False):
                convolved = functional.conv1d(x.mT, weight, bias, *settings[0][:2]).mT.contiguous()
        tensors = {
            "x": operand.contiguous(),
            "weight": columns.contiguous(),
            "gamma": gamma.contiguous(),
            "beta": beta.contiguous(),
            "convolved": convolved,
            "mean": mean,
            "variance": variance,
            "out": out,
        }
        _launch(OP, weight.shape, tensors | _optional(bias=bias, slopes=slopes), settings)
        return out, convolved, mean, variance
    out = _run_reference(x, weight, gamma, beta, *settings, bias, slopes)
    sizes, precision = settings[0], settings[-1]
    convolved = _before_norm(x, weight, sizes, precision, bias, None).mT  # (B, rows, O)
    y = _before_norm(x, weight, sizes, precision, bias, slopes).mT
    mean = y.mean((0, 1))
    return out, convolved.contiguous(), mean, (y - mean).square().mean((0, 1))


def _run_reference(*arguments: Any) -> Tensor:
    return reference(*arguments)


def _optional(**tensors: Tensor | None) -> dict[str, Tensor]:
    """Those that are there and hold something."""
    return {n: t.contiguous() for n, t in tensors.items() if t is not None and t.numel() > 0}


def _launch(
    op: str, weight_shape: torch.Size, tensors: dict[str, Tensor], settings: Sequence[Any]
) -> None:
    """Run one of the two ops of the core on tensors under the names of csrc/fields.h."""
    x = tensors["x"]
    sizes, activation, slope, eps, dropout, seed, precision = settings
    batch, samples, inputs = x.shape
    layer = _layer(weight_shape[0], weight_shape[2], sizes)
    lengths = _lengths(layer, x)
    table, address = _table(inputs, layer, lengths)
    work = 2 * lengths.rows * weight_shape.numel()
    if x.is_cuda:
        slots = 0
        size = conv_block_cuda_workspace(op, address, batch, bf16=precision == "bf16")
    else:
        slots = threads.threads_for(batch, work)
        size = conv_block_workspace(op, address, batch, samples, slots)
    workspace = x.new_empty(size, dtype=torch.float32)
    ops.launch(
        op,
        x,
        {**tensors, "workspace": workspace},
        layer=table,
        batch=batch,
        samples=samples,
        slots=slots,
        activation=conv_streams.ACTIVATIONS.index(activation),
        slope=slope,
        eps=eps,
        drop_below=drop_below(dropout),
        seed=seed,
        bf16=precision == "bf16",
        work=work,
    )


def _fake(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *settings: Any) -> Forward:
    outputs, _, kernel = weight.shape
    rows, steps = _lengths(_layer(outputs, kernel, settings[0]), x)
    out, convolved = x.new_empty(len(x), steps, outputs), x.new_empty(len(x), rows, outputs)
    return out, convolved, x.new_empty(outputs), x.new_empty(outputs)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Forward) -> None:
    x, weight, gamma, beta, *ctx.settings, bias, slopes = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # zeros of the size of the convolution
    ctx.save_for_backward(x, weight, gamma, beta, bias, slopes, *output[1:])


def _backward(ctx: Any, grad: Tensor | None, *unused: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * (6 + len(ctx.settings))
    *inputs, convolved, mean, variance = ctx.saved_tensors
    wants_x = ctx.needs_input_grad[0]
    if torch.is_grad_enabled() or not _native(grad):
        gradients = _gradients(grad, inputs, ctx.settings)
    else:
        results = (convolved, mean, variance)
        gradients = _native_gradients(
            grad, *inputs[:4], *results, *ctx.settings, *inputs[4:], wants_x
        )
    d_x, *first = gradients[:4]
    last = (None if t is None else d for t, d in zip(inputs[4:], gradients[4:], strict=True))
    return (d_x if wants_x else None, *first, *[None] * len(ctx.settings), *last)


def _gradients(grad: Tensor, inputs: Sequence[Tensor | None], settings: Sequence[Any]) -> Any:
    """Run the reference again and differentiate it, to be traced and differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [t if again or t is None else t.detach().requires_grad_() for t in inputs]
        inputs = [
            t if t is None or t.requires_grad else t.detach().requires_grad_() for t in inputs
        ]
        *tensors, bias, slopes = inputs
        out = _run_reference(*tensors, *settings, bias, slopes)
    leaves = [t for t in inputs if t is not None]
    found = iter(torch.autograd.grad(out, leaves, grad, create_graph=again))
    return [None if t is None else next(found) for t in inputs]


def _launch_gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    convolved: Tensor,
    mean: Tensor,
    variance: Tensor,
    *settings: Any,
) -> Gradients:
    *forward_settings, bias, slopes, wants_x = settings
    gradients = _fake_gradients(grad, x, weight, gamma, beta, *settings)
    d_x, d_weight, d_gamma, d_beta, d_bias, d_slopes = gradients
    own_products = not x.is_cuda or forward_settings[-1] == "bf16"
    operand, columns = x, weight
    if x.is_cuda and own_products:
        operand, columns = x.bfloat16(), _turned(weight, forward_settings[0][0])
    tensors = {
        "x": operand.contiguous(),
        "weight": columns.contiguous(),
        "gamma": gamma.contiguous(),
        "beta": beta.contiguous(),
        "convolved": convolved.contiguous(),
        "mean": mean.contiguous(),
        "variance": variance.contiguous(),
        "grad": grad.contiguous(),
        "d_weight": d_weight,
        "d_gamma": d_gamma,
        "d_beta": d_beta,
    }
    tensors |= _optional(bias=bias, slopes=slopes, d_bias=d_bias, d_slopes=d_slopes)
    if wants_x or not own_products:
        tensors["d_x"] = d_x if own_products else torch.empty_like(tensors["convolved"])
    _launch("conv_block_backward", weight.shape, tensors, forward_settings)
    if own_products:
        return gradients
    d_x, d_weight = _convolution_gradients(tensors["d_x"], x, weight, forward_settings[0], wants_x)
    return d_x, d_weight, *gradients[2:]


def _turned(weight: Tensor, stride: int) -> Tensor:
    """Lay weights out for the gradient of x: a row for each (place in a stride, input)."""
    outputs, inputs, kernel = weight.shape
    strides = -(-kernel // stride)
    filled = functional.pad(weight, (0, strides * stride - kernel))
    by_stride = filled.view(outputs, inputs, strides, stride).flip(2)
    rows = ops.paired(by_stride.permute(3, 1, 2, 0).reshape(-1, outputs))
    return rows.reshape(stride * inputs, -1)  # (stride inputs, strides outputs)


def _convolution_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, sizes: Sequence[int], wants_x: bool
) -> tuple[Tensor, Tensor]:
    """Differentiate the convolution by PyTorch: (batch, rows, outputs) to those of x and weight."""
    stride, pad = sizes[:2]
    mask = [wants_x, True, False]
    d_x, d_weight, _ = torch.ops.aten.convolution_backward(
        grad.mT, x.mT, weight, None, [stride], [pad], [1], False, [0], 1, mask
    )
    return d_x.mT.contiguous() if wants_x else x.new_empty(x.shape), d_weight.contiguous()


def _fake_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *settings: Any
) -> Gradients:
    *_, bias, slopes, _ = settings
    optional = (x.new_empty(0 if t is None else t.shape) for t in (bias, slopes))
    return *(t.new_empty(t.shape) for t in (x, weight, gamma, beta)), *optional


_SETTINGS = (
    "int[] sizes, str activation, float slope, float eps, float dropout, int seed, str precision"
)
_operator = ops.define(
    OP,
    f"(Tensor x, Tensor weight, Tensor gamma, Tensor beta, {_SETTINGS}, "
    "Tensor? bias=None, Tensor? slopes=None) -> (Tensor, Tensor, Tensor, Tensor)",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
_native_gradients = ops.define_gradients(
    "conv_block_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor gamma, Tensor beta, Tensor convolved, "
    f"Tensor mean, Tensor variance, {_SETTINGS}, Tensor? bias, Tensor? slopes, bool wants_x) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward=_launch_gradients,
    fake=_fake_gradients,
)
