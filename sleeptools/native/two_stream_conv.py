"""Two-stream convolutions in the native core: packed weights, layout, the op on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native import PRECISIONS, Floats, Precision, as_floats, threads
from sleeptools.native.bfloat16 import bf16_bits, uses_bf16
from sleeptools.native.check import Shapes, check_choice, check_shape
from sleeptools.native.conv_streams import (
    ACTIVATIONS,
    Activation,
    ConvStream,
    layer_sizes,
    parse_streams,
    stream_starts,
    stream_weight_count,
)
from sleeptools.native.prepared import Op, PreparedOp, on_cpu

OP = "two_stream_conv"
SHAPES = Shapes(OP, x="batch channels samples", weights="count")
PANEL = 16  # outputs of a panel; csrc/ops.h
TILE_DEPTH = 32  # bfloat16 in a row of a tile register; csrc/cpu/tiles.h
CHUNK = 8  # bfloat16 that a GPU copies together; csrc/cuda/tensor_product.cuh
EPOCHS = 8  # that a thread takes through a layer together; csrc/ops.h
ALIGN = 16  # floats; a cache line

Table = NDArray[np.int64]


class StreamLayout(NamedTuple):
    """The tables of csrc/ops.h, the output's size, and the sizes of buffers in floats."""

    layers: Table
    streams: Table
    maps: int
    steps: int
    packed: int
    input: int
    rows: int
    margin: int
    work: int
    behind: int

    @property
    def slot(self) -> int:
        """Workspace of an epoch at work."""
        return self.input + 2 * self.rows

    def workspace(self, threads: int, batch: int) -> int:
        """Of so many threads, from a cache line on; what lies behind is read, and not used."""
        return ALIGN + threads * min(batch, EPOCHS) * self.slot + self.behind


def check_streams(
    size: tuple[int, ...],
    weights: tuple[int, ...],
    shape: Sequence[int],
    activation: str,
    precision: str,
) -> None:
    """Check the arguments of `two_stream_conv`: the shapes of x and weights, and the settings.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    SHAPES.check_shapes(size, weights)
    check_choice(OP, "activation", activation, ACTIVATIONS)
    check_choice(OP, "precision", precision, PRECISIONS)
    streams = parse_streams(shape)
    check_shape(OP, "weights", weights, (stream_weight_count(streams),))
    for stream in streams:
        _check_stream(stream, size)
    _check_starts(streams, size[2])


check_streams_once = functools.lru_cache(maxsize=64)(check_streams)
"""As `check_streams`, for a shape in a tuple; torch.compile cannot look into it."""


def _check_stream(stream: ConvStream, size: tuple[int, ...]) -> None:
    end = stream.channel + stream.channels
    if end > size[1]:
        raise ValueError(f"{OP}: x has shape {size}; expected at least {end} channels")
    if any(min(lengths) < 1 for lengths in layer_sizes(stream, size[2])):
        raise ValueError(f"{OP}: x has shape {size}; expected more samples: a layer sees none")
    for layer in stream.layers:
        kernel, _, pad = layer.pool
        if 2 * pad > kernel:
            raise ValueError(f"{OP}: pool padding is {pad}; expected at most half of {kernel}")


def _check_starts(streams: Sequence[ConvStream], samples: int) -> None:
    starts, _, steps = stream_starts(streams, samples)
    for i, (stream, (_, start)) in enumerate(zip(streams, starts, strict=True)):
        end = start + layer_sizes(stream, samples)[-1].steps
        if (i + 1 == len(starts) or starts[i + 1][1] == 0) and end != steps:
            raise ValueError(f"{OP}: a modality has {end} steps; expected {steps} as the last one")
        maps, expected = stream.layers[-1].outputs, streams[i - 1].layers[-1].outputs
        if start > 0 and maps != expected:
            raise ValueError(f"{OP}: a stream has {maps} maps; expected {expected} as beside it")


def depth_unit(precision: str, *, cuda: bool = False) -> int:
    """Products that the kernel adds at a time; a row of packed weights is filled up to them."""
    if cuda:
        return CHUNK if precision == "bf16" else 1
    if not uses_bf16(precision):
        return 1
    return TILE_DEPTH if native.variant() == "amx-bf16" else 2


@functools.lru_cache(maxsize=64)
def stream_layout(shape: tuple[int, ...], samples: int, *, unit: int) -> StreamLayout:
    """Lay out tables and buffers for an input of `samples` samples; checked before.

    Parameters
    ----------
    shape
        As `describe_streams` writes it.
    samples
        Samples of a channel.
    unit
        See `depth_unit`.
    """
    streams = parse_streams(shape)
    starts, maps, steps = stream_starts(streams, samples)
    layers: list[tuple[int, ...]] = []
    table, packed, largest, work, behind = [], 0, 0, 0, 0
    for stream, start in zip(streams, starts, strict=True):
        table.append((stream.channel, stream.channels, len(layers), len(stream.layers), *start))
        inputs = stream.channels
        pads = [layer.pad for layer in stream.layers[1:]] + [0]
        for layer, size, pad in zip(stream.layers, layer_sizes(stream, samples), pads, strict=True):
            bias, panels = packed, -(-layer.outputs // PANEL)
            weight = bias + panels * PANEL
            depth = inputs * layer.kernel
            packed = weight + panels * PANEL * (-(-depth // unit) * unit // min(unit, 2))
            layers.append((inputs, *layer[:4], *layer.pool, *size, bias, weight))
            largest = max(largest, max(size.rows, size.steps + 2 * pad) * layer.outputs)
            behind = max(behind, PANEL * layer.stride * inputs)  # rows that fill up a tile
            work += 2 * size.rows * layer.outputs * depth
            inputs = layer.outputs
    margin = max(stream.layers[0].pad for stream in streams)
    channels = max(stream.channels for stream in streams)
    return StreamLayout(
        np.array(layers, np.int64),
        np.array(table, np.int64),
        maps,
        steps,
        packed,
        _aligned((samples + 2 * margin) * channels),
        _aligned(largest),
        margin,
        work // len(streams),
        behind if unit == TILE_DEPTH else 0,
    )


def _aligned(count: int) -> int:
    """Round up, with room for a vector that starts at the last element."""
    return -(-count // ALIGN) * ALIGN + ALIGN


def pack_weights(
    weights: Floats, shape: Sequence[int], precision: str = "fp32", *, cuda: bool = False
) -> Floats:
    """Put weights in the order in which the kernel reads them.

    Parameters
    ----------
    weights
        Weight and bias of each layer in turn, in one vector.
    shape
        As `describe_streams` writes it.
    precision
        "bf16" rounds the weights where the CPU can multiply them as such, and for a GPU.
    cuda
        For a GPU instead of this CPU.

    Returns
    -------
    ndarray
        One vector, from a cache line on. Where weights are bfloat16, two share a float's place.
    """
    unit = depth_unit(precision, cuda=cuda)
    packed, index = [], 0
    for stream in parse_streams(shape):
        inputs = stream.channels
        for layer in stream.layers:
            outputs, count = layer.outputs, layer.outputs * inputs * layer.kernel
            weight = weights[index : index + count].reshape(outputs, inputs, layer.kernel)
            bias = weights[index + count : index + count + outputs]
            packed += [np.pad(bias, (0, -outputs % PANEL)), pack_panels(weight, unit)]
            index += count + outputs
            inputs = outputs
    return native.aligned(np.concatenate(packed))


def pack_panels(weight: Floats, unit: int) -> Floats:
    """Turn a convolution's weight (outputs, inputs, kernel) to panels; `unit`: see `depth_unit`."""
    outputs, inputs, kernel = weight.shape
    rows = weight.transpose(2, 1, 0).reshape(kernel * inputs, outputs)
    rows = np.pad(rows, ((0, -len(rows) % unit), (0, -outputs % PANEL)))
    panels = rows.reshape(len(rows), -1, PANEL).transpose(1, 0, 2)  # (panels, depth, PANEL)
    if unit == 1:
        return panels.reshape(-1)
    if unit == CHUNK:  # a row for each output
        return bf16_bits(rows.T).view(np.float32).reshape(-1)
    halves = bf16_bits(panels)
    pairs = halves.reshape(len(halves), -1, 2, PANEL).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(pairs).view(np.float32).reshape(-1)


