"""Layers of the mouse CNN: branches for the signals and for their spectra, and a classifier.

The one table behind the model in PyTorch (`sleeptools.models.layers.mouse_cnn`) and the graph with
which it scores without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sleeptools.native import Floats, as_floats
from sleeptools.native.conv_graph import GraphBuilder, Maps

WIDTHS = (16, 32, 64, 64)  # maps of a branch's blocks
KERNEL, STRIDE = 7, 2
POOLED = 8  # steps after a branch's pool
FEATURES = 64  # of a branch
HIDDEN = 64  # of the classifier
NORM_EPS = 1e-5

Scale = tuple[Floats, Floats]


class PreluLayer(NamedTuple):
    """A convolution or a linear layer, PReLU, and what BatchNorm does to its result.

    Parameters
    ----------
    weight
        (outputs, inputs, kernel); kernel 1 of a linear layer.
    bias, slopes
        (outputs,) each; no slopes: no PReLU.
    scale
        Scale and shift, (outputs,) each.
    """

    weight: Floats
    bias: Floats
    slopes: Floats | None = None
    scale: Scale | None = None

    def add_to(
        self,
        builder: GraphBuilder,
        source: Maps,
        target: Maps | None = None,
        stride: int = 1,
        pad: int = 0,
    ) -> Maps:
        """Add the layer to a graph."""
        return builder.convolve(
            source,
            self.weight,
            target,
            stride=stride,
            pad=pad,
            bias=self.bias,
            slopes=self.slopes,
            activation="none" if self.slopes is None else "prelu",
            scale=self.scale,
        )


AddAttention = Callable[[GraphBuilder, Maps, int, int], Maps]
"""Adds what follows block `block` of branch `branch` to a graph: builder, maps, branch, block."""


def mouse_cnn_graph(
    branches: Sequence[Sequence[PreluLayer]],
    classifier: Sequence[PreluLayer],
    samples: int,
    add_attention: AddAttention | None = None,
) -> GraphBuilder:
    """Write the network down.

    Parameters
    ----------
    branches
        The blocks and the last layer of each branch, the signals' first and then the spectra's.
    classifier
        Its two layers.
    samples
        Length of an epoch; it is followed by its spectra among the values that the graph reads.
    add_attention
        Adds what follows each block of a branch, if anything does.
    """
    builder = GraphBuilder()
    signals = len(branches) // 2
    inputs = [builder.input(1, samples) for _ in range(signals)]
    inputs += [builder.input(1, samples // 2 + 1) for _ in range(signals)]
    features = builder.signal(len(branches) * FEATURES, 1)
    for i, (maps, layers) in enumerate(zip(inputs, branches, strict=True)):
        *blocks, last = layers
        for j, block in enumerate(blocks):
            maps = block.add_to(builder, maps, None, STRIDE, KERNEL // 2)  # noqa: PLW2901
            if add_attention:
                maps = add_attention(builder, maps, i, j)  # noqa: PLW2901
        pooled = builder.average(maps, POOLED)
        last.add_to(builder, pooled, features.pick(i * FEATURES, FEATURES))
    hidden = classifier[0].add_to(builder, features)
    classifier[1].add_to(builder, hidden)
    return builder


def hann_window(samples: int) -> Floats:
    """Give the periodic Hann window, as torch.hann_window."""
    phase = 2 * np.pi / samples * np.arange(samples)
    return as_floats(0.5 - 0.5 * np.cos(phase))


def log_magnitude(x: Floats, window: Floats) -> Floats:
    """log(1 + magnitude) of the windowed epochs: (..., samples) to (..., samples // 2 + 1)."""
    return as_floats(np.log1p(np.abs(np.fft.rfft(x * window))))
