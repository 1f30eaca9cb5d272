"""Networks that are plans of the native core, prepared for each size of their input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sleeptools.inference.weights import Weights
from sleeptools.native import (
    Floats,
    Precision,
    conv_plan,
    conv_streams,
    plan_products,
    prepared,
    two_stream_conv,
)
from sleeptools.native.conv_graph import GraphBuilder, describe_graph
from sleeptools.native.conv_streams import Activation, ConvStream
from sleeptools.native.prepared import NetworkPool, PreparedOp
from sleeptools.preprocessing.sequences import InputSpan


class PackedPlan:
    """A graph with its weights as the core reads them.

    Parameters
    ----------
    builder
        The graph with its weights.
    precision
        Precision of the products.
    """

    def __init__(self, builder: GraphBuilder, precision: Precision) -> None:
        self.weights = builder.weights
        self.graph = describe_graph(builder.graph)
        self.values = builder.values
        self.precision = precision
        unit = two_stream_conv.depth_unit(precision)
        self.packed = plan_products.pack_graph(self.weights, builder.graph, unit)

    def prepare(self, x: Floats) -> PreparedOp:
        """Prepare the op for `x`, which is divided into rows of the values that the graph reads."""
        x = x.reshape(-1, self.values)
        return conv_plan.conv_plan.prepare(x, self.weights, self.graph, self.precision, self.packed)


class PackedStreams:
    """Convolution streams with their weights as the core reads them.

    Parameters
    ----------
    weights
        The model's arrays.
    streams
        The streams, in the order of the output, by their names in the model.
    activation, slope
        What comes after each convolution.
    precision
        Precision of the products.
    """

    def __init__(
        self,
        weights: Weights,
        streams: Mapping[str, ConvStream],
        activation: Activation,
        slope: float,
        precision: Precision,
    ) -> None:
        self.shape = tuple(conv_streams.describe_streams(streams.values()))
        arrays = [
            array
            for name, stream in streams.items()
            for array in weights.fold_stream(name, stream.channels, stream.layers)
        ]
        self.weights = np.concatenate([array.ravel() for array in arrays])
        self.settings = activation, slope, precision
        self.packed = two_stream_conv.pack_weights(self.weights, self.shape, precision)

    def prepare(self, x: Floats) -> PreparedOp:
        """Prepare the op for `x`, (..., channels, samples)."""
        x = x.reshape(-1, *x.shape[-2:])
        return two_stream_conv.two_stream_conv.prepare(
            x, self.weights, self.shape, *self.settings, self.packed
        )


class PlanNetwork:
    """A network of one plan, or of streams and plans one after the other, which ends in logits.

    Parameters
    ----------
    packed_ops
        Streams first, if there are any; the output of one is the input of the next. The last
        output is (stages, 1), or of a sequence (epochs, stages).
    stages
        Number of stages.

    Attributes
    ----------
    span
        Epochs that the network takes at once.
    """

    span = InputSpan()

    def __init__(self, packed_ops: Sequence[PackedStreams | PackedPlan], stages: int) -> None:
        self.packed_ops = packed_ops
        self.stages = stages
        self.pool = NetworkPool(self._prepare)

    def _prepare(self, size: tuple[int, ...]) -> prepared.PreparedNetwork:
        x = np.empty(size, np.float32)
        network_ops, values = list[PreparedOp](), x
        for packed_op in self.packed_ops:
            network_ops.append(packed_op.prepare(values))
            values = network_ops[-1].out
        logits = network_ops.pop()
        network_ops.append(logits._replace(out=logits.out.reshape(-1, self.stages)))
        return prepared.PreparedNetwork(x, network_ops)
