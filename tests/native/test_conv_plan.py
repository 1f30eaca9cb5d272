"""What the sweep of test_ops.py does not ask of compiled graphs of convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from golden_ops import reference_in_double
from sleeptools import native
from sleeptools.models.ops import conv_plan
from sleeptools.native import conv_graph, threads
from sleeptools.native.conv_graph import (
    GraphBuilder,
    GraphSignal,
    Maps,
    describe_graph,
    parse_graph,
)
from sleeptools.native.conv_plan import arrange_signals

pytestmark = pytest.mark.usefixtures("one_thread")  # the shapes are too small for more
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


def arguments(builder: GraphBuilder, batch: int = 2) -> conv_plan.Example:
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, builder.values)).astype(np.float32)
    tensors = torch.from_numpy(x), torch.from_numpy(builder.weights)
    return *tensors, describe_graph(builder.graph)


def check(builder: GraphBuilder, batch: int = 2) -> None:
    example = arguments(builder, batch)
    expected = reference_in_double(conv_plan, example).float()
    assert_close(conv_plan.conv_plan(*example), expected, rtol=1e-5, atol=1e-5)


def weights(outputs: int, inputs: int, kernel: int) -> Any:
    random = np.random.default_rng(outputs + 100 * inputs)
    return random.standard_normal((outputs, inputs, kernel)) * (inputs * kernel) ** -0.5


def convolution(inputs: int, outputs: int, samples: int, kernel: int, **sizes: Any) -> GraphBuilder:
    builder = GraphBuilder()
    builder.convolve(
        builder.input(inputs, samples),
        weights(outputs, inputs, kernel),
        bias=np.arange(outputs) / outputs,
        **sizes,
    )
    return builder


@pytest.mark.parametrize("outputs", range(1, 35))
def test_every_width(variant: str, outputs: int) -> None:
    """Every remainder of a vector and of a panel."""
    check(convolution(3, outputs, 13, 3, pad=1))


@pytest.mark.parametrize("samples", [*range(3, 30), 59, 60, 61, 62, 119, 121, 122])
def test_every_length(variant: str, samples: int) -> None:
    """Every remainder of a block of rows."""
    check(convolution(2, 17, samples, 3, pad=1))


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("inputs", "kernel"), [(1, 1), (1, 7), (5, 4), (40, 5), (130, 2)])
def test_every_window(variant: str, inputs: int, kernel: int, stride: int, dilation: int) -> None:
    """Taps side by side and apart, fewer and more products than are added up at a time."""
    reach = (kernel - 1) * dilation
    for pad in {0, reach // 2, reach}:
        sizes = {"stride": stride, "dilation": dilation, "pad": pad}
        check(convolution(inputs, 9, 43, kernel, **sizes))


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_pools(variant: str, kernel: int) -> None:
    for samples in range(kernel, 3 * kernel + 2):
        builder = GraphBuilder()
        builder.pool(builder.input(5, samples), kernel, activation="relu")
        check(builder)


@pytest.mark.parametrize("samples", [1, 2, 5, 16, 200])
def test_means_and_resizing(variant: str, samples: int) -> None:
    for steps in (1, 2, 3, 7, 16, 31, 200):
        builder = GraphBuilder()
        x = builder.input(11, samples)
        joined = builder.signal(22, steps)
        builder.resize(x, joined.pick(0, 11))
        builder.scale_maps(builder.average(x, steps), np.ones(11), joined.pick(11, 11))
        check(builder)


def test_a_long_sum_keeps_its_digits(variant: str) -> None:
    """A hundred thousand numbers near 1000: a sum one by one would lose three digits."""
    builder = GraphBuilder()
    builder.average(builder.input(1, 100_000), 1)
    x, vector, graph = arguments(builder, 1)
    x = 1000 + x
    expected = x.double().mean()
    assert abs(conv_plan.conv_plan(x, vector, graph).double() - expected) < 5e-4


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_epoch(variant: str, value: float) -> None:
    """On one thread, so that the next epoch meets the arena of the one before."""
    x, vector, graph = conv_plan.examples("cpu", batch=4)[5]
    expected = conv_plan.conv_plan(x, vector, graph)
    x[1, 7] = value
    result = conv_plan.conv_plan(x, vector, graph)
    assert not result[1].isfinite().all()
    result[1] = expected[1]
    assert torch.equal(result, expected)


def test_nothing_is_read_that_was_not_written(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arenas of NaN between guards of NaN: the result is the same and the guards stay."""
    guard, launch, spaces = 64, conv_plan.ops.launch, []

    def launch_in_nan(op: str, x: Any, tensors: dict[str, Any], **fields: Any) -> None:
        for name in ("workspace", "out"):
            size = tensors[name].numel()
            space = torch.full((size + 2 * guard,), torch.nan)
            spaces.append((space, size, tensors[name]))
            tensors = tensors | {name: space[guard : guard + size]}
        launch(op, x, tensors, **fields)
        spaces[-1][2].copy_(tensors["out"].view(spaces[-1][2].shape))

    examples = [example for example in conv_plan.examples("cpu") if len(example[0])]
    expected = [conv_plan.conv_plan(*example) for example in examples]
    monkeypatch.setattr(conv_plan.ops, "launch", launch_in_nan)
    for example, before in zip(examples, expected, strict=True):
        assert torch.equal(conv_plan.conv_plan(*example), before)
    assert len(spaces) == 2 * len(examples)
    for space, size, _ in spaces:
        assert space[:guard].isnan().all()
        assert space[guard + size :].isnan().all()


