"""Compiled graphs whose products take operands rounded to bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from golden_ops import reference_in_double
from sleeptools import native
from sleeptools.models.ops import conv_plan
from sleeptools.native import threads
from sleeptools.native.conv_graph import GraphBuilder, describe_graph
from sleeptools.native.plan_products import takes_bf16

pytestmark = pytest.mark.usefixtures("one_thread")  # the shapes are too small for more
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
SAME_ROUNDING = 2e-3  # a sum in another order may round to the neighbour, which is 4e-3 away


def weights(*shape: int) -> Any:
    random = np.random.default_rng(sum(shape))
    return random.standard_normal(shape) * np.prod(shape[1:]) ** -0.5


def arguments(builder: GraphBuilder, batch: int = 2) -> conv_plan.Example:
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, builder.values)).astype(np.float32)
    tensors = torch.from_numpy(x), torch.from_numpy(builder.weights)
    return *tensors, describe_graph(builder.graph)


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative, in the norm."""
    return float((result - expected).norm() / expected.norm())


def rounded_reference(example: conv_plan.Example) -> torch.Tensor:
    x, vector, graph = example
    return conv_plan.reference(x.double(), vector.double(), graph, "bf16").float()


def check(builder: GraphBuilder, batch: int = 2) -> None:
    """As the rounded reference where the CPU has the arithmetic, else as the one in float32."""
    example = arguments(builder, batch)
    exact = reference_in_double(conv_plan, example).float()
    result = conv_plan.conv_plan(*example, precision="bf16")
    if not native.has_bf16():
        assert error(result, exact) < 1e-6
        return
    assert error(result, rounded_reference(example)) < SAME_ROUNDING
    assert 1e-4 < error(result, exact) < 2 * conv_plan.TOLERANCE_BF16  # not float32 in disguise


def convolution(inputs: int, outputs: int, samples: int, kernel: int, **sizes: Any) -> GraphBuilder:
    builder = GraphBuilder()
    weight, bias = weights(outputs, inputs, kernel), np.arange(outputs) / outputs
    builder.convolve(builder.input(inputs, samples), weight, bias=bias, **sizes)
    return builder


@pytest.mark.parametrize("outputs", [*range(1, 35), 47, 48, 49, 64, 65])
def test_every_width(variant: str, outputs: int) -> None:
    """Every remainder of a vector, of a panel and of a tile."""
    check(convolution(32, outputs, 21, 3, pad=1))


@pytest.mark.parametrize("samples", [*range(16, 52), 59, 60, 61, 64, 65, 119, 121, 122])
def test_every_length(variant: str, samples: int) -> None:
    """Every remainder of a block of rows."""
    check(convolution(11, 17, samples, 3, pad=1))


@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 40])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("inputs", "kernel"), [(32, 1), (5, 7), (8, 5), (130, 2), (1, 40)])
def test_every_window(variant: str, inputs: int, kernel: int, stride: int, dilation: int) -> None:
    reach = (kernel - 1) * dilation
    for pad in {0, reach // 2, reach}:
        sizes = {"stride": stride, "dilation": dilation, "pad": pad}
        check(convolution(inputs, 9, max(0, reach - pad) + 100, kernel, **sizes))


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize(("size", "maps"), [(16, 16), (17, 32), (33, 40)])
@pytest.mark.parametrize("steps", [16, 31, 32, 33, 65, 257, 300])
def test_attention(variant: str, steps: int, size: int, maps: int, heads: int) -> None:
    """Whole tiles and others, more keys than are looked at together."""
    builder = GraphBuilder()
    x = builder.input(heads * (2 * size + maps), steps)
    queries, keys = x.pick(0, heads * size), x.pick(heads * size, heads * size)
    scaled = builder.scale_maps(
        queries, np.full(heads * size, size**-0.5), builder.signal(heads * size, steps)
    )
    builder.attend(scaled, keys, x.pick(2 * heads * size, heads * maps), heads)
    check(builder)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 8, 9, 17])
