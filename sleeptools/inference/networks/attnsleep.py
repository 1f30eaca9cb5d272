"""AttnSleep on NumPy arrays: the streams, and a plan of the native core for what follows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.inference.plan_network import PackedPlan, PackedStreams, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.conv_streams import ConvStream
from sleeptools.native.layer_tables import attnsleep

HALF = True  # the streams multiply in bfloat16 where asked to
SAMPLES = 3000


class Network(PlanNetwork):
    """A trained AttnSleep.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the streams; what follows is a tenth of the products, and float32: its norms
        would make half as much again of the streams' rounding.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        self.channels = int(config["channels"])
        chains = {
            f"streams.{name}": ConvStream(int(config["channel"]), 1, layers)
            for name, layers in zip(("small", "large"), attnsleep.STREAMS, strict=True)
        }
        streams = PackedStreams(weights, chains, "gelu", 0.0, precision)
        graph = attnsleep.AttnGraph(weights).write(config["stages"])
        super().__init__([streams, PackedPlan(graph, "fp32")], config["stages"])

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, 3000), uV: the probability of each stage, (B, stages)."""
        check_shape("attnsleep", "x", x.shape, (len(x), self.channels, SAMPLES))
        return self.pool(x)
