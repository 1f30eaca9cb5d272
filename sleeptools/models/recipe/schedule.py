"""Schedules of the learning rate: named functions of the step and of the losses of the passes.

Everything they depend on is in a training's checkpoint, so a continued training has the rates of
one without a break.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

WARM_UP, START, END = 0.3, 1 / 25, 1 / 250_000  # of one_cycle: PyTorch's defaults
MOMENTA = (0.95, 0.85)  # of one_cycle: at its ends, and where the rate is highest
LEAST_FALL = 1e-4  # of plateau: a smaller fall of the loss does not count; Keras's default


class Schedule(BaseModel):
    """How the learning rate changes.

    Parameters
    ----------
    kind
        `constant`;
        `drop`: times `factor` once, after so many `passes`;
        `plateau`: times `factor` whenever the mean loss of a pass has not fallen by 1e-4 for so
        many `passes`, as Keras's ReduceLROnPlateau;
        `cosine_restarts`: down to nothing along half a cosine in so many `steps`, then from the
        recipe's rate again in `growth` times as many, as Keras's CosineDecayRestarts;
        `one_cycle`: up to the recipe's rate in the first 30 % of the steps and down to nearly
        nothing, the momentum the other way; every step, as PyTorch's OneCycleLR.
    passes
        Passes before a fall of `drop` or `plateau`.
    factor
        Factor of the rate at a fall of `drop` or `plateau`.
    steps
        Length of the first descent of `cosine_restarts`, in updates.
    growth
        Length of each further descent of `cosine_restarts`, relative to the one before.
    lowest
        Lowest rate of `plateau`, as a fraction of the recipe's rate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["constant", "drop", "plateau", "cosine_restarts", "one_cycle"] = "constant"
    passes: int = Field(default=10, ge=1)
    factor: float = Field(default=0.1, gt=0, lt=1)
    steps: int = Field(default=10, ge=1)
    growth: float = Field(default=2.0, gt=1)
    lowest: float = Field(default=0.0, ge=0, lt=1)

    @property
    def depends_on_passes(self) -> bool:
        """Whether a rate follows from the number of all passes, so that none can be added later."""
        return self.kind == "one_cycle"


class Position(NamedTuple):
    """Position in a training.

    Parameters
    ----------
    step, steps
        Number of updates done, and of all updates of the training.
    losses
        Mean training loss of each finished pass.
    """

    step: int
    steps: int
    losses: Sequence[float]


class Rate(NamedTuple):
    """Factor of the recipe's learning rate, and the momentum (of Adam, beta 1) where it changes."""

    factor: float
    momentum: float | None = None


def rate_at(schedule: Schedule, position: Position) -> Rate:
    """Compute the learning rate and the momentum of the next update."""
    return KINDS[schedule.kind](schedule, position)


def _constant(schedule: Schedule, position: Position) -> Rate:
    return Rate(1.0)


def _drop(schedule: Schedule, position: Position) -> Rate:
    return Rate(schedule.factor if len(position.losses) >= schedule.passes else 1.0)


def _plateau(schedule: Schedule, position: Position) -> Rate:
    factor, best, waited = 1.0, math.inf, 0
    for loss in position.losses:
        waited += 1
        if loss < best - LEAST_FALL:
            best, waited = loss, 0
        if waited == schedule.passes:
            factor, waited = max(factor * schedule.factor, schedule.lowest), 0
    return Rate(factor)


def _cosine_restarts(schedule: Schedule, position: Position) -> Rate:
    done, length = 0.0, float(schedule.steps)
    while position.step >= done + length:
        done, length = done + length, length * schedule.growth
    return Rate(_cosine(1.0, 0.0, (position.step - done) / length))


def _one_cycle(schedule: Schedule, position: Position) -> Rate:
    top, last = WARM_UP * position.steps - 1, position.steps - 1
    ends, middle = MOMENTA
    if position.step <= top:
        progress = position.step / top
        return Rate(_cosine(START, 1.0, progress), _cosine(ends, middle, progress))
    progress = (position.step - top) / (last - top)
    return Rate(_cosine(1.0, END, progress), _cosine(middle, ends, progress))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


KINDS: dict[str, Callable[[Schedule, Position], Rate]] = {
    "constant": _constant,
    "drop": _drop,
    "plateau": _plateau,
    "cosine_restarts": _cosine_restarts,
    "one_cycle": _one_cycle,
}
