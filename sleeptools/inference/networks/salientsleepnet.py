"""SalientSleepNet on NumPy arrays: epochs standardised, the network as one plan of the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedPlan, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.layer_tables import salientsleepnet
from sleeptools.preprocessing.sequences import InputSpan

# Rounding grows over its layers: with random weights, in bfloat16 3 of 20 epochs have another stage
# than in float32, and sums in another order change a probability by 0.04.
HALF = False
SAMPLES = 3000


class Network(PlanNetwork):
    """A trained SalientSleepNet.

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
        self.channels = int(config["channels"])
        self.used = [int(config["eeg"]), int(config["eog"])]
        self.standardised = config["variant"] == "original"
        self.epochs = int(config["sequence"])
        settings = config["variant"], config["filters"]
        for name, shape in salientsleepnet.unused_arrays(*settings, ("eeg", "eog")).items():
            weights.take(name, *shape)
        graph = salientsleepnet.SalientGraph(weights, *settings, config["stages"])
        super().__init__(
            [PackedPlan(graph.write(self.epochs, SAMPLES), precision)], config["stages"]
        )
        self.span = InputSpan(self.epochs)

    def __call__(self, x: Floats) -> Floats:
        """Score sequences (B, epochs, channels, 3000), uV: probabilities (B, epochs, stages)."""
        size = (len(x), self.epochs, self.channels, SAMPLES)
        check_shape("salientsleepnet", "x", x.shape, size)
        x = x[:, :, self.used]
        if self.standardised:
            with np.errstate(invalid="ignore", over="ignore"):  # not finite: so is the result
                deviation = np.maximum(x.std(3, keepdims=True), np.float32(1e-6))
                x = (x - x.mean(3, keepdims=True)) / deviation
        channels = np.ascontiguousarray(x.swapaxes(1, 2)).reshape(len(x), -1)
        return self.pool(channels).reshape(len(x), self.epochs, self.stages)
