"""A whole network of convolutions as one op: a graph of layers, compiled to a plan.

`sleeptools.native.conv_graph` says what a graph is and writes it down, and
`sleeptools.native.conv_plan` compiles it for the core. BatchNorm is folded, or is a scale and shift
behind the activation, so this is for scoring; models train layer by layer. Arithmetic is float32,
or products of operands rounded to bfloat16 (`sleeptools.native.plan_products` says which). On a GPU
cuDNN has the Tensor Cores, so the reference runs there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.native.conv_graph import (
    GATES,
    GraphBuilder,
    GraphLayer,
    GraphSignal,
    LayerKind,
    Maps,
    describe_graph,
    parse_graph,
    split_weights,
)
from sleeptools.native.conv_plan import (
    OP,
    added_maps,
    check_graph,
    check_graph_once,
    operand_maps,
    plan_fields,
    plan_layout,
    workspace_floats,
)
from sleeptools.native.plan_products import pack_graph, takes_bf16
from sleeptools.native.two_stream_conv import depth_unit

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TOLERANCE_BF16 = 5e-3  # of the norm of the output, with precision "bf16"

Example = tuple[Tensor, Tensor, list[int]]


def conv_plan(x: Tensor, weights: Tensor, graph: Sequence[int], precision: str = "fp32") -> Tensor:
    """Run a graph of convolutions.

    Float32 on the CPU runs natively where the core is built; everything else runs `reference`. Any
    strides are taken; the output is contiguous. The result does not depend on the number of
    threads.

    Parameters
    ----------
    x
        Values of each epoch, (B, values): the inputs of the graph, one after the other.
    weights
        All weights in one vector, layer by layer.
    graph
        As `sleeptools.native.conv_graph.describe_graph` writes it.
    precision
        "bf16" rounds the operands of products to bfloat16 and adds in float32; a CPU that does not
        multiply bfloat16 computes in float32. The gradient is that of "fp32".

    Returns
    -------
    Tensor
        (B, maps, steps): the target of the last layer.

    Raises
    ------
    ValueError
        For wrong shapes, for a graph that cannot be run, and for weights of another type or device
        than `x`.
    """
    check = check_graph if torch.compiler.is_compiling() else check_graph_once
    check(tuple(x.shape), tuple(weights.shape), tuple(graph), precision)
    ops.check_alike(OP, x, (weights,))
    return _operator(x, weights, graph, precision)


def reference(x: Tensor, weights: Tensor, graph: Sequence[int], precision: str = "fp32") -> Tensor:
    """As `conv_plan`, in plain PyTorch: the specification."""
    described, start = parse_graph(graph), 0
    written: list[dict[int, Tensor]] = []  # of each signal: what was written, by its first map
    for signal in described.signals:
        size, first = (len(x), signal.maps, signal.steps), signal.start
        whole = x[:, first : first + size[1] * size[2]] if first >= 0 else None
        written.append({} if whole is None else {0: whole.reshape(size)})

    def read(maps: Maps) -> Tensor:
        parts = sorted(written[maps.signal].items())
        joined = torch.cat([tensor for _, tensor in parts], 1)
        return joined.narrow(1, maps.first - parts[0][0], maps.width)

    for layer in described.layers:
        arrays, start = split_weights(layer, weights, start)
        inputs = [read(maps) for maps in (layer.source, *operand_maps(layer))]
        rounds = ops.rounding(precision if takes_bf16(described, layer) else "fp32")
        y = _value(inputs, layer, arrays, described.signals[layer.target.signal], rounds)
        if "bias" in arrays:
            y = y + arrays["bias"][:, None]
        for maps in added_maps(layer):
            y = y + read(maps)
        y = _activate(y, layer, arrays)
        if "scale" in arrays:
            y = y * arrays["scale"][:, None] + arrays["shift"][:, None]
        written[layer.target.signal][layer.target.first] = y
    result = described.layers[-1].target.signal
    return read(Maps(result, 0, described.signals[result].maps)).contiguous()


def _value(
    inputs: list[Tensor],
    layer: GraphLayer,
    arrays: dict[str, Tensor],
    target: GraphSignal,
    rounds: Callable[[Tensor], Tensor],
) -> Tensor:
    """Compute the sums or the pool of a layer: (B, inputs, steps) to (B, outputs, steps).

    `rounds` is what its precision does to the operands of products.
    """
    x, *operands = inputs
    if layer.kind in _SIMPLE:
        operands += [arrays["weight"]] if layer.kind == "positions" else []
        return _SIMPLE[layer.kind](x, *operands)
    if layer.kind in _RESAMPLING:
        return _RESAMPLING[layer.kind](x, target.steps)
    if layer.kind == "attend":
        queries, keys, values = map(rounds, (x, *operands))
        return _mix(queries, keys, values, rounds, heads=layer.kernel)
    if layer.kind in {"lstm", "lstm_reversed"}:
        is_reversed = layer.kind == "lstm_reversed"
        return _recur(x, rounds(arrays["weight"]), rounds, is_reversed=is_reversed)
    if layer.kind == "convolve":
        x, arrays = rounds(x), arrays | {"weight": rounds(arrays["weight"])}
    return _windowed(x, layer, arrays, target)


def _transposed(x: Tensor) -> Tensor:
    return x.mT


def _normalised(x: Tensor) -> Tensor:
    return functional.layer_norm(x.mT, (x.shape[1],)).mT


def _unbiased(x: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(x, 1, keepdim=True)
    return (x - mean) / (deviation + 1e-6)


_SIMPLE: dict[LayerKind, Callable[..., Tensor]] = {
    "multiply": torch.mul,
    "positions": torch.add,
    "transpose": _transposed,
    "layer_norm": _normalised,
    "unbiased_norm": _unbiased,
}
"""Kinds that need their inputs alone."""


_RESAMPLING: dict[LayerKind, Callable[[Tensor, int], Tensor]] = {
    "mean": functional.adaptive_avg_pool1d,
    "resize": functools.partial(functional.interpolate, mode="linear"),
}


def _mix(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    rounds: Callable[[Tensor], Tensor],
    *,
    heads: int,
) -> Tensor:
    """Mix values (B, maps, S) for queries (B, inputs, T): (B, maps, T).

    The shares are rounded before the softmax's division.
    """
    q, k, v = (t.reshape(len(t), heads, -1, t.shape[2]) for t in (queries, keys, values))
    scores = k.mT @ q  # (B, heads, S, T)
    shares = (scores - scores.amax(2, keepdim=True)).exp()
    mixed = v @ rounds(shares) / shares.sum(2, keepdim=True)
    return mixed.flatten(1, 2)  # (B, heads, maps / heads, T) before


def _recur(
    gates: Tensor, weight: Tensor, rounds: Callable[[Tensor], Tensor], *, is_reversed: bool
) -> Tensor:
    """Run an LSTM over its gates (B, 4 H, T): its states, (B, H, T)."""
    state = cell = gates.new_zeros(len(gates), weight.shape[1])
    steps = gates.unbind(2)
    states = []
    for gates_now in steps[::-1] if is_reversed else steps:
        i, f, g, o = (gates_now + rounds(state) @ weight.mT).chunk(GATES, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * cell.tanh()
        states.append(state)
    return torch.stack(states[::-1] if is_reversed else states, 2)


def _windowed(
    x: Tensor, layer: GraphLayer, arrays: dict[str, Tensor], target: GraphSignal
) -> Tensor:
    reach = (target.steps - 1) * layer.stride + (layer.kernel - 1) * layer.dilation + 1
    padding = layer.pad, reach - layer.pad - x.shape[2]  # negative: cut off
    if layer.kind == "maximum":
        x = functional.pad(x, padding, value=-torch.inf)
        return functional.max_pool1d(x, layer.kernel, layer.stride, 0, layer.dilation)
    depthwise = layer.kind == "depthwise"
    weight = arrays["weight"][:, None] if depthwise else arrays["weight"]
    groups = len(weight) if depthwise else 1
    x = functional.pad(x, padding)
    return functional.conv1d(x, weight, None, layer.stride, 0, layer.dilation, groups)


def _activate(y: Tensor, layer: GraphLayer, arrays: dict[str, Tensor]) -> Tensor:
    if layer.activation == "prelu":
        return functional.prelu(y, arrays["slopes"])
    if layer.activation in {"tanh", "sigmoid"}:
        return y.tanh() if layer.activation == "tanh" else y.sigmoid()
    return y if layer.activation == "none" else ops.activate(y, layer.activation, 0.0)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: a mouse CNN's branch at `batch` epochs first, then odd ones."""
    random = np.random.default_rng(1)
    cases = [
        (batch, _branch(random, 512, (16, 32, 64, 64), 8)),
        (2, _branch(random, 9, (2, 3), 2)),
        (2, _odd(random, 11, 3, 5)),
        (3, _odd(random, 6, 1, 2)),
        (0, _odd(random, 6, 1, 2)),
        (5, _odd(random, 61, 17, 33)),
        (1, _odd(random, 130, 140, 40)),
        (2, _branch(random, 257, (16, 9), 5)),
        (2, _attentive(random, 33, 12, 3)),
        (1, _attentive(random, 300, 20, 1)),
        (2, _recurrent(random, 19, 5, 7)),
        (1, _recurrent(random, 1, 1, 1)),
    ]
    return [_example(torch.device(device), random, *case) for case in cases]


