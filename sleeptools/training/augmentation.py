"""Augmentation of training epochs: the random draws of an epoch and what they do to its signals.

Gains and noise are drawn for each epoch, what becomes of a montage for each sequence of epochs that
a model takes at once: an amplifier and its electrodes do not change from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.native import Floats

MONTAGE = 1
"""Last seed of the draws for a montage, so that they are others than those of an epoch."""


class Draw(NamedTuple):
    """Random draws for one epoch: gains (C, 1 or T), a shift in samples, noise (C, T or 0)."""

    gains: Floats
    shift: int
    noise: Floats


def augment(
    x: Tensor, numbers: npt.NDArray[np.int64], augmentation: Augmentation, seeds: Sequence[int]
) -> Tensor:
    """Change the epochs of a batch.

    Parameters
    ----------
    x
        (..., C, T) float32.
    numbers
        (...) index of each epoch within the set.
    how
        Augmentation of the recipe.
    seeds
        Seeds of the training and of the pass.

    Returns
    -------
    changed
        As `x`.
    """
    if augmentation.nothing:
        return x
    y = x.flatten(0, -3)  # (B, C, T)
    channels, samples = y.shape[1:]
    if augmentation.interleaved:
        y = y.reshape(-1, samples, channels).transpose(1, 2)
    draws = [
        draw_augmentation([*seeds, int(n)], augmentation, channels, samples)
        for n in numbers.ravel()
    ]
    gains, shifts, noise = (
        torch.from_numpy(np.stack(values)).to(x.device) for values in zip(*draws, strict=True)
    )
    y = y * gains
    if augmentation.noise:
        y = y + augmentation.noise * y.std(2, keepdim=True) * noise
    if augmentation.shift:
        index = (torch.arange(samples, device=x.device) - shifts[:, None]) % samples  # (B, T)
        y = y.gather(2, index[:, None].expand_as(y))
    if augmentation.interleaved:
        y = y.transpose(1, 2)
    return y.reshape(x.shape)


def draw_augmentation(
    seeds: Sequence[int], augmentation: Augmentation, channels: int, samples: int
) -> Draw:
    """Draw gains, shift and noise for one epoch."""
    rng = np.random.default_rng(list(seeds))
    widths = np.resize(augmentation.gains or (0.0,), channels)
    widths[len(augmentation.gains) :] = augmentation.gains[-1] if augmentation.gains else 0.0
    spread = rng.uniform(-1, 1, (channels, samples if augmentation.per_sample else 1))
    furthest = round(augmentation.shift * samples)
    return Draw(
        (1 + widths[:, None] * spread).astype(np.float32),
        int(rng.integers(-furthest, furthest + 1)),
        rng.standard_normal((channels, samples if augmentation.noise else 0), np.float32),
    )


def vary_montage(
    x: Tensor,
    numbers: npt.NDArray[np.int64],
    augmentation: Augmentation,
    seeds: Sequence[int],
    modalities: Sequence[str],
) -> Tensor:
    """Multiply channels by a gain, or modalities by zero, alike in all epochs of a sequence.

    Parameters
    ----------
    x
        (B, C, T) epochs or (B, L, C, T) sequences, float32.
    numbers
        (B,) or (B, L) index of each epoch within the set; the first of a sequence decides.
    augmentation
        Augmentation of the recipe.
    seeds
        Seeds of the training and of the pass.
    modalities
        Modality of each channel.

    Returns
    -------
    changed
        As `x`; the same tensor where nothing is to be changed.
    """
    if not augmentation.montage:
        return x
    factors = [
        draw_factors([*seeds, int(n), MONTAGE], augmentation, modalities)
        for n in numbers.reshape(len(x), -1)[:, 0]
    ]
    shape = (len(x), *(1,) * (x.ndim - 3), len(modalities), 1)
    return x * torch.from_numpy(np.stack(factors)).to(x.device).reshape(shape)


def draw_factors(
    seeds: Sequence[int], augmentation: Augmentation, modalities: Sequence[str]
) -> Floats:
    """Draw (C,) factors of the channels of one sequence; never all of them zero."""
    rng = np.random.default_rng(list(seeds))
    gains = augmentation.gain_factor ** rng.uniform(-1, 1, len(modalities))
    kinds = list(dict.fromkeys(modalities))
    dropped = rng.random(len(kinds)) < augmentation.modality_dropout
    dropped &= [kind not in augmentation.always for kind in kinds]
    if dropped.all():
        dropped[rng.integers(len(kinds))] = False
    silent = [dropped[kinds.index(modality)] for modality in modalities]
    return np.where(silent, 0, gains).astype(np.float32)
