"""ULW-SleepNet on NumPy arrays: the native extractor, and the two linear layers as one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleeptools import native, separable
from sleeptools.errors import DataError
from sleeptools.native import Floats
from sleeptools.shapes import ulw_sleepnet as shapes

HALF = False  # float32 is the faster one at these widths


class Network:
    """A trained ULW-SleepNet.

    Parameters
    ----------
    config
        Settings of the model, as in `config.json`.
    weights
        Arrays of `model.safetensors`, under PyTorch's names.
    precision
        "fp32".

    Raises
    ------
    DataError
        If an array has another shape than the settings ask for.
    """

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]], precision: str
    ) -> None:
        names = [block.unit1.name.rpartition(".")[0] for block in shapes.blocks()]
        self.channels = int(config["channels"])
        for name, shape in shapes.arrays(self.channels, config["stages"]).items():
            if weights[name].shape != shape:
                raise DataError(f"{name} is {weights[name].shape}; expected {shape}")
        self.extractor = np.concatenate(separable.fold(weights, names, shapes.NORM_EPS))
        first, second = weights["linear1.weight"], weights["linear2.weight"]
        self.head = np.ascontiguousarray((second @ first).T)  # (32 C, stages)
        self.bias = second @ weights["linear1.bias"] + weights["linear2.bias"]

    def __call__(self, x: Floats) -> Floats:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV.

        Returns
        -------
        ndarray
            Logits (B, stages) float32.

        Raises
        ------
        ValueError
            For a wrong shape.
        UnavailableError
            If the native core is off.
        """
        native.check_shape("ulw-sleepnet", "x", x, (len(x), self.channels, shapes.SAMPLES))
        features = separable.separable_stream(x, self.extractor, shapes.WIDTHS, shapes.KERNEL)
        logits: Floats = features.reshape(len(x), len(self.head)) @ self.head + self.bias
        return logits
