"""The optimiser of a recipe, and its learning rate and momentum at every step.

`update_stacked` is the same optimiser for several trainings, with a rate, a momentum and a number
of steps for each, all on the device: PyTorch's own take these from the host.
"""

from __future__ import annotations

import inspect
import math
from typing import Final, TypeVar

import torch
from torch import Tensor

from sleeptools.models.recipe import schedule
from sleeptools.models.recipe.recipe import Recipe

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """Derive an optimiser whose methods do not import PyTorch's compiler: 1.5 s at every start.

    PyTorch wraps them so that the compiler leaves them alone; nothing is compiled here.
    """
    methods = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("__")}
    plain = {
        name: inspect.unwrap(method)
        for name, method in methods.items()
        if inspect.isfunction(method) and hasattr(method, "__wrapped__")
    }
    if "step" in plain:
        plain["step"] = torch.no_grad()(plain["step"])
    derived: type[Kind] = type(kind.__name__, (kind,), plain)
    return derived


def make_optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe; fused, which is many times faster and as deterministic."""
    if recipe.optimiser == "sgd":
        return without_compiler(torch.optim.SGD)(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    return without_compiler(torch.optim.Adam)(
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


FACTORS: Final = 3
"""Numbers of a step that change from one to the next."""


def step_factors(recipe: Recipe, position: schedule.Position) -> list[float]:
    """Compute the numbers of an update that depend on its step.

    Returns
    -------
    factors
        With Adam: 1 - beta 1, the learning rate over 1 - beta 1 ** steps, and 1 over the root of
        1 - beta 2 ** steps. With SGD: momentum, learning rate, 0.
    """
    factor, momentum = schedule.rate_at(recipe.schedule, position)
    rate = factor * recipe.learning_rate
    if recipe.optimiser == "sgd":
        return [recipe.momentum if momentum is None else momentum, rate, 0.0]
    beta1, beta2 = recipe.betas
    beta1 = beta1 if momentum is None else momentum
    steps = position.step + 1
    return [1 - beta1, rate / (1 - beta1**steps), 1 / math.sqrt(1 - beta2**steps)]


def moment_names(recipe: Recipe) -> list[str]:
    """List what the optimiser keeps of each weight, by PyTorch's names."""
    if recipe.optimiser == "sgd":
        return ["momentum_buffer"]
    return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if recipe.amsgrad else [])]


@torch.no_grad()
def update_stacked(
    recipe: Recipe,
    weights: Tensor,
    moments: list[Tensor],
    gradient: Tensor,
    decay: Tensor | None,
    factors: Tensor,
) -> None:
    """Change the weights of some trainings by their gradients.

    Parameters
    ----------
    recipe
        Recipe of all.
    weights, moments, gradient
        (K, weights) each; moments in the order of `moment_names`.
    decay
        (weights,) weight decay; None for none.
    factors
        (K, 3), of each as `step_factors` gives them.
    """
    first, rate, third = factors.T[..., None]  # (K, 1) each
    if decay is not None:
        gradient = torch.addcmul(gradient, weights, decay)
    if recipe.optimiser == "sgd":
        (buffer,) = moments
        buffer.mul_(first).add_(gradient)
        weights.addcmul_(buffer, rate, value=-1)
        return
    mean, square, *largest = moments
    beta2 = recipe.betas[1]
    mean.lerp_(gradient, first)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    for maximum in largest:  # of amsgrad
        square = torch.maximum(maximum, square, out=maximum)
    size = square.sqrt().mul_(third).add_(recipe.eps)
    weights.addcdiv_(mean * rate, size, value=-1)