def _example(
    device: torch.device, random: np.random.Generator, batch: int, builder: GraphBuilder
) -> Example:
    x = random.standard_normal((batch, builder.values)).astype(np.float32)
    tensors = (torch.from_numpy(a).to(device) for a in (x, builder.weights))
    return *tensors, describe_graph(builder.graph)  # type: ignore[return-value]


def _normal(random: np.random.Generator, outputs: int, inputs: int, kernel: int) -> Any:
    return random.standard_normal((outputs, inputs, kernel)) * (inputs * kernel) ** -0.5


def _branch(
    random: np.random.Generator, samples: int, widths: tuple[int, ...], steps: int
) -> GraphBuilder:
    """Strided convolutions with PReLU and BatchNorm behind it, pooled to `steps`."""
    builder = GraphBuilder()
    maps = builder.input(1, samples)
    for width in widths:
        vectors = random.standard_normal((4, width))
        maps = builder.convolve(
            maps,
            _normal(random, width, maps.width, 7),
            stride=2,
            pad=3,
            bias=vectors[0],
            activation="prelu",
            slopes=vectors[1],
            scale=(vectors[2], vectors[3]),
        )
    builder.average(maps, steps)
    return builder


def _odd(random: np.random.Generator, samples: int, inputs: int, width: int) -> GraphBuilder:
    """Everything else: dilation, maps side by side, a shortcut, pool, resizing, looking ahead."""
    builder = GraphBuilder()
    x = builder.input(inputs, samples)
    joined = builder.signal(2 * width, samples)
    left, right = joined.pick(0, width), joined.pick(width, width)
    weight = _normal(random, width, inputs, 3)
    builder.convolve(x, weight, left, dilation=2, pad=2, activation="gelu")
    pooled = builder.pool(left, 2)
    inner = builder.convolve(
        pooled, _normal(random, width, width, 2), pad=1, activation="relu", bias=np.ones(width)
    )
    builder.resize(inner, right)
    shortcut = builder.signal(width, samples)
    builder.scale_maps(right, random.standard_normal(width), shortcut, pad=-1)
    builder.convolve(
        joined,
        _normal(random, width, 2 * width, 4),
        builder.signal(width, samples),
        pad=1,
        added=(shortcut, left),
        activation="relu",
    )
    return builder


