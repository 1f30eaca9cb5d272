"""PyTorch's Transformer encoder layer, computed by the native ops; and as printed."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.dropout import (
    Dropout,
    draw_seed,
    drop,
    drop_units,
    dropout_probability,
)
from sleeptools.models.layers.native_training import (
    to_float32,
    training_precision,
    trains_native,
    trains_on_tensor_cores,
)
from sleeptools.models.layers.stacking import next_seed
from sleeptools.models.ops.attention import attention
from sleeptools.models.ops.feed_forward import feed_forward


class PrintedEncoderLayer(nn.Module):
    """An encoder layer that normalises last, its attention as MMASleepNet's paper writes it.

    `nn.TransformerEncoderLayer`, batch first, but for what the scores are divided by (Eq. 7) and
    for the heads' projection, without which they are only joined (Eq. 8). Initial weights are
    PyTorch's.

    Parameters
    ----------
    width, heads, hidden
        Width of a token, attention heads, and units of the feed-forward.
    divisor
        What the products of queries and keys are divided by.
    projection
        Whether a linear layer follows the joined heads.
    dropout
        Dropout probability of the attention's weights and of each part's output.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        divisor: float,
        projection: bool,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.heads, self.divisor = heads, divisor
        self.project = nn.Linear(width, 3 * width)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.out = nn.Linear(width, width) if projection else nn.Identity()
        if isinstance(self.out, nn.Linear):
            nn.init.zeros_(self.out.bias)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        """(B, T, D) to the same."""
        z = self.norm1(z + self.dropout(self.attend(z)))
        changed = self.linear2(self.dropout(functional.relu(self.linear1(z))))
        out: Tensor = self.norm2(z + self.dropout(changed))
        return out

    def attend(self, z: Tensor) -> Tensor:
        """Let the tokens attend to each other: (B, T, D) to the same."""
        qkv = self.project(z).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads)
        weights = self.dropout((q @ k.mT / self.divisor).softmax(-1))  # (B, heads, T, T)
        attended: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return attended


def encode(layer: nn.TransformerEncoderLayer | PrintedEncoderLayer, z: Tensor) -> Tensor:
    """Run a layer (batch first, norm last, ReLU): (B, T, D) to the same."""
    is_native = trains_native(z)
    if isinstance(layer, PrintedEncoderLayer) or not (is_native or layer.training):
        encoded: Tensor = layer(z)
        return encoded
    z = _attend(layer, to_float32(z)) if is_native else _attend_in_torch(layer, z)
    rows, p = z.flatten(0, 1), dropout_probability(layer.dropout)
    if is_native or trains_on_tensor_cores(rows):
        weights = layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias
        rows = to_float32(rows)
        changed = feed_forward(rows, *weights, training_precision(), dropout=p, seed=draw_seed(p))
    else:
        changed = layer.linear2(drop_units(functional.relu(layer.linear1(rows)), p))
    out: Tensor = layer.norm2(z + drop(changed.view_as(z), dropout_probability(layer.dropout2)))
    return out


def _attend(layer: nn.TransformerEncoderLayer, z: Tensor) -> Tensor:
    """Self-attention, the residual and its LayerNorm: (B, T, D) to the same."""
    inner, norm, p = layer.self_attn, layer.norm1, dropout_probability(layer.dropout1)
    assert inner.in_proj_weight is not None
    project, out = (inner.in_proj_weight, inner.in_proj_bias), inner.out_proj
    weights = *project, out.weight, out.bias, norm.weight, norm.bias
    precision = training_precision()
    seed = draw_seed(p, 2)  # of the weights, and of what is added
    return attention(z, *weights, inner.num_heads, norm.eps, precision, p, seed)


def _attend_in_torch(layer: nn.TransformerEncoderLayer, z: Tensor) -> Tensor:
    """As `_attend` in training, in plain PyTorch."""
    inner, norm, p = layer.self_attn, layer.norm1, dropout_probability(layer.dropout1)
    seed = next_seed(2) if p > 0 else None
    batch, tokens, width = z.shape
    qkv = functional.linear(z, inner.in_proj_weight, inner.in_proj_bias)
    qkv = qkv.view(batch, tokens, 3, inner.num_heads, -1)
    q, k, v = (t.flatten(0, 1) for t in qkv.permute(2, 0, 3, 1, 4))  # (B heads, T, D / heads)
    weights = ((width // inner.num_heads) ** -0.5 * q @ k.mT).softmax(2)  # (B heads, T, T)
    mixed = drop(weights, p, seed) @ v  # (B heads, T, D / heads)
    mixed = mixed.view(batch, inner.num_heads, tokens, -1).transpose(1, 2).flatten(2)  # (B, T, D)
    added: Tensor = norm(z + drop(inner.out_proj(mixed), p, seed and seed.following(1)))
    return added
