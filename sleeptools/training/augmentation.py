"""Augmentation of training epochs: the random draws of an epoch and what they do to its signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.native import Floats


class Drawn(NamedTuple):
    """What one epoch gets: gains (C, 1 or T), a shift in samples, noise (C, T or 0)."""

    gains: Floats
    shift: int
    noise: Floats


def augment(
    x: Tensor, numbers: npt.NDArray[np.int64], how: Augmentation, seeds: Sequence[int]
) -> Tensor:
    """Change the epochs of a batch.

    Parameters
    ----------
    x
        (..., C, T) float32.
    numbers
        (...), of each epoch in its set.
    how
        What to do.
    seeds
        Of the training and of the pass.

    Returns
    -------
    changed
        As `x`.
    """
    if how.nothing:
        return x
    y = x.flatten(0, -3)  # (B, C, T)
    channels, samples = y.shape[1:]
    if how.interleaved:
        y = y.reshape(-1, samples, channels).transpose(1, 2)
    each = [draw_augmentation([*seeds, int(n)], how, channels, samples) for n in numbers.ravel()]
    gains, shifts, noise = (
        torch.from_numpy(np.stack(part)).to(x.device) for part in zip(*each, strict=True)
    )
    y = y * gains
    if how.noise:
        y = y + how.noise * y.std(2, keepdim=True) * noise
    if how.shift:
        place = (torch.arange(samples, device=x.device) - shifts[:, None]) % samples  # (B, T)
        y = y.gather(2, place[:, None].expand_as(y))
    if how.interleaved:
        y = y.transpose(1, 2)
    return y.reshape(x.shape)


def draw_augmentation(
    seeds: Sequence[int], how: Augmentation, channels: int, samples: int
) -> Drawn:
    """Draw what one epoch gets."""
    rng = np.random.default_rng(list(seeds))
    widths = np.resize(how.gains or (0.0,), channels)
    widths[len(how.gains) :] = how.gains[-1] if how.gains else 0.0
    spread = rng.uniform(-1, 1, (channels, samples if how.per_sample else 1))
    furthest = round(how.shift * samples)
    return Drawn(
        (1 + widths[:, None] * spread).astype(np.float32),
        int(rng.integers(-furthest, furthest + 1)),
        rng.standard_normal((channels, samples if how.noise else 0), np.float32),
    )
