"""The loss over stages, the optimiser of a recipe, and its learning rate at every step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models.recipe import schedule
from sleeptools.models.recipe.recipe import Loss, Recipe
from sleeptools.recording.stages import UNSCORED


def stage_loss(logits: Tensor, stages: Tensor, weights: Tensor | None, kind: Loss) -> Tensor:
    """Loss of one batch.

    Parameters
    ----------
    logits
        (B, S) float32.
    stages
        (B,) int64, index of the scored stage; -1 does not count.
    weights
        (S,) float32 or None.
    kind
        As in `Recipe`.

    Returns
    -------
    loss
        Scalar.
    """
    if kind == "softmax_ce":
        logits = logits.softmax(1)
    if kind == "weighted_ce_n":
        total = functional.cross_entropy(
            logits, stages, weights, ignore_index=UNSCORED, reduction="sum"
        )
        return total / (stages != UNSCORED).sum()
    return functional.cross_entropy(logits, stages, weights, ignore_index=UNSCORED)


def make_optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe; fused, which is many times faster and as deterministic."""
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(
        parameters,
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        amsgrad=recipe.amsgrad,
        fused=True,
    )


def adjust_optimiser(
    optimiser: torch.optim.Optimizer, recipe: Recipe, position: schedule.Position
) -> None:
    """Set the learning rate and momentum of the next update by the recipe's schedule."""
    factor, momentum = schedule.rate_at(recipe.schedule, position)
    for group in optimiser.param_groups:
        group["lr"] = factor * recipe.learning_rate
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, recipe.betas[1])
        elif momentum is not None:
            group["momentum"] = momentum
