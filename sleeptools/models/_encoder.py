"""PyTorch's Transformer encoder layer, its feed-forward block on the native op."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sleeptools import ops
from sleeptools.ops.feed_forward import feed_forward


def encode(layer: nn.TransformerEncoderLayer, z: Tensor) -> Tensor:
    """Run a layer (batch first, norm last, ReLU): (B, T, D) to the same."""
    if torch.compiler.is_compiling() or z.is_cuda or not ops.runs_native(z):
        encoded: Tensor = layer(z)
        return encoded
    z = layer.norm1(z + layer.dropout1(layer.self_attn(z, z, z, need_weights=False)[0]))
    weights = layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias
    dropout, seed = layer.dropout.p if layer.training else 0.0, 0
    if dropout > 0:
        seed = int(torch.randint(2**63 - 1, ()))  # of PyTorch's generator, which a run restores
    changed = feed_forward(z.flatten(0, 1), *weights, dropout=dropout, seed=seed)  # (B T, D)
    out: Tensor = layer.norm2(z + layer.dropout2(changed.view_as(z)))
    return out
