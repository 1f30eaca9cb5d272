"""The mouse CNN with attention on NumPy arrays: as the mouse CNN, attention after each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.inference.networks import mouse_cnn
from sleeptools.inference.weights import Weights
from sleeptools.native.conv_graph import GraphBuilder, Maps
from sleeptools.native.layer_tables import encoder
from sleeptools.native.layer_tables.mouse_cnn import AddAttention

HALF = True  # multiplies in bfloat16 where asked to


class Network(mouse_cnn.Network):
    """A trained mouse CNN with attention; as `mouse_cnn.Network`."""

    NAME = "mouse-cnn-attention"
    MODULES = mouse_cnn.Network.MODULES + 1

    def attention(self, config: Mapping[str, Any], weights: Weights) -> AddAttention:
        """Give what adds self-attention over the steps, the residual and the norm."""
        heads, modules, before = config["heads"], self.MODULES, mouse_cnn.Network.MODULES

        def add(builder: GraphBuilder, maps: Maps, branch: int, block: int) -> Maps:
            name = f"branches.{branch}.{modules * block + before}"
            count = heads if isinstance(heads, int) else heads[branch]
            names = f"{name}.attention", f"{name}.norm"
            return encoder.add_attention(builder, weights, maps, *names, count)

        return add
