"""Networks of layers in words: signals, the layers between them, and all weights in a vector.

A signal is (maps, steps). A layer makes some neighbouring maps of one signal from those of another:
its sums or its pool, then a bias, up to two signals added, an activation, a scale and a shift for
each map, in this order. Networks with branches and shortcuts are written so; maps side by side need
no copy. On its way through torch a graph is a flat list of whole numbers (`describe_graph`).

The kinds of layers, `o` a map and `t` a step of the target:

convolve, depthwise, maximum
    Over windows of the source.
mean, resize
    The mean over windows of nearly equal length; linear interpolation.
multiply
    source[o, t] * factor[o, t], or factor[o, 0] of a factor with one step.
transpose
    source[t, o].
layer_norm, unbiased_norm
    Each step less the mean of its maps, divided by sqrt(variance + 1e-5), or by the unbiased
    standard deviation plus 1e-6.
positions
    source[o, t] and a weight for each o and t; `kernel` is the number of steps.
attend
    softmax over the steps s of sum_i queries[i, t] keys[i, s], times values[o, s], in `kernel`
    heads; nothing comes after it.
lstm, lstm_reversed
    The states of an LSTM without projection, from its gates (input, forget, cell, output) less the
    part of the state before, forwards or backwards; nothing comes after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import Floats

LayerKind = Literal[  # as in csrc/ops.h
    "convolve",
    "depthwise",
    "maximum",
    "mean",
    "resize",
    "multiply",
    "transpose",
    "layer_norm",
    "unbiased_norm",
    "positions",
    "attend",
    "lstm",
    "lstm_reversed",
]
PlanActivation = Literal["none", "relu", "gelu", "prelu", "tanh", "sigmoid"]
KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
PLAN_ACTIVATIONS: tuple[PlanActivation, ...] = get_args(PlanActivation)
INNER = -1  # start of a signal that is not an input
NO_PAIR = (INNER, 0, INNER, 0)
GATES = 4  # of an LSTM
BARE: frozenset[LayerKind] = frozenset(["attend", "lstm", "lstm_reversed"])
"""Kinds that nothing comes after."""


class GraphSignal(NamedTuple):
    """Maps over time; of an input, where it starts among an epoch's values, map after map."""

    maps: int
    steps: int
    start: int = INNER


class Maps(NamedTuple):
    """Some neighbouring maps of a signal."""

    signal: int
    first: int
    width: int

    def pick(self, first: int, width: int) -> Maps:
        """Pick `width` of them from `first` on."""
        return Maps(self.signal, self.first + first, width)


class GraphLayer(NamedTuple):
    """A layer.

    Parameters
    ----------
    added
        Signals and first maps of what is added, INNER for nothing.
    operands
        The same of what the source is joined with: a factor, or keys and values.
    """

    kind: LayerKind
    source: Maps
    target: Maps
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0  # rows before the source at which the first window starts; negative: after it
    added: tuple[int, int, int, int] = NO_PAIR
    operands: tuple[int, int, int, int] = NO_PAIR
    activation: PlanActivation = "none"
    has_bias: bool = False
    has_scale: bool = False

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its weights, in their order."""
        outputs = self.target.width
        shapes: dict[str, tuple[int, ...]] = {}
        if self.kind == "convolve":
            shapes["weight"] = (outputs, self.source.width, self.kernel)
        elif self.kind in {"depthwise", "positions"}:
            shapes["weight"] = (outputs, self.kernel)
        elif self.kind in {"lstm", "lstm_reversed"}:
            shapes["weight"] = (GATES * outputs, outputs)
        vectors = {
            "bias": self.has_bias,
            "slopes": self.activation == "prelu",
            "scale": self.has_scale,
            "shift": self.has_scale,
        }
        return shapes | {name: (outputs,) for name, used in vectors.items() if used}

    def margins(self, source: GraphSignal, target: GraphSignal) -> tuple[int, int]:
        """Rows that it reads before and after its source; they are zeros."""
        if self.kind not in {"convolve", "depthwise"}:
            return 0, 0
        last = (target.steps - 1) * self.stride + (self.kernel - 1) * self.dilation - self.pad
        return max(0, self.pad), max(0, last - source.steps + 1)


class Graph(NamedTuple):
    """Signals and the layers between them; the last layer's target is the output."""

    signals: tuple[GraphSignal, ...]
    layers: tuple[GraphLayer, ...]

    @property
    def output(self) -> GraphSignal:
        """The signal that is given out, (maps, steps)."""
        return self.signals[self.layers[-1].target.signal]

    @property
    def values(self) -> int:
        """Values of an epoch that are read."""
        return max(s.start + s.maps * s.steps for s in self.signals if s.start >= 0)


LAYER_NUMBERS = 22
SIGNAL_NUMBERS = 3


