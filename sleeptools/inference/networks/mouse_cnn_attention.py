"""The mouse CNN with attention on NumPy arrays: as the mouse CNN, attention after each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.inference.networks import mouse_cnn
from sleeptools.inference.weights import Weights
from sleeptools.native.conv_graph import GraphBuilder, Maps
from sleeptools.native.layer_tables import encoder

HALF = False  # the core's plans are float32


class Network(mouse_cnn.Network):
    """A trained mouse CNN with attention; as `mouse_cnn.Network`."""

    NAME = "mouse-cnn-attention"
    MODULES = mouse_cnn.Network.MODULES + 1

    def _add_attention(
        self,
        config: Mapping[str, Any],
        weights: Weights,
        builder: GraphBuilder,
        maps: Maps,
        branch: int,
        block: int,
    ) -> Maps:
        """Add self-attention over the steps, the residual and the norm."""
        heads = config["heads"]
        name = f"branches.{branch}.{self.MODULES * block + mouse_cnn.Network.MODULES}"
        return encoder.add_attention(
            builder,
            weights,
            maps,
            f"{name}.attention",
            f"{name}.norm",
            heads if isinstance(heads, int) else heads[branch],
        )
