"""Random changes of training epochs: gains, a shift in time, noise, modalities left out.

What an epoch gets depends on the training's seeds, the pass and the epoch's number, not on its
place in a batch, so that a continued training sees the same as one without a break.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """Random changes of a training epoch; none by default.

    Parameters
    ----------
    gains
        Each channel is multiplied by a random number from 1 - gain to 1 + gain; one gain for each
        channel, the last also for all channels after it.
    per_sample
        Draw a number for every sample instead of one for the epoch.
    shift
        Largest circular shift in time, alike in all channels, as a fraction of the epoch.
    noise
        Standard deviation of added Gaussian noise, as a fraction of the channel's in the epoch.
    cached
        Every pass gets the changes of the first, as in the SlumberNet authors' program.
    interleaved
        Act on every second sample of both signals laid end to end as if it were a channel: what
        that program does after its reshape (`layout = "authors"`).
    gain_factor
        Each channel of what the model takes at once is multiplied by one number between 1 /
        gain_factor and gain_factor, uniform on a logarithmic scale: amplifiers of any gain.
    modality_dropout
        Probability that all channels of a modality are zero in what the model takes at once;
        one modality is always left. A model so trained can score without a modality.
    always
        Modalities that are never zero, for example "eeg", where no night lacks them: the model then
        learns nothing of nights without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gains: tuple[Width, ...] = ()
    per_sample: bool = False
    shift: Width = 0.0
    noise: float = Field(default=0.0, ge=0)
    cached: bool = False
    interleaved: bool = False
    gain_factor: float = Field(default=1.0, ge=1, le=1000)
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    always: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether `gains`, `shift` and `noise` leave epochs as they are."""
        return not (any(self.gains) or self.shift or self.noise)

    @property
    def montage(self) -> dict[str, Any]:
        """What it does to a montage, for a model's facts; empty if nothing."""
        values = {"gain_factor": self.gain_factor, "modality_dropout": self.modality_dropout}
        if values == {"gain_factor": 1, "modality_dropout": 0}:
            return {}
        return values | ({"always": [*self.always]} if self.always else {})