def describe_graph(graph: Graph) -> list[int]:
    """Flatten a graph to whole numbers."""
    numbers = [len(graph.signals)]
    for signal in graph.signals:
        numbers += signal
    for layer in graph.layers:
        numbers += [KINDS.index(layer.kind), *layer.source, *layer.target, *layer[3:7]]
        numbers += [*layer.added, *layer.operands, PLAN_ACTIVATIONS.index(layer.activation)]
        numbers += [int(layer.has_bias), int(layer.has_scale)]
    return numbers


def parse_graph(numbers: Sequence[int]) -> Graph:
    """Read what `describe_graph` wrote."""
    end = 1 + SIGNAL_NUMBERS * numbers[0]
    signals = [GraphSignal(*numbers[i : i + SIGNAL_NUMBERS]) for i in range(1, end, SIGNAL_NUMBERS)]
    layers = [
        _parse_layer(numbers[i : i + LAYER_NUMBERS])
        for i in range(end, len(numbers), LAYER_NUMBERS)
    ]
    return Graph(tuple(signals), tuple(layers))


def _parse_layer(numbers: Sequence[int]) -> GraphLayer:
    kind, *rest = numbers
    kernel, stride, dilation, pad, *pairs, activation, has_bias, has_scale = rest[6:]
    return GraphLayer(
        KINDS[kind],
        Maps(*rest[:3]),
        Maps(*rest[3:6]),
        kernel,
        stride,
        dilation,
        pad,
        (pairs[0], pairs[1], pairs[2], pairs[3]),
        (pairs[4], pairs[5], pairs[6], pairs[7]),
        PLAN_ACTIVATIONS[activation],
        bool(has_bias),
        bool(has_scale),
    )


def graph_weight_count(graph: Graph) -> int:
    """Numbers in the vector of weights."""
    shapes = (shape for layer in graph.layers for shape in layer.arrays.values())
    return sum(math.prod(shape) for shape in shapes)


def split_weights(layer: GraphLayer, weights: Any, start: int) -> tuple[dict[str, Any], int]:
    """Take a layer's arrays, NumPy or torch, out of the vector; and where the next one's start."""
    arrays = {}
    for name, shape in layer.arrays.items():
        end = start + math.prod(shape)
        arrays[name] = weights[start:end].reshape(shape)
        start = end
    return arrays, start


class LayerWeights(Protocol):
    """What gives a model's arrays under PyTorch's names, and checks their shapes."""

    def take(self, name: str, *shape: int) -> Floats:
        """Take an array of a known shape."""

    def linear(self, name: str, outputs: int, inputs: int) -> tuple[Floats, Floats]:
        """Take weight and bias of a linear layer."""

    def fold(
        self, weight: Floats, bias: Floats | None, norm: str, eps: float = 1e-5
    ) -> tuple[Floats, Floats]:
        """Fold a BatchNorm with running statistics into the layer before it."""

    def scale(self, norm: str, count: int, eps: float) -> tuple[Floats, Floats]:
        """Give the scale and the shift, (count,) each, of a BatchNorm."""


def _pair(signals: Iterable[Maps]) -> tuple[int, int, int, int]:
    """Signals and first maps of up to two."""
    numbers = [number for maps in signals for number in (maps.signal, maps.first)]
    numbers += NO_PAIR[len(numbers) :]
    return numbers[0], numbers[1], numbers[2], numbers[3]


