"""Spectral: levels of one EEG lead's bands over a night, to five stages; the shipped `default`.

Ours. Each 30-s epoch at 100 Hz becomes the levels of five bands (`recording.signals.band_levels`),
each of which is scaled to mean 0 and standard deviation 1 over the epochs of the sequence; their
differences, which a linear layer takes, are the slopes of the spectrum. A linear layer, a gated
recurrent unit that runs over the epochs both ways, and a linear layer give the stages; several such
members are a committee, whose mean logits count. Several leads are scored one by one.

The one that ships (inference/default_model) is trained on simulated nights alone, by
benches/train_spectral.py, and runs in NumPy (`inference.spectral`), over a night at once. `train`
trains the same network on your own epochs of one channel, over `sequence` epochs at a time; these
are all the night that it sees, so that they should be an hour or more.

Input is microvolts as recorded.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import HumanConfig
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.stacking import run_recurrent
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.recording.signals.band_levels import BANDS, HANN, PIECE, RATE

ABOUT = {
    "paper": "ours; `default` learnt from simulated nights only",
    "parameters": 13_349,
    "macs": 12_928,
    "montage": "any EEG lead, or several, each by itself; a night at once",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": [],
    "engine": "NumPy",
}

RECIPE = Recipe(
    passes=60,
    batch=16,
    learning_rate=6e-3,
    weight_decay=1e-4,
    schedule=Schedule(kind="one_cycle"),
)

FINE_TUNING = {"learning_rate": 3e-3}
"""Half of the recipe's rate: a night is one sequence or some, so that steps are few."""
GROUPS = {
    "encoder": ("members.*.enter", "members.*.recur"),
    "recurrent": ("members.*.recur",),
    "classifier": ("members.*.leave",),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanConfig):
    """Settings of `spectral`.

    Parameters
    ----------
    sequence
        Consecutive epochs that are scaled and scored together.
    width
        Features of an epoch after the first layer, and state of the recurrent unit each way.
    members
        Networks whose mean counts.
    dropout
        Dropout probability before and after the recurrent unit.
    """

    sequence: int = Field(default=240, ge=2, le=10_000)
    width: int = Field(default=32, ge=1, le=1024)
    members: int = Field(default=1, ge=1, le=16)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 1


def _hann(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # what is traced must not be kept
        return torch.as_tensor(HANN, device=x.device, dtype=x.dtype)
    return _hann_on(x.device, x.dtype)


@functools.cache
def _hann_on(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bring the window to a device once: in every step it would be a copy from the host."""
    with torch.inference_mode(False):  # or no gradient could go through it later
        return torch.as_tensor(HANN, device=device, dtype=dtype)


def describe(x: Tensor) -> Tensor:
    """(..., T) uV to (..., bands) dB, as `band_levels` does."""
    pieces = x.unfold(-1, PIECE, PIECE // 2)  # (..., pieces, PIECE)
    hann = _hann(x)
    spectra = torch.fft.rfft((pieces - pieces.mean(-1, keepdim=True)) * hann)
    density = 2 * spectra.abs().square().mean(-2) / (RATE * hann.square().sum())
    hertz = np.fft.rfftfreq(PIECE, 1 / RATE)
    halved = torch.ones(len(hertz), device=x.device, dtype=x.dtype)
    halved[-1] = 0.5  # half the rate has no negative frequency
    density = density * halved
    bands = [
        density[..., int(np.argmax(hertz >= low)) : int((hertz <= high).sum())].mean(-1)
        for low, high in BANDS.values()
    ]
    return 10 * (torch.stack(bands, -1) + 1e-6).log10()


class Member(nn.Module):
    """One network: scaled levels (B, epochs, bands) to logits (B, epochs, stages)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.enter = nn.Linear(len(BANDS), width)
        self.recur = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(3 * width, config.stages)
        self.dropout = Dropout(config.dropout)

    def forward(self, levels: Tensor) -> Tensor:
        """Score the epochs of a night, or of a part of one."""
        entered = self.dropout(functional.relu(self.enter(levels)))
        around = run_recurrent(self.recur, entered)
        logits: Tensor = self.leave(self.dropout(torch.cat([around, entered], -1)))
        return logits


class Model(nn.Module):
    """The committee; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))

    def forward(self, x: Tensor) -> Tensor:
        """Score (B, epochs, 1, 3000) uV: logits (B, epochs, stages)."""
        levels = describe(x[:, :, 0])  # (B, epochs, bands)
        spread, mean = torch.std_mean(levels, 1, correction=0, keepdim=True)
        return self.score((levels - mean) / (spread + 1e-6))

    def score(self, scaled: Tensor) -> Tensor:
        """Score scaled levels (B, epochs, bands): the mean of the members' logits."""
        return torch.stack([member(scaled) for member in self.members]).mean(0)
