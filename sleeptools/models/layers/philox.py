"""Philox 4x32-10 in PyTorch: the specification of the random words of csrc/cpu/philox.h.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A word depends
on the seed and its place alone, so every device and any order of work draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sleeptools.native.dropout import drop_below

_WORD = 0xFFFFFFFF
_FACTORS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def keep(
    tokens: int, units: int, drop_below: int, seed: int | Tensor, device: torch.device
) -> Tensor:
    """Which units of which tokens dropout keeps.

    Parameters
    ----------
    tokens, units
        Shape of the layer.
    drop_below
        Units whose random word is below it are dropped; the probability times 2^32.
    seed
        0 to 2^63 - 1, or (K, 1, 1) int64 of several.
    device
        Device of the result.

    Returns
    -------
    Tensor
        (tokens, units), or (K, tokens, units), bool. Word u % 4 of the counter (u / 4, token, 0,
        0) decides about unit u.
    """
    group = torch.arange((units + 3) // 4, device=device).expand(tokens, -1)  # (tokens, groups)
    token = torch.arange(tokens, device=device)[:, None].expand_as(group)
    words = philox((group, token, torch.zeros_like(group), torch.zeros_like(group)), seed)
    return torch.stack(words, -1).flatten(-2)[..., :units] >= drop_below


def mask(size: Sequence[int], dropout: float, seed: int | Tensor, like: Tensor) -> Tensor:
    """Draw the factors by which dropout multiplies maps: 0 or 1 / (1 - dropout).

    Parameters
    ----------
    size
        (batch, steps, maps).
    dropout
        Probability of a zero.
    seed
        0 to 2^63 - 1, or (K, 1, 1, 1) int64 of several.
    like
        Tells type and device of the result.

    Returns
    -------
    Tensor
        The factors, of each seed: word t % 4 of the counter (map, t / 4, epoch, 0) decides about
        step t.
    """
    batch, steps, maps = size
    epoch, group, map_ = torch.meshgrid(
        *(torch.arange(n, device=like.device) for n in (batch, (steps + 3) // 4, maps)),
        indexing="ij",
    )
    words = philox((map_, group, epoch, torch.zeros_like(map_)), seed)  # (batch, groups, maps)
    keep = torch.stack(words, -2).flatten(-3, -2)[..., :steps, :] >= drop_below(dropout)
    return keep.to(like.dtype) / (1 - dropout)


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words for each counter; 32-bit numbers held in int64."""
    c0, c1, c2, c3 = counter
    key0, key1 = seed & _WORD, seed >> 32
    for _ in range(_ROUNDS):
        # The products overflow int64, but their bits are right.
        first, second = c0 * _FACTORS[0], c2 * _FACTORS[1]
        c0, c1 = ((second >> 32) & _WORD) ^ c1 ^ key0, second & _WORD
        c2, c3 = ((first >> 32) & _WORD) ^ c3 ^ key1, first & _WORD
        key0, key1 = (key0 + _KEY_STEPS[0]) & _WORD, (key1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3
