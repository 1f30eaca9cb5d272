"""Weights with BatchNorm folded in, for the native ops with which a model scores on the CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sleeptools.models import ops


class FoldedWeights(ABC):
    """The weights of several layers as one vector, renewed when one of them has changed.

    Parameters
    ----------
    layers
        Modules whose parameters and buffers `join` reads.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.sources = [
            (tensors, name)
            for layer in layers
            for module in layer.modules()
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]
        self.state: list[Any] = []
        self.kept = torch.empty(0)

    def serves(self, x: Tensor) -> bool:
        """Whether the native op takes `x` in evaluation; on a GPU cuDNN uses the Tensor Cores."""
        if torch.compiler.is_compiling() or x.is_cuda or not ops.runs_native(x):
            return False
        tensors, name = self.sources[0]
        weight = tensors[name]
        assert weight is not None
        return weight.dtype == x.dtype and not torch.is_autocast_enabled("cpu")

    @abstractmethod
    def join(self) -> Tensor:
        """Compute the vector; differentiable."""

    def refresh(self, *settings: object) -> bool:
        """Bring `kept` up to date; True if a weight or one of `settings` has changed."""
        # Storage and version of every tensor tell an assignment, a step of an optimiser and a
        # loaded state; training, which PyTorch does not count for running statistics, shows in
        # num_batches_tracked. Inference tensors have no versions: None here, and never equal.
        state: list[Any] = list(settings)
        tensors = [t for source, name in self.sources if (t := source[name]) is not None]
        try:
            state += [t.data_ptr() for t in tensors] + [t._version for t in tensors]
        except RuntimeError:
            state = [None]
        if state == self.state != [None]:
            return False
        with torch.no_grad():
            self.kept = self.join()
        self.state = state
        return True

    def weights(self) -> Tensor:
        """Give the vector: the kept one after `refresh`, a new one where gradients are needed."""
        return self.join() if torch.is_grad_enabled() else self.kept
