"""Convolution streams of MMASleepNet (its MBFE) and its kin, BatchNorm folded, from input to maps.

A modality goes through a stream with short and a stream with long kernels: a convolution and a
pool, further convolutions and another pool; the two outputs are joined on time. Several modalities
make one call, so that a single epoch keeps more than one core busy. The sizes are an argument:
`sleeptools.native.conv_streams` has the words for them. In training BatchNorm uses the statistics
of the batch, which cannot be folded, so a model in training mode runs its layers one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.native import conv_streams, threads
from sleeptools.native.bfloat16 import uses_bf16
from sleeptools.native.check import check_shape
from sleeptools.native.conv_streams import ConvLayer, ConvStream, describe_streams
from sleeptools.native.two_stream_conv import (
    check_streams,
    check_streams_once,
    depth_unit,
    op_sizes,
    pack_weights,
    stream_layout,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TOLERANCE_BF16 = 5e-3  # of the largest output, with precision "bf16"

Example = tuple[Tensor, Tensor, list[int], str, float]


def two_stream_conv(
    x: Tensor,
    weights: Tensor,
    shape: Sequence[int],
    activation: str = "leaky_relu",
    slope: float = 0.01,
    precision: str = "fp32",
    packed: Tensor | None = None,
) -> Tensor:
    """Run the streams of one or more modalities.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x
        Signals, (B, C, T).
    weights
        Weight (outputs, inputs, kernel) and bias (outputs) of each layer in turn, flattened and
        joined to one vector (`join`); BatchNorm folded in (`ops.fold_batch_norm`).
    shape
        The streams, as `conv_streams.describe_streams` writes them.
    activation
        After each convolution: "leaky_relu", "relu" or "gelu" (the exact one).
    slope
        Slope of leaky_relu below zero.
    precision
        "bf16" multiplies in bfloat16 and adds in float32, natively on a CPU that can and on CUDA;
        float32 elsewhere.
    packed
        `pack(weights, shape, precision)` if the caller keeps it; otherwise made at each call, at
        the cost of a copy of all weights.

    Returns
    -------
    Tensor
        (B, maps, steps): the streams of a modality follow each other in time, the modalities' maps
        below each other.

    Raises
    ------
    ValueError
        For wrong shapes, and for weights of another type or device than `x`.
    """
    sizes = (tuple(x.shape), tuple(weights.shape))
    if torch.compiler.is_compiling():
        check_streams(*sizes, shape, activation, precision)
    else:
        check_streams_once(*sizes, tuple(shape), activation, precision)
    ops.check_alike("two_stream_conv", x, (weights,))
    return _operator(x, weights, shape, activation, slope, precision, packed)


def reference(
    x: Tensor,
    weights: Tensor,
    shape: Sequence[int],
    activation: str = "leaky_relu",
    slope: float = 0.01,
    precision: str = "fp32",
    packed: Tensor | None = None,
) -> Tensor:
    """As `two_stream_conv`, in plain PyTorch: the specification."""
    modalities: dict[tuple[int, int], list[Tensor]] = {}
    index = 0
    for stream in conv_streams.parse_streams(shape):
        y = x[:, stream.channel : stream.channel + stream.channels]  # (B, channels, T)
        for layer in stream.layers:
            size = (layer.outputs, y.shape[1], layer.kernel)
            end = index + layer.outputs * y.shape[1] * layer.kernel
            weight, bias = weights[index:end].view(size), weights[end : end + layer.outputs]
            y = functional.conv1d(y, weight, bias, layer.stride, layer.pad)  # (B, outputs, T')
            y = functional.max_pool1d(ops.activate(y, activation, slope), *layer.pool)
            index = end + layer.outputs
        modalities.setdefault(stream[:2], []).append(y)
    return torch.cat([torch.cat(outputs, 2) for outputs in modalities.values()], 1)


def join(layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Make the vector of weights from (weight, bias) of each layer; differentiable."""
    return torch.cat([array.reshape(-1) for layer in layers for array in layer])


