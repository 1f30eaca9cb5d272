"""The layers of a Transformer's encoder in graphs: attention and feed-forward, each with a norm.

Residual connections go around both, and LayerNorm comes after them, as in PyTorch's
`TransformerEncoderLayer` by default. Names of weights are PyTorch's.
"""

from __future__ import annotations

import numpy as np

from sleeptools.native.conv_graph import GraphBuilder, LayerWeights, Maps


def add_attention(
    builder: GraphBuilder, weights: LayerWeights, x: Maps, name: str, norm: str, heads: int
) -> Maps:
    """Add multi-head self-attention over the steps, the residual and the norm.

    Parameters
    ----------
    x
        (width, steps).
    name, norm
        Names of the `MultiheadAttention` and of the `LayerNorm`.
    """
    width = x.width
    inside = np.array(weights.take(f"{name}.in_proj_weight", 3 * width, width), np.float64)
    bias = np.array(weights.take(f"{name}.in_proj_bias", 3 * width), np.float64)
    for array in (inside, bias):
        array[:width] *= (width // heads) ** -0.5
    qkv = builder.convolve(x, inside[:, :, None], bias=bias)
    queries, keys, values = (qkv.pick(i * width, width) for i in range(3))
    mixed = builder.attend(queries, keys, values, heads)
    out, out_bias = weights.linear(f"{name}.out_proj", width, width)
    added = builder.convolve(mixed, out[:, :, None], bias=out_bias, added=[x])
    return add_norm(builder, weights, added, norm)


def add_feed_forward(
    builder: GraphBuilder, weights: LayerWeights, x: Maps, name: str, hidden: int
) -> Maps:
    """Add linear, ReLU, linear, the residual and the norm of a layer."""
    first, first_bias = weights.linear(f"{name}.linear1", hidden, x.width)
    second, second_bias = weights.linear(f"{name}.linear2", x.width, hidden)
    inner = builder.convolve(x, first[:, :, None], bias=first_bias, activation="relu")
    added = builder.convolve(inner, second[:, :, None], bias=second_bias, added=[x])
    return add_norm(builder, weights, added, f"{name}.norm2")


def add_norm(
    builder: GraphBuilder, weights: LayerWeights, x: Maps, name: str, *, unbiased: bool = False
) -> Maps:
    """Add a LayerNorm over the maps of each step."""
    vectors = (weights.take(f"{name}.{kind}", x.width) for kind in ("weight", "bias"))
    return builder.normalise(x, *vectors, unbiased=unbiased)