def _attentive(random: np.random.Generator, samples: int, width: int, heads: int) -> GraphBuilder:
    """Attention over the steps with its norms, then over the maps, then one by learned weights."""
    builder = GraphBuilder()
    x = builder.add_positions(
        builder.input(width, samples), random.standard_normal((width, samples))
    )
    qkv = builder.convolve(x, _normal(random, 4 * width, width, 1))
    queries, keys = qkv.pick(0, width), qkv.pick(width, width)
    mixed = builder.attend(queries, keys, qkv.pick(2 * width, 2 * width), heads)
    vectors = random.standard_normal((4, 2 * width))
    normal = builder.normalise(mixed, *vectors[:2])
    factors = builder.convolve(
        builder.average(normal, 1), _normal(random, 2 * width, 2 * width, 1), activation="sigmoid"
    )
    weighed = builder.multiply(normal, factors, activation="tanh")
    turned = builder.transpose(weighed)  # (samples, 2 width)
    if samples > 1:
        turned = builder.normalise(turned, *random.standard_normal((2, samples)), unbiased=True)
    back = builder.transpose(builder.multiply(turned, turned, added=[turned]))
    scores = builder.convolve(back, _normal(random, 1, 2 * width, 1))
    query = builder.convolve(builder.average(scores, 1), np.zeros((1, 1, 1)), bias=np.ones(1))
    builder.attend(query, scores, back, 1)
    return builder