def pack(weights: Tensor, shape: Sequence[int], precision: str = "fp32") -> Tensor:
    """Put weights in the order in which the kernels of their device read them.

    Holds for the device of the weights, on a CPU for the variant in use; not differentiable, and
    not updated when the weights are.
    """
    array = weights.detach().cpu().numpy()
    packed = pack_weights(array, shape, precision, cuda=weights.is_cuda)
    return torch.from_numpy(packed).to(weights.device)


def ready(example: Example, precision: str = "fp32") -> tuple[Any, ...]:
    """Add the packed weights to an example, as a caller that keeps them would; for benchmarks."""
    return *example, precision, pack(example[1], example[2], precision)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    eeg = _mmasleepnet(2, 64, (50, 24), (500, 24))
    cases: list[tuple[tuple[int, int, int], list[ConvStream], str, float]] = [
        ((batch, 2, 3000), eeg, "leaky_relu", 0.01),
        ((2, 2, 15), _small(), "leaky_relu", 0.3),
        ((2, 2, 15), _small(), "gelu", 0.0),
        ((2, 2, 15), _small(), "leaky_relu", -0.5),
        ((1, 4, 333), _odd(), "leaky_relu", 0.3),
        ((3, 4, 334), _odd(), "gelu", 0.0),
        ((0, 2, 3000), eeg, "leaky_relu", 0.01),
        ((1, 1, 3000), _mmasleepnet(1, 32, (25, 8), (250, 24)), "leaky_relu", 0.01),
        ((1, 6, 3001), _mmasleepnet(6, 64, (64, 24), (512, 24)), "relu", 0.0),
        ((2, 1, 3000), _attnsleep(), "gelu", 0.0),
    ]
    return [_example(generator, torch.device(device), *case) for case in cases]


def _mmasleepnet(
    channels: int, width: int, short: tuple[int, int], long: tuple[int, int]
) -> list[ConvStream]:
    w = 2 * width
    small = (
        ConvLayer(width, short[0], 8, short[1], (8, 8, 4)),
        ConvLayer(w, 8, 1, 4),
        ConvLayer(w, 8, 1, 4),
        ConvLayer(w, 8, 1, 4, (4, 4, 2)),
    )
    large = (
        ConvLayer(width, long[0], 64, long[1], (4, 4, 2)),
        ConvLayer(w, 6, 1, 4),
        ConvLayer(w, 6, 1, 4),
        ConvLayer(w, 6, 1, 4, (2, 2, 1)),
    )
    return [ConvStream(0, channels, small), ConvStream(0, channels, large)]


def _attnsleep() -> list[ConvStream]:
    """Its pools overlap and come after GELU, so none of them may move."""
    small = (
        ConvLayer(64, 50, 6, 24, (8, 2, 4)),
        ConvLayer(128, 8, 1, 4),
        ConvLayer(128, 8, 1, 4, (4, 4, 2)),
    )
    large = (
        ConvLayer(64, 400, 50, 200, (4, 2, 2)),
        ConvLayer(128, 7, 1, 3),
        ConvLayer(128, 7, 1, 3, (2, 2, 1)),
    )
    return [ConvStream(0, 1, small), ConvStream(0, 1, large)]


def _small() -> list[ConvStream]:
    small = (
        ConvLayer(2, 3, 2, 1, (2, 2, 1)),
        ConvLayer(3, 2, 1, 1),
        ConvLayer(3, 2, 1, 0, (2, 2, 0)),
    )
    large = (ConvLayer(2, 5, 3, 2, (2, 1, 0)), ConvLayer(3, 2, 1, 2, (3, 2, 1)))
    return [ConvStream(0, 2, small), ConvStream(0, 2, large)]