class GraphBuilder:
    """Writes a graph down, layer by layer with its weights."""

    def __init__(self) -> None:
        self.signals: list[GraphSignal] = []
        self.layers: list[GraphLayer] = []
        self.vectors: list[NDArray[Any]] = []
        self.values = 0

    def input(self, channels: int, samples: int) -> Maps:
        """Declare the next `channels` times `samples` values of an epoch as a signal."""
        maps = self._declare(GraphSignal(channels, samples, self.values))
        self.values += channels * samples
        return maps

    def signal(self, maps: int, steps: int) -> Maps:
        """Declare a signal that layers will write."""
        return self._declare(GraphSignal(maps, steps))

    def steps(self, maps: Maps) -> int:
        """Give the number of steps of a signal."""
        return self.signals[maps.signal].steps

    def _declare(self, signal: GraphSignal) -> Maps:
        self.signals.append(signal)
        return Maps(len(self.signals) - 1, 0, signal.maps)

    def convolve(
        self,
        source: Maps,
        weight: NDArray[Any],
        target: Maps | None = None,
        *,
        stride: int = 1,
        dilation: int = 1,
        pad: int = 0,
        **after: Any,
    ) -> Maps:
        """Convolve with a weight (outputs, inputs, kernel); `after` as for `_add`."""
        kernel = weight.shape[2]
        if target is None:
            reach = (kernel - 1) * dilation
            target = self.signal(
                len(weight), (self.steps(source) + 2 * pad - reach - 1) // stride + 1
            )
        return self._add(
            "convolve", source, target, weight, (kernel, stride, dilation, pad), **after
        )

    def scale_maps(self, source: Maps, factors: NDArray[Any], target: Maps, **after: Any) -> Maps:
        """Multiply each map by a factor (maps,); `pad` of -1 takes the next step in its place."""
        sizes = (1, 1, 1, after.pop("pad", 0))
        return self._add("depthwise", source, target, factors[:, None], sizes, **after)

    def pool(
        self,
        source: Maps,
        kernel: int,
        *,
        stride: int | None = None,
        dilation: int = 1,
        pad: int = 0,
        **after: Any,
    ) -> Maps:
        """Take the maximum of `kernel` steps, each `stride`, by default as many."""
        stride, reach = stride or kernel, (kernel - 1) * dilation
        steps = (self.steps(source) + 2 * pad - reach - 1) // stride + 1
        target = self.signal(source.width, steps)
        sizes = (kernel, stride, dilation, pad)
        return self._add("maximum", source, target, None, sizes, **after)

    def average(
        self, source: Maps, steps: int, *, target: Maps | None = None, **after: Any
    ) -> Maps:
        """Take the mean over `steps` windows of nearly equal length."""
        target = target or self.signal(source.width, steps)
        return self._add("mean", source, target, None, **after)

    def resize(self, source: Maps, target: Maps, **after: Any) -> Maps:
        """Interpolate linearly to the steps of the target."""
        return self._add("resize", source, target, None, **after)

    def multiply(
        self, source: Maps, factor: Maps, target: Maps | None = None, **after: Any
    ) -> Maps:
        """Multiply by another signal, or by one step of factors for all steps."""
        target = target or self.signal(source.width, self.steps(source))
        return self._add("multiply", source, target, None, operands=[factor], **after)

    def transpose(self, source: Maps, **after: Any) -> Maps:
        """Make maps of the steps, and steps of the maps."""
        target = self.signal(self.steps(source), source.width)
        return self._add("transpose", source, target, None, **after)

    def normalise(
        self, source: Maps, gamma: NDArray[Any], beta: NDArray[Any], *, unbiased: bool = False
    ) -> Maps:
        """Normalise each step over its maps, and scale and shift them, (maps,) each."""
        target = self.signal(source.width, self.steps(source))
        kind: LayerKind = "unbiased_norm" if unbiased else "layer_norm"
        return self._add(kind, source, target, None, scale=(gamma, beta))

    def add_positions(self, source: Maps, weight: NDArray[Any]) -> Maps:
        """Add a weight (maps, steps) to each value."""
        target = self.signal(source.width, self.steps(source))
        return self._add("positions", source, target, weight, (weight.shape[1], 1, 1, 0))

    def attend(self, queries: Maps, keys: Maps, values: Maps, heads: int) -> Maps:
        """Mix values by the softmax of queries and keys; the queries are scaled already."""
        target = self.signal(values.width, self.steps(queries))
        sizes = (heads, 1, 1, 0)
        return self._add("attend", queries, target, None, sizes, operands=[keys, values])

    def lstm(
        self, gates: Maps, weight: NDArray[Any], target: Maps, *, is_reversed: bool = False
    ) -> Maps:
        """Run an LSTM on the input's part of its gates, with the state's weight (4 H, H)."""
        kind: LayerKind = "lstm_reversed" if is_reversed else "lstm"
        return self._add(kind, gates, target, weight)

    def _add(  # noqa: PLR0913 - a layer, and what may follow its sums
        self,
        kind: LayerKind,
        source: Maps,
        target: Maps,
        weight: NDArray[Any] | None,
        sizes: tuple[int, int, int, int] = (1, 1, 1, 0),
        *,
        bias: NDArray[Any] | None = None,
        added: Iterable[Maps] = (),
        operands: Iterable[Maps] = (),
        activation: PlanActivation = "none",
        slopes: NDArray[Any] | None = None,
        scale: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> Maps:
        has = (bias is not None, scale is not None)
        pairs = _pair(added), _pair(operands)
        layer = GraphLayer(kind, source, target, *sizes, *pairs, activation, *has)
        arrays = [weight, bias, slopes, *(scale or ())]
        given = [np.asarray(array) for array in arrays if array is not None]
        assert [a.shape for a in given] == list(layer.arrays.values()), layer
        self.layers.append(layer)
        self.vectors += [array.ravel() for array in given]
        return target

    @property
    def graph(self) -> Graph:
        """What was written down."""
        return Graph(tuple(self.signals), tuple(self.layers))

    @property
    def weights(self) -> Floats:
        """All weights in one vector, in the order of the layers."""
        return np.concatenate([np.empty(0), *self.vectors]).astype(np.float32)
