"""Graphs of convolutions compiled for the native core: positions in memory, packed weights, the op.

Compiling is three things: every signal gets a place in an arena, which it leaves to others once its
last reader is done; rows of zeros lie around it where a convolution reads past its ends; and the
weights are packed into panels. The core then runs the steps of an epoch in that arena, which for
most networks stays in a core's own caches.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import PRECISIONS, Floats, Precision, as_floats, threads
from sleeptools.native.check import Shapes, check_choice, check_shape
from sleeptools.native.conv_graph import (
    BARE,
    GATES,
    INNER,
    KINDS,
    PLAN_ACTIVATIONS,
    Graph,
    GraphLayer,
    Maps,
    graph_weight_count,
    parse_graph,
)
from sleeptools.native.plan_products import (
    array_unit,
    bf16_signals,
    pack_graph,
    packed_size,
    scratch_floats,
    takes_bf16,
)
from sleeptools.native.prepared import Op, PreparedOp, on_cpu
from sleeptools.native.two_stream_conv import depth_unit

OP = "conv_plan"
SHAPES = Shapes(OP, x="batch values", weights="count")
ALIGN = 16  # floats; a cache line
PARTS = 8  # that an epoch is divided into, where it is alone; csrc/ops.h
TOGETHER = 1 << 19  # floats of the arenas that a thread goes from one to the other of
MOST_TOGETHER = 8  # epochs; csrc/ops.h
MOST_MAPS = 256  # of a head, or of an LSTM; csrc/ops.h
NOTHING = -1
SOFTMAX = 10  # products that take as long as an exponential
VECTORS = ("weight", "bias", "slopes", "scale", "shift")

Table = NDArray[np.int64]


class PlanLayout(NamedTuple):
    """The tables of csrc/ops.h and the sizes in floats."""

    inputs: Table
    steps: Table
    arena: int
    packed: int
    result: int
    result_row: int
    scratch: int
    bf16: bool
    work: int


class ArenaRows(NamedTuple):
    """Where a signal lies in the arena: its first row, and zeros before and after its rows."""

    start: int
    row: int
    before: int
    after: int


def check_graph(
    size: tuple[int, ...], weights: tuple[int, ...], numbers: Sequence[int], precision: str = "fp32"
) -> Graph:
    """Check the arguments of `conv_plan`: the shapes of x and weights, the graph, the precision.

    Returns
    -------
    Graph
        The graph.

    Raises
    ------
    ValueError
        Naming the argument or the layer, what it must be and what it is.
    """
    SHAPES.check_shapes(size, weights)
    check_choice(OP, "precision", precision, PRECISIONS)
    graph = parse_graph(numbers)
    for index, (maps, steps, _) in enumerate(graph.signals):
        if min(maps, steps) < 1:
            raise ValueError(
                f"{OP}: signal {index} is ({maps}, {steps}); expected 1 map and 1 step, or more"
            )
    check_shape(OP, "x", size, (size[0], graph.values))
    check_shape(OP, "weights", weights, (graph_weight_count(graph),))
    written = [set(range(signal.maps if signal.start >= 0 else 0)) for signal in graph.signals]
    for index, layer in enumerate(graph.layers):
        _check_layer(graph, index, layer, written)
    missing = graph.output.maps - len(written[graph.layers[-1].target.signal])
    if missing:
        raise ValueError(f"{OP}: {missing} maps of the output are written by no layer")
    return graph


check_graph_once = functools.lru_cache(maxsize=64)(check_graph)
"""As `check_graph`, for numbers in a tuple; torch.compile cannot look into it."""


def _check_layer(graph: Graph, index: int, layer: GraphLayer, written: list[set[int]]) -> None:
    name = f"{OP}: layer {index} ({layer.kind})"
    target, source = graph.signals[layer.target.signal], graph.signals[layer.source.signal]
    outputs = set(range(layer.target.first, layer.target.first + layer.target.width))
    added, operands = added_maps(layer), operand_maps(layer)
    for maps in (layer.source, *added, *operands):
        if not set(range(maps.first, maps.first + maps.width)) <= written[maps.signal]:
            raise ValueError(f"{name} reads maps of signal {maps.signal} that are not written")
    if not outputs or max(outputs) >= target.maps or outputs & written[layer.target.signal]:
        raise ValueError(f"{name} writes maps of signal {layer.target.signal} that it may not")
    expected = _shape_of_target(graph, layer)
    if expected is not None and expected != (layer.target.width, target.steps):
        raise ValueError(
            f"{name} makes {layer.target.width} maps of {target.steps} steps; expected {expected}"
        )
    if any(graph.signals[maps.signal].steps != target.steps for maps in added):
        raise ValueError(f"{name} adds a signal of another length; expected {target.steps} steps")
    if min(layer.kernel, layer.stride, layer.dilation) < 1:
        raise ValueError(f"{name} has a kernel, stride or dilation below 1")
    reach = (layer.kernel - 1) * layer.dilation
    last = (target.steps - 1) * layer.stride - layer.pad
    windowed = layer.kind in {"convolve", "depthwise", "maximum"}
    margin = source.steps + reach  # zeros before or after that may be asked for
    if windowed and (layer.pad > margin or last + reach - source.steps >= margin + layer.stride):
        raise ValueError(f"{name} has windows outside its {source.steps} steps")
    inside = 0 <= layer.pad <= reach and last + (reach if layer.dilation > 1 else 0) < source.steps
    if layer.kind == "maximum" and not (inside and (layer.dilation == 1 or layer.pad == 0)):
        raise ValueError(f"{name} has windows outside its {source.steps} steps")
    _check_operands(graph, layer, name)
    written[layer.target.signal] |= outputs


def _shape_of_target(graph: Graph, layer: GraphLayer) -> tuple[int, int] | None:
    """Give the maps and steps that a layer must make; None where any number may be asked for."""
    width, steps = layer.source.width, graph.signals[layer.source.signal].steps
    target = graph.signals[layer.target.signal].steps
    match layer.kind:
        case "convolve":
            return None
        case "depthwise" | "maximum" | "mean" | "resize":
            return width, target
        case "transpose":
            return steps, width
        case "attend":
            return layer.target.width, steps
        case "lstm" | "lstm_reversed":
            return width // GATES, steps
        case _:
            return width, steps


def _check_operands(graph: Graph, layer: GraphLayer, name: str) -> None:
    operands = operand_maps(layer)
    steps = [graph.signals[maps.signal].steps for maps in operands]
    count = {"multiply": 1, "attend": 2}.get(layer.kind, 0)
    if len(operands) != count:
        raise ValueError(f"{name} is joined with {len(operands)} signals; expected {count}")
    if layer.kind == "multiply" and steps[0] not in {1, graph.signals[layer.source.signal].steps}:
        raise ValueError(f"{name} has a factor of {steps[0]} steps; expected as many as x, or 1")
    if layer.kind == "attend":
        if steps[0] != steps[1]:
            raise ValueError(f"{name} has {steps[0]} keys and {steps[1]} values")
        if layer.source.width % layer.kernel or layer.target.width % layer.kernel:
            raise ValueError(f"{name} has maps that {layer.kernel} heads do not divide")
    widest = {
        "attend": max(layer.source.width, layer.target.width) // layer.kernel,
        "lstm": layer.target.width,
        "lstm_reversed": layer.target.width,
    }.get(layer.kind, 0)
    if widest > MOST_MAPS:
        raise ValueError(f"{name} has {widest} maps; expected at most {MOST_MAPS}")
    if layer.kind.startswith("lstm") and layer.source.width % GATES:
        raise ValueError(f"{name} has {layer.source.width} maps; expected 4 gates of as many")
    after = layer.activation != "none" or layer.has_bias or layer.has_scale or added_maps(layer)
    if layer.kind in BARE and after:
        raise ValueError(f"{name} has something after it")
    if layer.kind == "positions" and layer.kernel != graph.signals[layer.target.signal].steps:
        raise ValueError(f"{name} has weights for {layer.kernel} steps")
    if layer.kind == "unbiased_norm" and layer.source.width == 1:
        raise ValueError(f"{name} has a single map")


def added_maps(layer: GraphLayer) -> list[Maps]:
    """List the maps that a layer adds."""
    return _listed(layer.added, (layer.target.width, layer.target.width))


def operand_maps(layer: GraphLayer) -> list[Maps]:
    """List the maps that a layer's source is joined with: a factor, or keys and values."""
    return _listed(layer.operands, (layer.source.width, layer.target.width))


