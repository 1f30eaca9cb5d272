"""Learning rates over a training: named functions of the step and of the losses of the passes.

Everything they depend on is in a training's checkpoint anyway, so a continued training has the
rates of one without a break.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

WARM_UP, START, END = 0.3, 1 / 25, 1 / 250_000  # of one_cycle: PyTorch's defaults
MOMENTA = (0.95, 0.85)  # of one_cycle: at its ends, and where the rate is highest
NOTICED = 1e-4  # of plateau: a loss lower by less is none; Keras's default


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
        Of `drop` and `plateau`.
    factor
        Of `drop` and `plateau`.
    steps
        Of `cosine_restarts`: the first descent, in updates.
    growth
        Of `cosine_restarts`: how much longer each descent is than the one before.
    lowest
        Fraction of the recipe's rate under which `plateau` does not go.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["constant", "drop", "plateau", "cosine_restarts", "one_cycle"] = "constant"
    passes: int = Field(default=10, ge=1)
    factor: float = Field(default=0.1, gt=0, lt=1)
    steps: int = Field(default=10, ge=1)
    growth: float = Field(default=2.0, gt=1)
    lowest: float = Field(default=0.0, ge=0, lt=1)


class Place(NamedTuple):
    """Where a training stands.

    Parameters
    ----------
    step, steps
        Updates done, and in the whole training.
    losses
        Mean training loss of each finished pass.
    """

    step: int
    steps: int
    losses: Sequence[float]


class Setting(NamedTuple):
    """Factor of the recipe's learning rate, and the momentum (of Adam, beta 1) where it changes."""

    factor: float
    momentum: float | None = None


def setting(schedule: Schedule, place: Place) -> Setting:
    """Give what holds for the next update."""
    return KINDS[schedule.kind](schedule, place)


def _constant(schedule: Schedule, place: Place) -> Setting:
    return Setting(1.0)


def _drop(schedule: Schedule, place: Place) -> Setting:
    return Setting(schedule.factor if len(place.losses) >= schedule.passes else 1.0)


def _plateau(schedule: Schedule, place: Place) -> Setting:
    factor, best, waited = 1.0, math.inf, 0
    for loss in place.losses:
        waited += 1
        if loss < best - NOTICED:
            best, waited = loss, 0
        if waited == schedule.passes:
            factor, waited = max(factor * schedule.factor, schedule.lowest), 0
    return Setting(factor)


def _cosine_restarts(schedule: Schedule, place: Place) -> Setting:
    done, length = 0.0, float(schedule.steps)
    while place.step >= done + length:
        done, length = done + length, length * schedule.growth
    return Setting(_cosine(1.0, 0.0, (place.step - done) / length))


def _one_cycle(schedule: Schedule, place: Place) -> Setting:
    top, last = WARM_UP * place.steps - 1, place.steps - 1
    ends, middle = MOMENTA
    if place.step <= top:
        part = place.step / top
        return Setting(_cosine(START, 1.0, part), _cosine(ends, middle, part))
    part = (place.step - top) / (last - top)
    return Setting(_cosine(1.0, END, part), _cosine(middle, ends, part))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


KINDS: dict[str, Callable[[Schedule, Place], Setting]] = {
    "constant": _constant,
    "drop": _drop,
    "plateau": _plateau,
    "cosine_restarts": _cosine_restarts,
    "one_cycle": _one_cycle,
}
