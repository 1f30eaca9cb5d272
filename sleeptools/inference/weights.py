"""A model's weights on the way into its network, each checked as it is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleeptools.errors import DataError
from sleeptools.native import Floats
from sleeptools.native.batch_norm import fold_batch_norm
from sleeptools.native.conv_streams import ConvLayer

COUNTER = "num_batches_tracked"  # of a BatchNorm; inference has no use for it


class Weights(Mapping[str, Floats]):
    """Arrays under PyTorch's names.

    Parameters
    ----------
    arrays
        Arrays of model.safetensors.
    path
        Path of the file, for messages.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
        self.arrays = {k: v for k, v in arrays.items() if not k.endswith(COUNTER)}
        self.path = path
        self.unused = set(self.arrays)

    def __getitem__(self, name: str) -> Floats:
        """Take an array.

        Raises
        ------
        DataError
            If there is none, it is not float32, or holds values that are not finite.
        """
        if name not in self.arrays:
            raise DataError(
                f"{self.path}: weights do not fit the model: missing {name}", code="MODEL-SHAPES"
            )
        self.unused.discard(name)
        array = self.arrays[name]
        if array.dtype != np.float32:
            raise DataError(
                f"{self.path}: {name} is {array.dtype}; expected float32", code="MODEL-SHAPES"
            )
        if not np.isfinite(array).all():
            raise DataError(
                f"{self.path}: {name} holds values that are not finite", code="MODEL-FINITE"
            )
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def take(self, name: str, *shape: int) -> Floats:
        """Take an array of a known shape.

        Raises
        ------
        DataError
            As for `[]`, and if the shape is another.
        """
        array = self[name]
        if array.shape != shape:
            raise DataError(
                f"{self.path}: {name} is {array.shape}; expected {shape}", code="MODEL-SHAPES"
            )
        return array

    def linear(self, name: str, outputs: int, inputs: int) -> tuple[Floats, Floats]:
        """Take weight and bias of a linear layer."""
        weight = self.take(f"{name}.weight", outputs, inputs)
        return weight, self.take(f"{name}.bias", outputs)

    def fold(
        self, weight: Floats, bias: Floats | None, norm: str, eps: float = 1e-5
    ) -> tuple[Floats, Floats]:
        """Fold a BatchNorm with running statistics into the layer before it.

        Parameters
        ----------
        weight, bias
            Weight (outputs, ...) and bias (outputs,) of the layer.
        norm, eps
            Name of the BatchNorm, and its epsilon.

        Returns
        -------
        weight, bias
            Weight and bias of a layer that does both.
        """
        names = ("running_mean", "running_var", "weight", "bias")
        vectors = [self.take(f"{norm}.{n}", len(weight)).astype(np.float64) for n in names]
        folded = fold_batch_norm(weight, bias, *vectors, eps=eps)
        return folded[0].astype(np.float32), folded[1].astype(np.float32)

    def scale(self, norm: str, count: int, eps: float) -> tuple[Floats, Floats]:
        """Give the scale and the shift, (count,) each, of a BatchNorm that stands by itself."""
        ones, zeros = np.ones(count, np.float32), np.zeros(count, np.float32)
        return self.fold(ones, zeros, norm, eps)

    def fold_stream(self, name: str, channels: int, layers: Iterable[ConvLayer]) -> list[Floats]:
        """Take a stream's convolutions with their BatchNorms folded: weight and bias in turn."""
        arrays: list[Floats] = []
        for number, layer in enumerate(layers, 1):
            conv = f"{name}.conv{number}"
            weight = self.take(f"{conv}.conv.weight", layer.outputs, channels, layer.kernel)
            arrays += self.fold(weight, None, f"{conv}.norm")
            channels = layer.outputs
        return arrays

    def finish(self) -> None:
        """Check that every array was taken.

        Raises
        ------
        DataError
            Naming those that were not.
        """
        if self.unused:
            names = ", ".join(sorted(self.unused)[:3])
            raise DataError(
                f"{self.path}: weights do not fit the model: unknown {names}", code="MODEL-SHAPES"
            )