def _listed(pair: tuple[int, int, int, int], widths: tuple[int, int]) -> list[Maps]:
    triples = zip(pair[::2], pair[1::2], widths, strict=True)
    return [Maps(*triple) for triple in triples if triple[0] != INNER]


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _margins(graph: Graph) -> list[tuple[int, int]]:
    """Rows of zeros that the layers read before and after each signal."""
    margins = [(0, 0)] * len(graph.signals)
    for layer in graph.layers:
        signal = layer.source.signal
        needed = layer.margins(graph.signals[signal], graph.signals[layer.target.signal])
        margins[signal] = (
            max(margins[signal][0], needed[0]),
            max(margins[signal][1], needed[1]),
        )
    return margins


def _lifetimes(graph: Graph) -> list[tuple[int, int]]:
    """First and last layer at which each signal must be in memory."""
    end = len(graph.layers)
    lives = [(0, 0) if signal.start >= 0 else (end, 0) for signal in graph.signals]
    for index, layer in enumerate(graph.layers):
        for maps in (layer.source, layer.target, *added_maps(layer), *operand_maps(layer)):
            first, last = lives[maps.signal]
            lives[maps.signal] = min(first, index), max(last, index)
    result = graph.layers[-1].target.signal
    lives[result] = lives[result][0], end
    return lives


