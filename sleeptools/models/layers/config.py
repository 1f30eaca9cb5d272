"""Bases of the models' settings: human sleep at 100 Hz, and mouse sleep."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from sleeptools.preprocessing.sequences import InputSpan


def _within_channels(value: int, info: ValidationInfo) -> int:
    channels = info.data.get("channels", value + 1)
    if value >= channels:
        raise ValueError(f"expected 0 to {channels - 1}, the channels of the input")
    return value


ChannelIndex = Annotated[int, Field(ge=0), AfterValidator(_within_channels)]
"""Index of a channel of the input, below the setting `channels`, which comes before it."""


class ModelConfig(BaseModel):
    """Settings of a model; unknown ones are refused, and none changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def input_span(self) -> InputSpan:
        """Epochs that the model takes at once; from its settings `sequence` and `context`."""
        return InputSpan(getattr(self, "sequence", 1), getattr(self, "context", 0))


class HumanEpochs(ModelConfig):
    """Settings of a model of human sleep: 30-s epochs at 100 Hz."""

    @property
    def sample_rate(self) -> float:
        """Sample rate, Hz."""
        return 100.0

    @property
    def epoch_seconds(self) -> float:
        """Length of an epoch, s."""
        return 30.0


class HumanConfig(HumanEpochs):
    """Settings of a model of human sleep, with any number of stages.

    Parameters
    ----------
    stages
        Number of stages.
    """

    stages: int = Field(default=5, ge=2, le=16)


class MouseConfig(ModelConfig):
    """Settings of a model of mouse sleep; epochs and rates differ between laboratories.

    Parameters
    ----------
    stages
        Number of stages.
    channels
        Channels of the input.
    sample_rate
        Sample rate, Hz.
    epoch_seconds
        Length of an epoch, s.
    """

    stages: int = Field(default=3, ge=2, le=16)
    channels: int = Field(default=2, ge=1, le=64)
    sample_rate: float = Field(default=512.0, gt=0, le=10_000)
    epoch_seconds: float = Field(default=1.0, gt=0, le=60)

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return round(self.sample_rate * self.epoch_seconds)
