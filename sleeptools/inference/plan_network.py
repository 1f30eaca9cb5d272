"""A network that is one plan of the native core, prepared for each size of its input."""

from __future__ import annotations

import numpy as np

from sleeptools.native import conv_plan, prepared
from sleeptools.native.conv_graph import GraphBuilder, describe_graph
from sleeptools.native.prepared import NetworkPool
from sleeptools.preprocessing.sequences import InputSpan


class PlanNetwork:
    """A network whose graph ends in logits.

    Parameters
    ----------
    builder
        The graph with its weights. Its output is (stages, 1), or of a sequence (epochs, stages).
    stages
        Number of stages.

    Attributes
    ----------
    span
        Epochs that the network takes at once.
    """

    span = InputSpan()

    def __init__(self, builder: GraphBuilder, stages: int) -> None:
        self.weights = builder.weights
        self.graph = describe_graph(builder.graph)
        self.packed = conv_plan.pack_graph(self.weights, builder.graph)
        self.stages = stages
        self.pool = NetworkPool(self._prepare)

    def _prepare(self, size: tuple[int, ...]) -> prepared.PreparedNetwork:
        x = np.empty(size, np.float32)
        plan = conv_plan.conv_plan.prepare(x, self.weights, self.graph, self.packed)
        logits = plan._replace(out=plan.out.reshape(-1, self.stages))
        return prepared.PreparedNetwork(x, [logits])