@pytest.mark.parametrize(("inputs", "width"), [(3, 32), (5, 33), (40, 128)])
def test_lstm(variant: str, inputs: int, width: int, batch: int) -> None:
    """Any number of epochs side by side, both ways."""
    builder = GraphBuilder()
    x = builder.input(inputs, 20)
    states = builder.signal(2 * width, 20)
    for way in range(2):
        gates = builder.convolve(x, weights(4 * width, inputs, 1))
        target = states.pick(way * width, width)
        builder.lstm(gates, weights(4 * width, width), target, is_reversed=bool(way))
    check(builder, batch)
    example = arguments(builder, batch)
    for precision in native.PRECISIONS:
        together = conv_plan.conv_plan(*example, precision)
        alone = [conv_plan.conv_plan(row[None], *example[1:], precision) for row in example[0]]
        assert torch.equal(together, torch.cat(alone))


def mixed_graph() -> GraphBuilder:
    """Products of both precisions, of every kind."""
    builder = GraphBuilder()
    x = builder.input(2, 80)
    first = builder.convolve(x, weights(40, 2, 7), pad=3, activation="gelu")
    y = builder.convolve(first, weights(48, 40, 5), dilation=3, pad=6, activation="relu")
    queries, keys, values = (y.pick(i * 16, 16) for i in range(3))
    mixed = builder.attend(queries, keys, values, 1)
    gates = builder.convolve(mixed, weights(128, 16, 2), pad=1, stride=2)
    states = builder.signal(32, builder.steps(gates))
    builder.lstm(gates, weights(128, 32), states)
    builder.convolve(builder.average(states, 1), weights(5, 32, 1))
    return builder


def test_which_products_are_rounded() -> None:
    graph = mixed_graph().graph
    chosen = [takes_bf16(graph, layer) for layer in graph.layers]
    assert [layer.kind for layer in graph.layers][2] == "attend"
    assert chosen == [False, True, True, True, True, False, False]


@needs_core
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 20])
def test_threads_do_not_change_the_result(batch: int) -> None:
    example = arguments(mixed_graph(), batch)
    results = []
    for count in (1, 2, 3, 5, 0):
        threads.set_threads(count)
        results.append(conv_plan.conv_plan(*example, precision="bf16"))
    for result in results[1:]:
        assert torch.equal(results[0], result)


def test_numpy_needs_no_torch_types(variant: str) -> None:
    x, vector, graph = arguments(mixed_graph(), 3)
    result = native.conv_plan.conv_plan(x.numpy(), vector.numpy(), graph, "bf16")
    assert np.array_equal(result, conv_plan.conv_plan(x, vector, graph, "bf16").numpy())


def test_nothing_is_read_that_was_not_written(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arenas and scratch of NaN between guards of NaN: the same result, and the guards stay."""
    guard, launch, spaces = 64, conv_plan.ops.launch, []

    def launch_in_nan(op: str, x: Any, tensors: dict[str, Any], **fields: Any) -> None:
        size = tensors["workspace"].numel()
        spaces.append(torch.full((size + 2 * guard,), torch.nan))
        launch(op, x, tensors | {"workspace": spaces[-1][guard : guard + size]}, **fields)

    example = arguments(mixed_graph(), 3)
    expected = conv_plan.conv_plan(*example, precision="bf16")
    monkeypatch.setattr(conv_plan.ops, "launch", launch_in_nan)
    assert torch.equal(conv_plan.conv_plan(*example, precision="bf16"), expected)
    assert len(spaces) == 1
    assert spaces[0][:guard].isnan().all()
    assert spaces[0][-guard:].isnan().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_epoch(variant: str, value: float) -> None:
    x, vector, graph = arguments(mixed_graph(), 4)
    expected = conv_plan.conv_plan(x, vector, graph, "bf16")
    x[1, 7] = value
    result = conv_plan.conv_plan(x, vector, graph, "bf16")
    assert not result[1].isfinite().all()
    result[1] = expected[1]
    assert torch.equal(result, expected)


def test_unknown_precisions_are_refused() -> None:
    example = arguments(mixed_graph())
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        conv_plan.conv_plan(*example, precision="fp8")
