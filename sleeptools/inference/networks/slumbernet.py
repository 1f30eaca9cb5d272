"""SlumberNet on NumPy arrays: the whole network as one plan of the native core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedPlan, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.layer_tables import slumbernet

# In networks with random weights rounding to bfloat16 changes probabilities by more than a half.
HALF = False


class Network(PlanNetwork):
    """A trained SlumberNet.

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
        self.precision = precision
        self.layout = config["layout"]
        self.signals = int(config["channels"])
        self.samples = round(config["sample_rate"] * config["epoch_seconds"])
        tables = slumbernet.block_tables(config["blocks"], config["filters"], config["network"])
        blocks = [take_block(weights, f"blocks.{i}", table) for i, table in enumerate(tables)]
        head = weights.linear("linear", config["stages"], tables[-1].outputs)
        graph = slumbernet.slumbernet_graph(blocks, head, self.signals, self.samples, precision)
        super().__init__([PackedPlan(graph, precision)], config["stages"])

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, signals, samples), uV: the probability of each stage, (B, stages)."""
        check_shape("slumbernet", "x", x.shape, (len(x), self.signals, self.samples))
        if self.layout == "authors":
            x = x.reshape(len(x), self.samples, self.signals).transpose(0, 2, 1)
        return self.pool(slumbernet.arrange_epochs(x, self.precision))


def take_block(
    weights: Weights, name: str, table: slumbernet.BlockTable
) -> slumbernet.BlockWeights:
    """Take the weights of a block."""
    sizes = (table.inputs, table.outputs, table.outputs)
    convs = [
        _take_conv(weights, f"{name}.convs.{i}", (table.outputs, inputs, width, slumbernet.TIME))
        for i, (inputs, width) in enumerate(zip(sizes, table.widths, strict=True))
    ]
    shortcut = f"{name}.shortcut"
    if table.shortcut:
        shape = (table.outputs, table.inputs, 1, table.shortcut)
        return slumbernet.BlockWeights(convs, _take_conv(weights, shortcut, shape))
    scale = weights.scale(shortcut, table.outputs, slumbernet.NORM_EPS)
    return slumbernet.BlockWeights(convs, scale)


def _take_conv(
    weights: Weights, name: str, shape: tuple[int, int, int, int]
) -> slumbernet.PlaneConv:
    weight = weights.take(f"{name}.conv.weight", *shape)
    bias = weights.take(f"{name}.conv.bias", shape[0])
    folded = weights.fold(weight, bias, f"{name}.norm", slumbernet.NORM_EPS)
    return slumbernet.PlaneConv(*(array.astype(np.float64) for array in folded))
