"""Dummy: one 30-s epoch of two channels at 100 Hz to five stages, by a linear layer."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from sleeptools.models.layers.config import HumanConfig
from sleeptools.models.recipe.recipe import Recipe

ABOUT = {
    "paper": "none",
    "parameters": 10_005,
    "macs": 10_000,
    "montage": "EEG, EEG",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": [],
}


class Config(HumanConfig):
    """Settings of the dummy: channels of the input."""

    channels: int = Field(default=2, ge=1, le=64)


RECIPE = Recipe(variant="default", passes=2, batch=16)
GROUPS = {"encoder": ("pool",), "classifier": ("linear",)}


class Model(nn.Module):
    """The dummy; see the head of the module."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.pool = nn.AvgPool1d(3)
        self.linear = nn.Linear(1000 * config.channels, config.stages)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, T) to logits (B, stages)."""
        return self.linear(self.pool(x).flatten(1))  # (B, C T / 3) -> (B, stages)