def op_sizes(layout: StreamLayout, size: Sequence[int]) -> dict[str, int]:
    """Give the sizes among the fields of the op, for an input (batch, channels, samples)."""
    batch, channels, samples = size
    return {
        "batch": batch,
        "channels": channels,
        "samples": samples,
        "maps": layout.maps,
        "steps": layout.steps,
        "stream_count": len(layout.streams),
        "input_size": layout.input,
        "rows_size": layout.rows,
        "margin": layout.margin,
        "work": layout.work,
    }


@Op
def two_stream_conv(
    x: Floats,
    weights: Floats,
    shape: Sequence[int],
    activation: Activation = "leaky_relu",
    slope: float = 0.01,
    precision: Precision = "fp32",
    packed: Floats | None = None,
) -> PreparedOp:
    """Run convolution streams on NumPy arrays; see `sleeptools.models.ops.two_stream_conv`.

    Parameters
    ----------
    x
        Signals (batch, channels, samples).
    weights
        Weight and bias of each layer in turn, in one vector.
    shape
        As `describe_streams` writes it.
    activation, slope
        After each convolution; the slope is leaky_relu's.
    precision
        Precision of the products; sums are float32.
    packed
        `pack(weights, shape, precision)`, if it is at hand.

    Returns
    -------
    ndarray
        (batch, maps, steps) float32.

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    check_streams_once(x.shape, weights.shape, tuple(shape), activation, precision)
    x = as_floats(x)
    if packed is None:
        packed = pack_weights(np.asarray(weights, np.float32), shape, precision)
    layout = stream_layout(tuple(shape), x.shape[2], unit=depth_unit(precision))
    check_shape(OP, "packed", packed.shape, (layout.packed,))
    slots = threads.threads_for(len(x) * len(layout.streams), layout.work)
    return on_cpu(
        OP,
        {
            "x": x,
            "packed": packed,
            "layers": layout.layers,
            "streams": layout.streams,
            "workspace": np.empty(layout.workspace(slots, len(x)), np.float32),
        },
        np.empty((len(x), layout.maps, layout.steps), np.float32),
        **op_sizes(layout, x.shape),
        activation=ACTIVATIONS.index(activation),
        slope=slope,
        bf16=uses_bf16(precision),
        slots=slots,
    )