@needs_core
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 20])
def test_threads_do_not_change_the_result(batch: int) -> None:
    """Fewer epochs than threads are shared by all of them, row by row."""
    example = conv_plan.examples("cpu", batch=batch)[0]
    results = []
    for count in (1, 2, 3, 5, 0):
        threads.set_threads(count)
        results.append(conv_plan.conv_plan(*example))
    for result in results[1:]:
        assert torch.equal(results[0], result)


@needs_core
def test_numpy_needs_no_torch_types() -> None:
    for x, vector, graph in conv_plan.examples("cpu"):
        result = native.conv_plan.conv_plan(x.numpy(), vector.numpy(), graph)
        assert np.array_equal(result, conv_plan.conv_plan(x, vector, graph).numpy())


def test_a_graph_on_its_way_through_torch() -> None:
    for _, _, numbers in conv_plan.examples("cpu"):
        assert describe_graph(parse_graph(numbers)) == numbers


def test_signals_that_live_together_lie_apart() -> None:
    graph = parse_graph(conv_plan.examples("cpu")[5][2])
    positions, floats = arrange_signals(graph)
    for i, (signal, at) in enumerate(zip(graph.signals, positions, strict=True)):
        assert at.start - at.before * at.row >= 0, i
        assert at.start + (signal.steps + at.after) * at.row <= floats, i
    held = sum(
        (s.steps + p.before + p.after) * s.maps
        for s, p in zip(graph.signals, positions, strict=True)
    )
    assert floats < held  # some share their place


def test_the_work_is_that_of_the_convolutions() -> None:
    """Against PyTorch's own count of the reference."""
    from torch.utils.flop_counter import FlopCounterMode

    example = conv_plan.examples("cpu", batch=1)[0]
    with FlopCounterMode(display=False) as counter:
        conv_plan.reference(*example)
    graph = parse_graph(example[2])
    convolutions = [layer for layer in graph.layers if layer.kind == "convolve"]
    work = sum(native.conv_plan.layer_work(graph, layer) for layer in convolutions)
    assert work == counter.get_total_flops()


def changed(layer: int = 0, **fields: Any) -> list[int]:
    """Numbers of a convolution and a pool, of which one field is another."""
    builder = GraphBuilder()
    maps = builder.convolve(builder.input(2, 9), weights(4, 2, 3), pad=1)
    builder.pool(maps, 2)
    graph = builder.graph
    layers = list(graph.layers)
    layers[layer] = layers[layer]._replace(**fields)
    return describe_graph(graph._replace(layers=tuple(layers)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (changed(source=Maps(1, 0, 2)), r"layer 0 \(convolve\) reads maps of signal 1"),
        (changed(source=Maps(0, 1, 2)), r"layer 0 \(convolve\) reads maps of signal 0"),
        (changed(target=Maps(1, 1, 4)), r"layer 0 \(convolve\) writes maps of signal 1"),
        (changed(target=Maps(0, 0, 4)), r"layer 0 \(convolve\) writes maps of signal 0"),
        (
            changed(1, target=Maps(2, 0, 3)),
            r"layer 1 \(maximum\) makes 3 maps of 4 steps; expected \(4, 4\)",
        ),
        (
            changed(1, source=Maps(1, 0, 3)),
            r"layer 1 \(maximum\) makes 4 maps of 4 steps; expected \(3, 4\)",
        ),
        (changed(1, added=(1, 0, -1, 0)), r"layer 1 \(maximum\) adds a signal of another length"),
        (changed(stride=0), r"layer 0 \(convolve\) has a kernel, stride or dilation below 1"),
        (changed(stride=4), r"layer 0 \(convolve\) has windows outside its 9 steps"),
        (changed(pad=12), r"layer 0 \(convolve\) has windows outside its 9 steps"),
        (changed(1, pad=-3), r"layer 1 \(maximum\) has windows outside its 9 steps"),
        (changed(1, dilation=3), r"layer 1 \(maximum\) has windows outside its 9 steps"),
    ],
)
def test_impossible_graphs_are_refused(numbers: list[int], message: str) -> None:
    x, vector = torch.zeros(1, 18), torch.zeros(24)
    with pytest.raises(ValueError, match=message):
        conv_plan.conv_plan(x, vector, numbers)
    with pytest.raises(ValueError, match=message):
        native.conv_plan.conv_plan(x.numpy(), vector.numpy(), numbers)


def test_a_signal_without_steps_is_refused() -> None:
    graph = parse_graph(changed())
    numbers = describe_graph(graph._replace(signals=(*graph.signals[:2], GraphSignal(4, 0))))
    with pytest.raises(ValueError, match=r"signal 2 is \(4, 0\); expected 1 map and"):
        conv_plan.conv_plan(torch.zeros(1, 18), torch.zeros(24), numbers)


def test_an_output_with_a_hole_is_refused() -> None:
    graph = parse_graph(changed())
    signals = (*graph.signals[:2], GraphSignal(5, 4))
    numbers = describe_graph(graph._replace(signals=signals))
    with pytest.raises(ValueError, match="1 maps of the output are written by no layer"):
        conv_plan.conv_plan(torch.zeros(1, 18), torch.zeros(24), numbers)


def test_weights_must_fit_the_layer() -> None:
    builder = GraphBuilder()
    with pytest.raises(AssertionError):
        builder.convolve(builder.input(2, 9), weights(4, 3, 3))
    assert conv_graph.graph_weight_count(convolution(2, 4, 9, 3).graph) == 4 * 2 * 3 + 4
