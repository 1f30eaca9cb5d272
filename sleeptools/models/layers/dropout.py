"""Dropout in training: each mask a function of a seed and of an element's place in its layer.

The seeds come one after the other from PyTorch's generator on the CPU, which a training sets to its
seed, protocol, fold and step before every step, or from such a generator of each stacked task. So
a training has the same masks by native ops and without, on every device, alone and stacked.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from sleeptools.models.layers import philox
from sleeptools.models.layers.native_training import to_float32
from sleeptools.models.layers.stacking import TaskSeeds, each_task
from sleeptools.models.ops.dropout import dropout
from sleeptools.native.dropout import drop_below

FEATURES: Final = 2  # axes of a batch of features


def dropout_probability(layer: nn.Dropout) -> float:
    """Give the probability of a dropout layer, 0 outside training."""
    return layer.p if layer.training else 0.0


def draw_seed(p: float) -> int:
    """Draw the seed of a native op's dropout; 0 without a draw if nothing is dropped."""
    return TaskSeeds()[0] if p > 0 else 0


def drop(x: Tensor, p: float, seeds: TaskSeeds | None = None, index: int = 0) -> Tensor:
    """Set values to zero with a probability, and divide the others by 1 - p.

    Parameters
    ----------
    x
        (N, T, D).
    p
        Probability of a zero; 0 leaves `x` as it is.
    seeds
        The seeds of several layers; None for some of its own.
    index
        The layer among these: added to the seeds.
    """
    if p == 0:
        return x
    drawn = TaskSeeds() if seeds is None else seeds

    def run(task: int, x: Tensor) -> Tensor:
        return dropout(to_float32(x), p, drawn[task] + index).to(x.dtype)

    return each_task(run, x)


def drop_maps(x: Tensor, p: float, seeds: TaskSeeds | None = None, index: int = 0) -> Tensor:
    """As `drop`, of maps in the order (N, D, T): as the native convolution blocks, on (N, T, D)."""
    return drop(x.mT, p, seeds, index).mT if p > 0 else x


def drop_units(x: Tensor, p: float) -> Tensor:
    """As `drop`, of (N, units): the hidden layer of a feed-forward, as the native op draws it."""
    if p == 0:
        return x
    if x.is_cuda:  # one kernel for the largest layer of a network; the op trains on a CPU alone
        return drop(x[None], p)[0]
    seeds = TaskSeeds()

    def run(task: int, x: Tensor) -> Tensor:
        tokens, units = x.shape
        keep = philox.keep(tokens, units, drop_below(p), seeds[task], x.device)
        return x * (keep.to(x.dtype) / (1 - p))

    return each_task(run, x)


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