def _odd() -> list[ConvStream]:
    """Two modalities, and nothing a multiple of anything."""
    first = (
        ConvLayer(17, 7, 3, 5, (3, 3, 1)),
        ConvLayer(33, 3, 2, 2),
        ConvLayer(21, 5, 1, 3, (20, 20, 10)),
    )
    second = (ConvLayer(5, 11, 1, 0, (20, 17, 3)), ConvLayer(21, 4, 1, 2, (9, 9, 4)))
    single = (
        ConvLayer(49, 9, 7, 4, (5, 5, 2)),
        ConvLayer(100, 2, 1, 1),
        ConvLayer(35, 3, 1, 2, (3, 3, 1)),
    )
    return [ConvStream(0, 3, first), ConvStream(0, 3, second), ConvStream(3, 1, single)]


def _example(
    generator: torch.Generator,
    device: torch.device,
    size: tuple[int, int, int],
    streams: list[ConvStream],
    activation: str,
    slope: float,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    layers = []
    for stream in streams:
        inputs = stream.channels
        for layer in stream.layers:
            scale = (inputs * layer.kernel) ** -0.5
            weight = normal(layer.outputs, inputs, layer.kernel) * scale
            layers.append((weight, normal(layer.outputs)))
            inputs = layer.outputs
    return normal(*size), join(layers), describe_streams(streams), activation, slope


def _forward(
    x: Tensor,
    weights: Tensor,
    shape: Sequence[int],
    activation: str,
    slope: float,
    precision: str = "fp32",
    packed: Tensor | None = None,
) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, weights, shape, activation, slope).contiguous()
    bf16 = precision == "bf16" if x.is_cuda else uses_bf16(precision)
    unit = depth_unit(precision, cuda=x.is_cuda)
    layout = stream_layout(tuple(shape), x.shape[2], unit=unit)
    if packed is None:
        packed = pack(weights, shape, precision)
    check_shape("two_stream_conv", "packed", packed.shape, (layout.packed,))
    ops.check_alike("two_stream_conv", x, (packed,))
    # on a GPU the signals of all epochs, twice; on a CPU a slot for each thread
    slots = 1 if x.is_cuda else threads.threads_for(len(x) * len(layout.streams), layout.work)
    signals = 2 * len(x) * max(layout.rows, layout.input)
    size = signals if x.is_cuda else layout.workspace(slots, len(x))
    workspace = torch.empty(size, dtype=x.dtype, device=x.device)
    out = torch.empty((len(x), layout.maps, layout.steps), dtype=x.dtype, device=x.device)
    ops.launch(
        "two_stream_conv",
        x,
        {"x": x.contiguous(), "packed": packed, "workspace": workspace, "out": out},
        layers=layout.layers,
        streams=layout.streams,
        **op_sizes(layout, x.shape),
        activation=conv_streams.ACTIVATIONS.index(activation),
        slope=slope,
        bf16=bf16,
        slots=slots,
    )
    return out


def _fake(x: Tensor, weights: Tensor, shape: Sequence[int], *settings: Any) -> Tensor:
    _, maps, steps = conv_streams.stream_starts(conv_streams.parse_streams(shape), x.shape[2])
    return x.new_empty((x.shape[0], maps, steps))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, ctx.shape, ctx.activation, ctx.slope, *_ = inputs
    ctx.save_for_backward(x, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the streams from their input and differentiate that; only inputs are kept."""
    x, weights = ctx.saved_tensors
    again = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:2]
    with torch.enable_grad():
        x, weights = (t if again else t.detach().requires_grad_() for t in (x, weights))
        out = reference(x, weights, ctx.shape, ctx.activation, ctx.slope)
    inputs = [t for t, needs in zip((x, weights), needed, strict=True) if needs]
    gradients = iter(torch.autograd.grad(out, inputs, grad, create_graph=again))
    return (*(next(gradients) if needs else None for needs in needed), None, None, None, None, None)


_operator = ops.define(
    "two_stream_conv",
    "(Tensor x, Tensor weights, int[] shape, str activation, float slope, str precision='fp32', "
    "Tensor? packed=None) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
