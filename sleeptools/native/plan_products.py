"""Products of compiled graphs: which take bfloat16, what is kept in it, packed weights, scratch.

With precision "bf16" the operands of a step's products are rounded to bfloat16 and their sums are
float32; everything else stays float32. A step with too few products for a tile register of a CPU
with AMX, whose rows have 32 bfloat16 and of which there are 16, stays float32 as a whole: it would
mostly multiply the zeros that fill the tile up. So do the first layers, which see raw signals, and
the last ones, which see one step. The choice depends on the graph alone, so that every CPU and the
reference in PyTorch round the same operands.
"""

from __future__ import annotations

import math

import numpy as np

from sleeptools import native
from sleeptools.native import Floats
from sleeptools.native.conv_graph import INNER, Graph, GraphLayer, split_weights
from sleeptools.native.two_stream_conv import PANEL, TILE_DEPTH, pack_panels

TILE_ROWS = 16  # csrc/cpu/tiles.h
LEAST_HEAD = 16  # maps of a head that are worth a tile, though they fill half of its depth
ROWS_AT_ONCE = 60  # of a convolution, at most; csrc/cpu/strided_rows.h
LSTMS = frozenset(["lstm", "lstm_reversed"])


def takes_bf16(graph: Graph, layer: GraphLayer) -> bool:
    """Whether a layer's products are bfloat16 where that precision is asked for."""
    steps = graph.signals[layer.target.signal].steps
    match layer.kind:
        case "convolve":
            return layer.kernel * layer.source.width >= TILE_DEPTH and steps >= TILE_ROWS
        case "attend":
            keys = graph.signals[layer.operands[0]].steps
            head = min(layer.source.width, layer.target.width) // layer.kernel
            return head >= LEAST_HEAD and min(steps, keys) >= TILE_ROWS
        case "lstm" | "lstm_reversed":
            return layer.target.width >= TILE_DEPTH
        case _:
            return False


def bf16_signals(graph: Graph) -> frozenset[int]:
    """Choose the signals that are kept in bfloat16: those between such convolutions alone.

    To round them when they are written or when they are read is the same.
    """
    inner = {index for index, signal in enumerate(graph.signals) if signal.start == INNER}
    inner -= {graph.layers[-1].target.signal}
    for layer in graph.layers:
        used = {layer.source.signal, layer.target.signal}
        if layer.kind != "convolve" or not takes_bf16(graph, layer):
            inner -= used
        inner -= {*layer.added[::2], *layer.operands[::2]}
    return frozenset(inner)


def scratch_floats(graph: Graph, layer: GraphLayer) -> int:
    """Floats that a thread needs for what a layer in bfloat16 rounds."""
    values = 0
    if layer.kind == "convolve":
        rows = (ROWS_AT_ONCE - 1) * layer.stride + layer.kernel
        values = rows * layer.source.width + TILE_DEPTH
    elif layer.kind == "attend":
        keys = graph.signals[layer.operands[0]].steps
        widths = (maps.width // layer.kernel for maps in (layer.source, layer.target))
        values = _whole(keys, TILE_DEPTH) * sum(_whole(width, TILE_DEPTH) for width in widths)
    return _whole(-(-values // 2), TILE_ROWS)  # two in a float's place, to whole cache lines


def packed_size(shape: tuple[int, ...], unit: int = 1) -> int:
    """Floats of an array in the core's form: its outputs filled up to whole panels.

    Parameters
    ----------
    shape
        (outputs, ...), of a convolution (outputs, inputs, kernel).
    unit
        Products that the core adds at a time; see `two_stream_conv.depth_unit`.
    """
    return _whole(shape[0], PANEL) * _whole(math.prod(shape[1:]), unit) // min(unit, 2)


def _whole(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def pack_graph(weights: Floats, graph: Graph, unit: int = 1) -> Floats:
    """Pack all weights for the core.

    Parameters
    ----------
    weights
        In the order of the graph's layers, in one vector.
    unit
        Products that the core adds at a time of the layers that take bfloat16; see
        `two_stream_conv.depth_unit`.

    Returns
    -------
    ndarray
        One vector, from a cache line on. Where weights are bfloat16, two share a float's place.
    """
    packed, start = [np.empty(0, np.float32)], 0
    for layer in graph.layers:
        arrays, start = split_weights(layer, weights, start)
        for name, array in arrays.items():
            packed.append(pack_array(array, array_unit(graph, layer, name, unit)))
    return native.aligned(np.concatenate(packed))


def array_unit(graph: Graph, layer: GraphLayer, name: str, unit: int) -> int:
    """Give the products of an array of a layer that the core adds at a time."""
    return unit if name == "weight" and takes_bf16(graph, layer) else 1


def pack_array(array: Floats, unit: int = 1) -> Floats:
    """Turn an array of a layer to panels, row after row: (outputs, ...) to one vector.

    Parameters
    ----------
    unit
        As for `pack_graph`; above 1 the array is rounded to bfloat16.
    """
    if array.ndim == 3 or unit > 1:  # noqa: PLR2004 - (outputs, inputs, kernel)
        return pack_panels(array.reshape(*array.shape[:2], -1), unit)
    rows = np.pad(array, [(0, -len(array) % PANEL), *[(0, 0)] * (array.ndim - 1)])
    return rows.T.reshape(-1)
