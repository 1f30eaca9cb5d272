"""Convolution streams in words: layers, their sizes, and the flat list the core takes.

A stream is a chain of convolutions, each with an activation and perhaps a max-pool, over some
channels of the input. Streams over the same channels are one modality, and their outputs follow
each other in time; the maps of the next modality follow below. On its way through torch a
description is a flat list of whole numbers (`describe_streams`), and the weights are one vector:
weight (outputs, inputs, kernel) and bias (outputs) of each layer in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

Activation = Literal["leaky_relu", "relu", "gelu"]  # in the order of csrc/ops.h
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


class ConvLayer(NamedTuple):
    """A convolution, and the pool after it as (kernel, stride, padding)."""

    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    pool: tuple[int, int, int] = (1, 1, 0)


class ConvStream(NamedTuple):
    """Layers over `channels` channels of the input from `channel` on."""

    channel: int
    channels: int
    layers: tuple[ConvLayer, ...]


class Sizes(NamedTuple):
    """Rows of a layer's convolution, and its time steps after the pool."""

    rows: int
    steps: int


def describe_streams(streams: Iterable[ConvStream]) -> list[int]:
    """Flatten a description to whole numbers."""
    numbers: list[int] = []
    for stream in streams:
        numbers += [stream.channel, stream.channels, len(stream.layers)]
        for layer in stream.layers:
            numbers += [*layer[:4], *layer.pool]
    return numbers


def parse_streams(shape: Sequence[int]) -> list[ConvStream]:
    """Read what `describe_streams` wrote."""
    streams, index = [], 0
    while index < len(shape):
        channel, channels, count = shape[index : index + 3]
        layers = []
        for start in range(index + 3, index + 3 + 7 * count, 7):
            o, k, s, p, *pool = shape[start : start + 7]
            layers.append(ConvLayer(o, k, s, p, (pool[0], pool[1], pool[2])))
        streams.append(ConvStream(channel, channels, tuple(layers)))
        index += 3 + 7 * count
    return streams


def layer_sizes(stream: ConvStream, samples: int) -> list[Sizes]:
    """Lengths along a stream; not positive where the input is too short."""
    sizes = []
    for layer in stream.layers:
        rows = (samples + 2 * layer.pad - layer.kernel) // layer.stride + 1
        kernel, stride, pad = layer.pool
        samples = (rows + 2 * pad - kernel) // stride + 1
        sizes.append(Sizes(rows, samples))
    return sizes


def stream_starts(
    streams: Sequence[ConvStream], samples: int
) -> tuple[list[tuple[int, int]], int, int]:
    """Where each stream's output starts, (map, step), and the size of the whole: maps, steps."""
    starts = [(0, 0)]
    for before, after in pairwise(streams):
        row, step = starts[-1]
        if (before.channel, before.channels) == (after.channel, after.channels):
            starts.append((row, step + layer_sizes(before, samples)[-1].steps))
        else:
            starts.append((row + before.layers[-1].outputs, 0))
    last = streams[-1]
    row, step = starts[-1]
    return starts, row + last.layers[-1].outputs, step + layer_sizes(last, samples)[-1].steps


def stream_weight_count(streams: Iterable[ConvStream]) -> int:
    """Numbers in the vector of weights and biases."""
    total = 0
    for stream in streams:
        inputs = stream.channels
        for layer in stream.layers:
            total += layer.outputs * (inputs * layer.kernel + 1)
            inputs = layer.outputs
    return total
