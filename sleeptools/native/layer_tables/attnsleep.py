"""Layers of AttnSleep: two convolution streams, which MASleepNet has, too, and what follows them.

One EEG channel of 3000 samples goes through both streams (MRCNN); joined on time they give 128 maps
of 80 steps. The one table behind the model in PyTorch (`sleeptools.models.attnsleep`) and the
graphs with which it scores without torch.
"""

from __future__ import annotations

import numpy as np

from sleeptools.native.conv_graph import GraphBuilder, LayerWeights, Maps
from sleeptools.native.conv_streams import ConvLayer
from sleeptools.native.layer_tables.encoder import add_norm

MAPS = 128  # feature maps of a stream
STEPS = 80  # time steps after the two streams are joined: 64 + 16

TOKENS = 30  # maps after the AFR, each a token of width 80 to the encoder
HEADS = 5
HIDDEN = 120  # of the encoder's feed-forward
KERNEL = 7  # of the causal convolutions
REDUCTION = 16  # of the squeeze
ENCODERS = 2

STREAMS = (
    (  # short kernels
        ConvLayer(64, 50, 6, 24, (8, 2, 4)),  # (64, 251)
        ConvLayer(MAPS, 8, 1, 4),
        ConvLayer(MAPS, 8, 1, 4, (4, 4, 2)),  # (128, 64)
    ),
    (  # long kernels
        ConvLayer(64, 400, 50, 200, (4, 2, 2)),  # (64, 31)
        ConvLayer(MAPS, 7, 1, 3),
        ConvLayer(MAPS, 7, 1, 3, (2, 2, 1)),  # (128, 16)
    ),
)


class AttnGraph:
    """Writes down what follows the streams.

    Parameters
    ----------
    weights
        The model's arrays.
    """

    def __init__(self, weights: LayerWeights) -> None:
        self.builder = GraphBuilder()
        self.weights = weights

    def write(self, stages: int) -> GraphBuilder:
        """Write the graph down; it reads (128, 80) and gives (stages, 1)."""
        x = self._recalibrate(self.builder.input(MAPS, STEPS))
        for i in range(ENCODERS):
            x = self._encode(f"encoders.{i}", x if i == 0 else self.builder.transpose(x))
        x = add_norm(self.builder, self.weights, x, "norm", unbiased=True)  # (80, 30)
        weight, bias = self.weights.linear("linear", stages, TOKENS * STEPS)
        by_token = weight.reshape(stages, TOKENS, STEPS).swapaxes(1, 2)
        self.builder.convolve(x, by_token, bias=bias)
        return self.builder

    def _recalibrate(self, x: Maps) -> Maps:
        """Add the AFR: (128, 80) to (30, 80)."""
        builder, weights = self.builder, self.weights

        def fold(conv: str, norm: str, inputs: int, *, has_bias: bool = True) -> list[np.ndarray]:
            weight = weights.take(f"afr.{conv}.weight", TOKENS, inputs, 1)
            bias = weights.take(f"afr.{conv}.bias", TOKENS) if has_bias else None
            return [*weights.fold(weight, bias, f"afr.{norm}")]

        weight, bias = fold("conv1", "norm1", MAPS)
        f = builder.convolve(x, weight, bias=bias, activation="relu")
        weight, bias = fold("conv2", "norm2", TOKENS)
        f = builder.convolve(f, weight, bias=bias)
        bottleneck = TOKENS // REDUCTION
        squeeze = weights.take("afr.squeeze.weight", bottleneck, TOKENS)[:, :, None]
        excite = weights.take("afr.excite.weight", TOKENS, bottleneck)[:, :, None]
        squeezed = builder.convolve(builder.average(f, 1), squeeze, activation="relu")
        shares = builder.convolve(squeezed, excite, activation="sigmoid")
        weight, bias = fold("skip", "skip_norm", MAPS, has_bias=False)
        skipped = builder.convolve(x, weight, bias=bias)
        return builder.multiply(f, shares, added=[skipped], activation="relu")

    def _encode(self, name: str, x: Maps) -> Maps:
        """Add a layer of the temporal context encoder: (30 tokens, 80) to (80, 30 tokens)."""
        builder, weights = self.builder, self.weights
        tokens = []
        for kind, factor in (("query", 1.0), ("key", (STEPS // HEADS) ** -0.5), ("value", 1.0)):
            weight = weights.take(f"{name}.{kind}.weight", TOKENS, TOKENS, KERNEL)
            bias = weights.take(f"{name}.{kind}.bias", TOKENS)
            target = builder.signal(TOKENS, STEPS)
            builder.convolve(x, factor * weight, target, pad=KERNEL - 1, bias=factor * bias)
            tokens.append(builder.transpose(target))
        weight, bias = weights.linear(f"{name}.out", STEPS, STEPS)
        mixed = builder.attend(tokens[0], tokens[1], tokens[2], HEADS)
        z = builder.convolve(mixed, weight[:, :, None], bias=bias, added=[tokens[0]])
        normal = add_norm(builder, weights, z, f"{name}.norm", unbiased=True)
        first, first_bias = weights.linear(f"{name}.feed_forward.0", HIDDEN, STEPS)
        last, last_bias = weights.linear(f"{name}.feed_forward.3", STEPS, HIDDEN)
        inner = builder.convolve(normal, first[:, :, None], bias=first_bias, activation="relu")
        self._take_unused(name)
        return builder.convolve(inner, last[:, :, None], bias=last_bias, added=[z])

    def _take_unused(self, name: str) -> None:
        """Take what the authors' program keeps without a use."""
        self.weights.take(f"{name}.unused.0.weight", TOKENS, TOKENS, KERNEL)
        self.weights.take(f"{name}.unused.0.bias", TOKENS)
        self.weights.take(f"{name}.unused.1.weight", STEPS)
        self.weights.take(f"{name}.unused.1.bias", STEPS)