def _recurrent(random: np.random.Generator, samples: int, inputs: int, width: int) -> GraphBuilder:
    """Run LSTMs both ways, side by side."""
    builder = GraphBuilder()
    x = builder.input(inputs, samples)
    states = builder.signal(2 * width, samples)
    for way in range(2):
        gates = builder.convolve(
            x, _normal(random, 4 * width, inputs, 1), bias=random.standard_normal(4 * width)
        )
        weight = _normal(random, 4 * width, width, 1)[:, :, 0]
        builder.lstm(gates, weight, states.pick(way * width, width), is_reversed=bool(way))
    return builder


def _forward(x: Tensor, weights: Tensor, graph: Sequence[int], precision: str = "fp32") -> Tensor:
    if x.is_cuda or not ops.runs_native(x):
        return reference(x, weights, graph, precision)
    unit = depth_unit(precision)
    described, layout = parse_graph(graph), plan_layout(tuple(graph), unit)
    fields = plan_fields(layout, described, len(x))
    packed = torch.from_numpy(pack_graph(weights.detach().contiguous().numpy(), described, unit))
    out = _fake(x, weights, graph)
    workspace = x.new_empty(workspace_floats(layout, fields))
    tensors = {"x": x.contiguous(), "packed": packed, "workspace": workspace, "out": out}
    ops.launch(OP, x, tensors, inputs=layout.inputs, steps=layout.steps, **fields)
    return out


def _fake(x: Tensor, weights: Tensor, graph: Sequence[int], precision: str = "fp32") -> Tensor:
    output = parse_graph(graph).output
    return x.new_empty(len(x), output.maps, output.steps)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, ctx.graph, _ = inputs
    ctx.save_for_backward(x, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Run the reference again and differentiate that; only inputs are kept."""
    x, weights = ctx.saved_tensors
    again = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:2]
    with torch.enable_grad():
        x, weights = (t if again else t.detach().requires_grad_() for t in (x, weights))
        out = reference(x, weights, ctx.graph)
    inputs = [t for t, needs in zip((x, weights), needed, strict=True) if needs]
    gradients = iter(torch.autograd.grad(out, inputs, grad, create_graph=again))
    return (*(next(gradients) if needs else None for needs in needed), None, None)


_operator = ops.define(
    OP,
    "(Tensor x, Tensor weights, int[] graph, str precision='fp32') -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