def arrange_signals(graph: Graph, halved: Collection[int] = ()) -> tuple[list[ArenaRows], int]:
    """Place the signals in the arena, the largest first, each where no other one lives meanwhile.

    Parameters
    ----------
    halved
        Signals that are kept in bfloat16; their places count these.

    Returns
    -------
    positions, floats
        The place of each signal, and the arena's size.
    """
    shares = [2 if index in halved else 1 for index in range(len(graph.signals))]
    lives, margins = _lifetimes(graph), _margins(graph)
    sizes = [
        _round_up((signal.steps + sum(margin)) * signal.maps, share * ALIGN) // share
        for signal, margin, share in zip(graph.signals, margins, shares, strict=True)
    ]
    starts: dict[int, int] = {}
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        neighbours = sorted(
            (starts[i], starts[i] + sizes[i])
            for i in starts
            if lives[i][0] <= lives[index][1] and lives[index][0] <= lives[i][1]
        )
        start = 0
        for first, last in neighbours:
            if start + sizes[index] <= first:
                break
            start = max(start, last)
        starts[index] = start
    positions = [
        ArenaRows(shares[i] * starts[i] + margins[i][0] * signal.maps, signal.maps, *margins[i])
        for i, signal in enumerate(graph.signals)
    ]
    return positions, max(starts[i] + sizes[i] for i in starts)


@functools.lru_cache(maxsize=64)
def plan_layout(numbers: tuple[int, ...], unit: int = 1) -> PlanLayout:
    """Compile a graph that was checked before.

    Parameters
    ----------
    numbers
        As `describe_graph` writes it.
    unit
        Products of bfloat16 that the core adds at a time; 1: all products are float32. See
        `two_stream_conv.depth_unit`.
    """
    graph = parse_graph(numbers)
    halved = bf16_signals(graph) if unit > 1 else frozenset()
    positions, arena = arrange_signals(graph, halved)
    packed, steps, work, scratch = 0, [], 0, [0]
    for layer in graph.layers:
        vectors = dict.fromkeys(VECTORS, NOTHING)
        for name, shape in layer.arrays.items():
            vectors[name] = packed
            packed += packed_size(shape, array_unit(graph, layer, name, unit))
        bf16 = unit > 1 and takes_bf16(graph, layer)
        scratch += [scratch_floats(graph, layer)] if bf16 else []
        kinds = int(bf16), *(int(m.signal in halved) for m in (layer.source, layer.target))
        steps.append([*_step(graph, layer, positions, kinds), *vectors.values()])
        work += layer_work(graph, layer)
    inputs = [
        [signal.start + m * signal.steps, rows.start + m, rows.row, signal.steps, *rows[2:]]
        for signal, rows in zip(graph.signals, positions, strict=True)
        if signal.start >= 0
        for m in range(signal.maps)
    ]
    result = positions[graph.layers[-1].target.signal]
    tables = np.array(inputs, np.int64), np.array(steps, np.int64)
    sizes = arena, packed, result.start, result.row, max(scratch)
    return PlanLayout(*tables, *sizes, bf16=any(step[2] for step in steps), work=work)


