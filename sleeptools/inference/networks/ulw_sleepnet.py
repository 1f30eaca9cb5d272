"""ULW-SleepNet on NumPy arrays: the native extractor and the two linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleeptools.errors import DataError
from sleeptools.native import Floats, classifier, prepared, separable_stream
from sleeptools.native.check import check_shape
from sleeptools.native.layer_tables import ulw_sleepnet
from sleeptools.native.prepared import NetworkPool
from sleeptools.preprocessing.sequences import InputSpan

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

    span = InputSpan()

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]], precision: str
    ) -> None:
        names = [block.unit1.name.rpartition(".")[0] for block in ulw_sleepnet.blocks()]
        self.channels = int(config["channels"])
        for name, shape in ulw_sleepnet.arrays(self.channels, config["stages"]).items():
            if weights[name].shape != shape:
                raise DataError(
                    f"{name} is {weights[name].shape}; expected {shape}", code="MODEL-SHAPES"
                )
        self.weights = np.concatenate(
            separable_stream.fold_separable(weights, names, ulw_sleepnet.NORM_EPS)
        )
        self.head = [weights[f"linear{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")]
        self.pool = NetworkPool(self._prepare)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV, C-contiguous.

        Returns
        -------
        ndarray
            The probability of each stage, (B, stages) float32.

        Raises
        ------
        ValueError
            For a wrong shape.
        UnavailableError
            If the native core is off.
        """
        check_shape("ulw-sleepnet", "x", x.shape, (len(x), self.channels, ulw_sleepnet.SAMPLES))
        return self.pool(x)

    def _prepare(self, size: tuple[int, ...]) -> prepared.PreparedNetwork:
        x = np.empty(size, np.float32)
        extractor = separable_stream.separable_stream.prepare(
            x, self.weights, ulw_sleepnet.WIDTHS, ulw_sleepnet.KERNEL
        )
        features = extractor.out.reshape(len(x), self.head[0].shape[1])
        head = classifier.classifier.prepare(features, None, *self.head, rectify=False)
        return prepared.PreparedNetwork(x, [extractor, head])
