"""Layers of the mouse Transformer: an encoder of patches for each signal, and a classifier.

The one table behind the model in PyTorch (`sleeptools.models.mouse_transformer`) and the graph with
which it scores without torch.
"""

from __future__ import annotations

from sleeptools.native.conv_graph import GraphBuilder, LayerWeights
from sleeptools.native.layer_tables.encoder import add_attention, add_feed_forward

PATCH = 16  # samples of a token
WIDTH, HEADS, HIDDEN = 128, 8, 512


def mouse_transformer_graph(
    weights: LayerWeights, channels: int, samples: int, layers: int, stages: int
) -> GraphBuilder:
    """Write the network down; it reads an epoch (channels, samples) and gives (stages, 1)."""
    builder = GraphBuilder()
    inputs = [builder.input(1, samples) for _ in range(channels)]
    encoded = builder.signal(channels * WIDTH, 1)
    for i, x in enumerate(inputs):
        name = f"encoders.{i}"
        embed, bias = weights.linear(f"{name}.embed", WIDTH, PATCH)
        z = builder.convolve(x, embed[:, None], stride=PATCH, bias=bias)
        z = builder.add_positions(z, weights.take(f"{name}.positions", samples // PATCH, WIDTH).T)
        for layer in range(layers):
            inside = f"{name}.layers.{layer}"
            z = add_attention(builder, weights, z, f"{inside}.self_attn", f"{inside}.norm1", HEADS)
            z = add_feed_forward(builder, weights, z, inside, HIDDEN)
        builder.average(z, 1, target=encoded.pick(i * WIDTH, WIDTH))
    first, first_bias = weights.linear("linear1", WIDTH, channels * WIDTH)
    last, last_bias = weights.linear("linear2", stages, WIDTH)
    hidden = builder.convolve(encoded, first[:, :, None], bias=first_bias, activation="relu")
    builder.convolve(hidden, last[:, :, None], bias=last_bias)
    return builder
