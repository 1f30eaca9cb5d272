"""The mouse CNN on NumPy arrays: spectra by NumPy, the network as one plan of the native core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedPlan, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.layer_tables import mouse_cnn
from sleeptools.native.layer_tables.mouse_cnn import AddAttention, PreluLayer

HALF = True  # multiplies in bfloat16 where asked to
LAST = 3  # modules between the blocks and the linear layer: pool, flatten, dropout


class Network(PlanNetwork):
    """A trained mouse CNN.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the products.
    """

    NAME = "mouse-cnn"
    MODULES = 4  # of a branch for each block: convolution, PReLU, BatchNorm, dropout

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        self.channels = int(config["channels"])
        self.samples = round(config["sample_rate"] * config["epoch_seconds"])
        self.window = mouse_cnn.hann_window(self.samples)
        frequencies = self.channels * (self.samples // 2 + 1)
        statistics = (
            weights.take(f"spectrum.norm.running_{name}", frequencies) for name in ("mean", "var")
        )
        self.mean, variance = (vector.reshape(self.channels, -1) for vector in statistics)
        self.deviation = np.sqrt(variance + np.float32(mouse_cnn.NORM_EPS))
        branches = [self._take_branch(weights, i) for i in range(2 * self.channels)]
        features = len(branches) * mouse_cnn.FEATURES
        stages, doubled = config["stages"], config["classifier"] == "two-blocks"
        classifier = [
            _take_layer(weights, "classifier", 0, (mouse_cnn.HIDDEN, features, 1)),
            _take_layer(weights, "classifier", 2, (stages, mouse_cnn.HIDDEN, 1), prelu=doubled),
        ]
        attention = self.attention(config, weights)
        graph = mouse_cnn.mouse_cnn_graph(branches, classifier, self.samples, attention)
        super().__init__([PackedPlan(graph, precision)], stages)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples), standardised: probabilities (B, stages)."""
        check_shape(self.NAME, "x", x.shape, (len(x), self.channels, self.samples))
        with np.errstate(invalid="ignore", over="ignore"):  # not finite: so is the result
            magnitude = mouse_cnn.log_magnitude(x, self.window)
            spectra = (magnitude - self.mean) / self.deviation
        values = np.concatenate([x.reshape(len(x), -1), spectra.reshape(len(x), -1)], 1)
        return self.pool(values)

    def attention(self, config: Mapping[str, Any], weights: Weights) -> AddAttention | None:
        """Give what adds the attention after a block to the graph; here there is none."""
        del config, weights
        return None

    def _take_branch(self, weights: Weights, index: int) -> list[PreluLayer]:
        """Take the layers of a branch."""
        name, inputs = f"branches.{index}", 1
        layers: list[PreluLayer] = []
        for i, width in enumerate(mouse_cnn.WIDTHS):
            shape = (width, inputs, mouse_cnn.KERNEL)
            layers.append(_take_layer(weights, name, self.MODULES * i, shape, norm=True))
            inputs = width
        last = self.MODULES * len(mouse_cnn.WIDTHS) + LAST
        shape = (mouse_cnn.FEATURES, inputs, mouse_cnn.POOLED)
        return [*layers, _take_layer(weights, name, last, shape, norm=True)]


def _take_layer(
    weights: Weights,
    name: str,
    module: int,
    shape: tuple[int, int, int],
    *,
    prelu: bool = True,
    norm: bool = False,
) -> PreluLayer:
    """Take module `module` of a sequence, and the PReLU and the BatchNorm after it."""
    outputs, inputs, kernel = shape
    linear = kernel in {1, mouse_cnn.POOLED}
    size = (outputs, inputs * kernel) if linear else shape
    weight = weights.take(f"{name}.{module}.weight", *size).reshape(shape)
    bias = weights.take(f"{name}.{module}.bias", outputs)
    slopes = weights.take(f"{name}.{module + 1}.weight", outputs) if prelu else None
    scale = weights.scale(f"{name}.{module + 2}", outputs, mouse_cnn.NORM_EPS) if norm else None
    return PreluLayer(weight, bias, slopes, scale)
