"""Two convolution streams over one modality, joined on time, and all of a model's as one native op.

DeepSleepNet's idea (Supratak et al. 2017), shared by its followers: short kernels for when a wave
happens, long ones for its frequency. Each layer is a convolution without bias, BatchNorm, an
activation and perhaps a max-pool; dropout follows the first pool, and the join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sleeptools import native, ops, streams
from sleeptools.ops.two_stream_conv import join, pack, two_stream_conv


class Activation(NamedTuple):
    """What follows each convolution: "leaky_relu", "relu" or "gelu" (the exact one)."""

    name: streams.Activation
    slope: float = 0.01  # of leaky_relu

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it, in place where that can be."""
        if self.name == "gelu":
            return functional.gelu(x)
        if self.name == "relu":
            return functional.relu(x, inplace=True)
        return functional.leaky_relu(x, self.slope, inplace=True)


class Conv(nn.Module):
    """Convolution without bias, BatchNorm, activation, max-pool."""

    def __init__(self, inputs: int, layer: streams.Layer, activation: Activation) -> None:
        super().__init__()
        outputs, kernel, stride, pad, self.pool = layer
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, pad, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.conv(x)))  # (B, outputs, T)
        return x if self.pool == (1, 1, 0) else functional.max_pool1d(x, *self.pool)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that does both."""
        norm = self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        return ops.fold_batch_norm(
            self.conv.weight, None, mean, variance, norm.weight, norm.bias, eps=norm.eps
        )


class Stream(nn.Module):
    """Convolutions one after the other, dropout after the first."""

    def __init__(
        self, inputs: int, layers: Sequence[streams.Layer], activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        widths = [inputs, *(layer.outputs for layer in layers)]
        for i, (width, layer) in enumerate(zip(widths, layers, strict=False), 1):
            self.add_module(f"conv{i}", Conv(width, layer, activation))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, steps)."""
        first, *later = self.convs()
        x = self.dropout(first(x))
        for conv in later:
            x = conv(x)
        return x

    def convs(self) -> Iterator[Conv]:
        """Every layer in its order."""
        return (module for module in self.children() if isinstance(module, Conv))


class TwoStreams(nn.Module):
    """A short-kernel and a long-kernel stream over the same channels, joined on time.

    Parameters
    ----------
    inputs
        Channels.
    shapes
        Layers of the two.
    activation
        After each convolution.
    dropout
        Probability after each stream's first pool.
    joined
        Probability after the join; None for the same.
    """

    def __init__(
        self,
        inputs: int,
        shapes: tuple[Sequence[streams.Layer], Sequence[streams.Layer]],
        activation: Activation,
        dropout: float,
        *,
        joined: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.small, self.large = (Stream(inputs, s, activation, dropout) for s in shapes)
        self.dropout = nn.Dropout(dropout if joined is None else joined)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, steps of both)."""
        joined: Tensor = self.dropout(torch.cat([self.small(x), self.large(x)], 2))
        return joined


class FoldedStreams:
    """All streams of a model for `two_stream_conv`, packed again when a weight has changed.

    Parameters
    ----------
    found
        The first channel of each modality, and its streams.
    """

    def __init__(self, found: Sequence[tuple[int, TwoStreams]]) -> None:
        each = [(c, two.inputs, s) for c, two in found for s in (two.small, two.large)]
        self.shape = streams.describe(streams.Stream(c, n, s.layers) for c, n, s in each)
        self.convs = [conv for *_, stream in each for conv in stream.convs()]
        self.activation = self.convs[0].activation
        modules = [module for conv in self.convs for module in (conv.conv, conv.norm)]
        self.sources = [
            (tensors, name)
            for module in modules
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]
        self.state: list[Any] = []
        self.weights = self.packed = torch.empty(0)

    def serves(self, x: Tensor) -> bool:
        """Whether the native op runs them in evaluation; on a GPU cuDNN has the Tensor Cores."""
        if torch.compiler.is_compiling() or x.is_cuda or not ops.runs_native(x):
            return False
        return self.convs[0].conv.weight.dtype == x.dtype and not torch.is_autocast_enabled("cpu")

    def __call__(self, x: Tensor, precision: str = "fp32") -> Tensor:
        """(B, channels, T) to (B, maps, steps), the modalities' maps below each other."""
        # Storage and version of every tensor tell an assignment, a step of an optimiser and a
        # loaded state; training, which PyTorch does not count for running statistics, shows in
        # num_batches_tracked. Inference tensors have no versions: None here, and never equal.
        state: list[Any] = [native.variant(), precision]
        tensors = [t for source, name in self.sources if (t := source[name]) is not None]
        try:
            state += [t.data_ptr() for t in tensors] + [t._version for t in tensors]
        except RuntimeError:
            state = [None]
        if state != self.state or state == [None]:
            with torch.no_grad():
                self.weights = self.join()
            self.packed = pack(self.weights, self.shape, precision)
            self.state = state
        weights = self.join() if torch.is_grad_enabled() else self.weights
        return two_stream_conv(x, weights, self.shape, *self.activation, precision, self.packed)

    def join(self) -> Tensor:
        """Fold each BatchNorm into its convolution; differentiable."""
        return join([conv.folded() for conv in self.convs])
