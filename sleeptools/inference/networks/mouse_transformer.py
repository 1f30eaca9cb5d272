"""The mouse Transformer on NumPy arrays: the whole network as one plan of the native core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.inference.plan_network import PackedPlan, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.layer_tables.mouse_transformer import mouse_transformer_graph

HALF = True  # multiplies in bfloat16 where asked to


class Network(PlanNetwork):
    """A trained mouse Transformer.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the products.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        samples = round(config["sample_rate"] * config["epoch_seconds"])
        self.size = int(config["channels"]), samples
        stages = config["stages"]
        graph = mouse_transformer_graph(weights, *self.size, config["layers"], stages)
        super().__init__([PackedPlan(graph, precision)], stages)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples), standardised: probabilities (B, stages)."""
        check_shape("mouse-transformer", "x", x.shape, (len(x), *self.size))
        return self.pool(x.reshape(len(x), -1))
