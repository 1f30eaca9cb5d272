"""Random changes of training epochs: gains, a shift in time, noise.

What an epoch gets depends on the training's seeds, the pass and the epoch's number, not on its
place in a batch, so that a continued training sees the same as one without a break.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Width = Annotated[float, Field(ge=0, le=1)]
Floats = npt.NDArray[np.float32]


class Augmentation(BaseModel):
    """What is done to a training epoch; nothing by default.

    Parameters
    ----------
    gains
        A channel is multiplied by a number from 1 - gain to 1 + gain; one for each channel, the
        last also for further ones.
    per_sample
        A gain for every sample instead of one for the epoch.
    shift
        Largest circular shift in time, alike in all channels, as a fraction of the epoch.
    noise
        Standard deviation of added Gaussian noise, as a fraction of the channel's in the epoch.
    cached
        Every pass sees what the first saw, as in the SlumberNet authors' program.
    interleaved
        Act on every second sample of both signals laid end to end as if it were a channel: what
        that program does after its reshape (`layout = "authors"`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gains: tuple[Width, ...] = ()
    per_sample: bool = False
    shift: Width = 0.0
    noise: float = Field(default=0.0, ge=0)
    cached: bool = False
    interleaved: bool = False

    @property
    def nothing(self) -> bool:
        """Whether epochs stay as they are."""
        return not (any(self.gains) or self.shift or self.noise)


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
    each = [draw([*seeds, int(n)], how, channels, samples) for n in numbers.ravel()]
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


def draw(seeds: Sequence[int], how: Augmentation, channels: int, samples: int) -> Drawn:
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
