"""Dropout in training: each mask a function of a seed and of an element's place in its layer.

The seeds of a training's step are counted up from layer to layer (`layers.stacking`). So a training
has the same masks by native ops and without, on every device, alone and stacked.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from sleeptools.models.layers import philox
from sleeptools.models.layers.native_training import to_float32
from sleeptools.models.layers.stacking import LayerSeed, all_tasks, is_stacked, next_seed
from sleeptools.models.ops.dropout import dropout
from sleeptools.native.dropout import drop_below

FEATURES: Final = 2  # axes of a batch of features


def dropout_probability(layer: nn.Dropout) -> float:
    """Give the probability of a dropout layer, 0 outside training."""
    return layer.p if layer.training else 0.0


def draw_seed(p: float, layers: int = 1) -> int:
    """Draw the seed of a native op's dropout on the CPU, for some layers whose seeds follow it.

    0 without a draw if nothing is dropped.
    """
    if p == 0:
        return 0
    seed, tasks = next_seed(layers)
    return seed if tasks is None else seed + int(tasks)


def drop(x: Tensor, p: float, seed: LayerSeed | None = None) -> Tensor:
    """Set values to zero with a probability, and divide the others by 1 - p.

    Parameters
    ----------
    x
        (N, T, D).
    p
        Probability of a zero; 0 leaves `x` as it is.
    seed
        Seed of the layer; None for the next one.
    """
    if p == 0:
        return x
    number, tasks = next_seed() if seed is None else seed

    def run(stacks: Tensor) -> Tensor:  # (K, N, T, D)
        return dropout(stacks.flatten(0, 1), p, number, tasks).view_as(stacks)

    y = to_float32(x)
    return (all_tasks(run, y) if is_stacked() else dropout(y, p, number, tasks)).to(x.dtype)


def drop_maps(x: Tensor, p: float, seed: LayerSeed | None = None) -> Tensor:
    """As `drop`, of maps in the order (N, D, T): as the native convolution blocks, on (N, T, D)."""
    return drop(x.mT, p, seed).mT if p > 0 else x


def drop_units(x: Tensor, p: float) -> Tensor:
    """As `drop`, of (N, units): the hidden layer of a feed-forward, as the native op draws it."""
    if p == 0:
        return x
    if not x.is_cpu:  # one kernel for the largest layer of a network; the op trains on a CPU alone
        return drop(x[None], p)[0]
    number, tasks = next_seed()
    seed: int | Tensor = number if tasks is None else (tasks + number).view(-1, 1, 1)

    def run(stacks: Tensor) -> Tensor:  # (K, N, units)
        _, tokens, units = stacks.shape
        keep = philox.keep(tokens, units, drop_below(p), seed, x.device)
        return stacks * (keep.to(x.dtype) / (1 - p))

    return all_tasks(run, x) if is_stacked() else run(x[None])[0]


class Dropout(nn.Dropout):
    """Dropout of (B, D) or (B, T, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training; the identity otherwise."""
        p = dropout_probability(self)
        if p == 0:
            return x
        rows = x[None] if x.dim() == FEATURES else x.flatten(2)  # (1, B, D) or (B, T, D)
        return drop(rows, p).view_as(x)


class MapDropout(nn.Dropout):
    """Dropout of a convolution's maps, (B, maps, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training; the identity otherwise."""
        return drop_maps(x, dropout_probability(self))