def _step(
    graph: Graph, layer: GraphLayer, positions: list[ArenaRows], kinds: tuple[int, ...]
) -> list[int]:
    """Lay out a layer as ConvPlan::Step of csrc/ops.h, without its weights.

    `kinds` tells whether its products, its source and its target are bfloat16.
    """
    source, target = positions[layer.source.signal], positions[layer.target.signal]
    added, operands = (
        [(positions[m.signal].start + m.first, positions[m.signal].row) for m in maps]
        + [(NOTHING, 0)] * (2 - len(maps))
        for maps in (added_maps(layer), operand_maps(layer))
    )
    operand_steps = [graph.signals[m.signal].steps for m in operand_maps(layer)]
    return [
        KINDS.index(layer.kind),
        PLAN_ACTIVATIONS.index(layer.activation),
        *kinds,
        source.start + layer.source.first,
        source.row,
        graph.signals[layer.source.signal].steps,
        layer.source.width,
        target.start + layer.target.first,
        target.row,
        graph.signals[layer.target.signal].steps,
        layer.target.width,
        target.before,
        target.after,
        layer.kernel,
        layer.stride,
        layer.dilation,
        layer.pad,
        *(start for start, _ in added),
        *(row for _, row in added),
        *(start for start, _ in operands),
        *(row for _, row in operands),
        *(operand_steps[:1] or [0]),
    ]


def layer_work(graph: Graph, layer: GraphLayer) -> int:
    """Float operations of a layer, two for a product."""
    values = graph.signals[layer.target.signal].steps * layer.target.width
    match layer.kind:
        case "convolve":
            return 2 * values * layer.kernel * layer.source.width
        case "attend":
            keys = graph.signals[layer.operands[0]].steps
            queries = graph.signals[layer.source.signal].steps
            scores = queries * (layer.source.width + SOFTMAX * layer.kernel)
            return 2 * keys * (scores + values)
        case "lstm" | "lstm_reversed":
            return 2 * values * GATES * layer.target.width
        case "positions":
            return values
        case _:
            return 2 * values * layer.kernel


def plan_fields(layout: PlanLayout, graph: Graph, batch: int) -> dict[str, Any]:
    """Give the numbers among the fields of the op."""
    team = threads.threads_for(batch * PARTS, layout.work // PARTS)
    return {
        "batch": batch,
        "values": graph.values,
        "input_count": len(layout.inputs),
        "step_count": len(layout.steps),
        "arena": layout.arena,
        "result": layout.result,
        "result_row": layout.result_row,
        "maps": graph.output.maps,
        "length": graph.output.steps,
        "team": team,
        "together": max(1, min(TOGETHER // layout.arena, MOST_TOGETHER, -(-batch // team))),
        "scratch": layout.scratch,
        "bf16": layout.bf16,
        "work": layout.work,
    }


def workspace_floats(layout: PlanLayout, fields: dict[str, Any]) -> int:
    """Floats of workspace: arenas and scratch of each thread; one arena where epochs are fewer."""
    several = fields["batch"] >= fields["team"]
    arenas = fields["team"] * fields["together"] if several else 1
    return int(ALIGN + arenas * layout.arena + fields["team"] * layout.scratch)


@Op
def conv_plan(
    x: Floats,
    weights: Floats,
    numbers: Sequence[int],
    precision: Precision = "fp32",
    packed: Floats | None = None,
) -> PreparedOp:
    """Run a graph on NumPy arrays; see `sleeptools.models.ops.conv_plan`.

    Parameters
    ----------
    x
        Values of each epoch, (batch, values).
    weights
        All weights in one vector.
    numbers
        As `describe_graph` writes the graph.
    precision
        Precision of the products; sums are float32.
    packed
        `pack_graph(weights, graph, depth_unit(precision))`, if it is at hand.

    Returns
    -------
    ndarray
        (batch, maps, steps) of the last layer's target, float32.

    Raises
    ------
    ValueError
        For wrong shapes, and for a graph that cannot be run.
    UnavailableError
        If the native core is off.
    """
    graph = check_graph_once(x.shape, weights.shape, tuple(numbers), precision)
    unit = depth_unit(precision)
    layout = plan_layout(tuple(numbers), unit)
    if packed is None:
        packed = pack_graph(as_floats(weights), graph, unit)
    check_shape(OP, "packed", packed.shape, (layout.packed,))
    fields = plan_fields(layout, graph, len(x))
    return on_cpu(
        OP,
        {
            "x": as_floats(x),
            "packed": packed,
            "inputs": layout.inputs,
            "steps": layout.steps,
            "workspace": np.empty(workspace_floats(layout, fields), np.float32),
        },
        np.empty((len(x), graph.output.maps, graph.output.steps), np.float32),
        **fields,
    )
