"""Two convolution streams over one modality, joined on time, and all of a model's as one native op.

The idea of DeepSleepNet (Supratak et al. 2017, doi:10.1109/TNSRE.2017.2721116), which several
models share: short kernels for the time of a wave, long ones for its frequency. Each layer is a
convolution without bias, BatchNorm, an activation and perhaps a max-pool; dropout follows the first
pool, and the join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sleeptools import native
from sleeptools.models.layers.dropout import MapDropout, draw_seed
from sleeptools.models.layers.folded_weights import FoldedWeights
from sleeptools.models.layers.native_training import (
    batch_counted,
    to_float32,
    training_precision,
    trains_native,
    trains_on_tensor_cores,
)
from sleeptools.models.ops.conv_block import conv_block
from sleeptools.models.ops.two_stream_conv import join, pack, two_stream_conv
from sleeptools.native import conv_streams
from sleeptools.native.batch_norm import fold_batch_norm


class Nonlinearity(NamedTuple):
    """Activation after each convolution: "leaky_relu", "relu" or "gelu" (the exact one)."""

    name: conv_streams.Activation
    slope: float = 0.01  # of leaky_relu

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it, in place if possible."""
        if self.name == "gelu":
            return functional.gelu(x)
        if self.name == "relu":
            return functional.relu(x, inplace=True)
        return functional.leaky_relu(x, self.slope, inplace=True)


class ConvBlock(nn.Module):
    """Convolution without bias, BatchNorm, activation, max-pool."""

    def __init__(
        self, inputs: int, layer: conv_streams.ConvLayer, activation: Nonlinearity
    ) -> None:
        super().__init__()
        outputs, kernel, stride, pad, self.pool = layer
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, pad, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, T')."""
        x = self.activation(self.norm(self.conv(x)))  # (B, outputs, T)
        return x if self.pool == (1, 1, 0) else functional.max_pool1d(x, *self.pool)

    def block(self, x: Tensor, dropout: float) -> Tensor:
        """Train on (B, T, inputs) by one native op, with dropout at the end."""
        norm, conv = self.norm, self.conv
        sizes = [conv.stride[0], int(conv.padding[0]), *self.pool]
        return conv_block(
            x,
            conv.weight,
            norm.weight,
            norm.bias,
            sizes,
            *self.activation,
            norm.eps,
            dropout,
            draw_seed(dropout),
            training_precision(),
            running=batch_counted(norm),
        )  # (B, T', outputs)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of one convolution that does convolution and BatchNorm."""
        norm = self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        return fold_batch_norm(
            self.conv.weight, None, mean, variance, norm.weight, norm.bias, eps=norm.eps
        )


class Stream(nn.Module):
    """Convolutions one after the other, dropout after the first."""

    def __init__(
        self,
        inputs: int,
        layers: Sequence[conv_streams.ConvLayer],
        activation: Nonlinearity,
        dropout: float,
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        widths = [inputs, *(layer.outputs for layer in layers)]
        for i, (width, layer) in enumerate(zip(widths, layers, strict=False), 1):
            self.add_module(f"conv{i}", ConvBlock(width, layer, activation))
        self.dropout = MapDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, steps)."""
        first, *later = self.convs()
        x = self.dropout(first(x))
        for conv in later:
            x = conv(x)
        return x

    def blocks(self, x: Tensor, dropout: float) -> Tensor:
        """(B, T, inputs) to (B, steps, outputs) in training, `dropout` after the last pool."""
        convs = list(self.convs())
        dropouts = [self.dropout.p, *[0.0] * (len(convs) - 2), dropout]
        for conv, p in zip(convs, dropouts, strict=True):
            x = conv.block(x, p)
        return x

    def convs(self) -> Iterator[ConvBlock]:
        """List the layers in their order."""
        return (module for module in self.children() if isinstance(module, ConvBlock))


class TwoStreams(nn.Module):
    """A short-kernel and a long-kernel stream over the same channels, joined on time.

    Parameters
    ----------
    inputs
        Channels of the modality.
    layers
        Layers of the short-kernel and of the long-kernel stream.
    activation
        Activation after each convolution.
    dropout
        Dropout probability after each stream's first pool.
    joined
        Dropout probability after the join; None for the same.
    """

    def __init__(
        self,
        inputs: int,
        layers: tuple[Sequence[conv_streams.ConvLayer], Sequence[conv_streams.ConvLayer]],
        activation: Nonlinearity,
        dropout: float,
        *,
        joined: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.small, self.large = (Stream(inputs, s, activation, dropout) for s in layers)
        self.dropout = MapDropout(dropout if joined is None else joined)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, steps of both)."""
        # with a module in evaluation mode, as a frozen BatchNorm, PyTorch computes
        is_native = trains_native(x) or trains_on_tensor_cores(x)
        if is_native and all(module.training for module in self.modules()):
            x, p = to_float32(x).mT.contiguous(), self.dropout.p  # (B, T, inputs)
            return torch.cat([self.small.blocks(x, p), self.large.blocks(x, p)], 1).mT
        # dropout of each by itself, as the native op has it
        return torch.cat([self.dropout(stream(x)) for stream in (self.small, self.large)], 2)


class FoldedStreams(FoldedWeights):
    """All streams of a model for `two_stream_conv`.

    Parameters
    ----------
    modalities
        First channel of each modality in the input, and its streams.
    """

    def __init__(self, modalities: Sequence[tuple[int, TwoStreams]]) -> None:
        streams = [(c, m.inputs, s) for c, m in modalities for s in (m.small, m.large)]
        self.shape = conv_streams.describe_streams(
            conv_streams.ConvStream(c, n, s.layers) for c, n, s in streams
        )
        self.convs = [conv for *_, stream in streams for conv in stream.convs()]
        self.activation = self.convs[0].activation
        self.packed = torch.empty(0)
        super().__init__(self.convs)

    def __call__(self, x: Tensor, precision: str = "fp32") -> Tensor:
        """(B, channels, T) to (B, maps, steps), the modalities' maps below each other."""
        if self.refresh(native.variant(), precision):
            self.packed = pack(self.kept, self.shape, precision)
        settings = (*self.activation, precision, self.packed)
        return two_stream_conv(x, self.weights(), self.shape, *settings)

    def join(self) -> Tensor:
        """Fold each BatchNorm into its convolution; differentiable."""
        return join([conv.folded() for conv in self.convs])
