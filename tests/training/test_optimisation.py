"""Optimisers without PyTorch's compiler: the same steps, and nothing of it is loaded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from sleeptools.models.recipe.recipe import Recipe
from sleeptools.training.optimisation import make_optimiser

RECIPES = {
    "adam": Recipe(learning_rate=1e-2, weight_decay=1e-3),
    "amsgrad": Recipe(learning_rate=1e-2, amsgrad=True, eps=1e-7),
    "sgd": Recipe(learning_rate=1e-2, optimiser="sgd", momentum=0.9, weight_decay=1e-3),
}


def plain(parameters: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """Make PyTorch's own."""
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, fused=True, **settings)
    settings |= {"betas": recipe.betas, "eps": recipe.eps, "amsgrad": recipe.amsgrad}
    return torch.optim.Adam(parameters, fused=True, **settings)


def train(optimiser_of: Any, recipe: Recipe) -> list[torch.Tensor]:
    """Take ten steps, and ten more with an optimiser that continues from the first one's state."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2))
    x, state = torch.randn(10, 4, 7), None
    for _ in range(2):
        optimiser = optimiser_of(list(model.parameters()), recipe)
        if state is not None:
            optimiser.load_state_dict(state)
        for batch in x:
            optimiser.zero_grad()
            model(batch).square().sum().backward()
            optimiser.step()
        state = optimiser.state_dict()
    assert state is not None
    moments = [value for entry in state["state"].values() for value in entry.values()]
    return [*(p.detach() for p in model.parameters()), *moments]


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_those_of_pytorch(name: str) -> None:
    ours, theirs = train(make_optimiser, RECIPES[name]), train(plain, RECIPES[name])
    assert len(ours) == len(theirs) > 4
    assert all(map(torch.equal, ours, theirs))


def test_the_compiler_is_not_loaded() -> None:
    code = """
import sys, torch
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.training.optimisation import make_optimiser
weight = torch.nn.Parameter(torch.ones(3))
optimiser = make_optimiser([weight], Recipe())
optimiser.zero_grad()
weight.sum().backward()
optimiser.step()
optimiser.load_state_dict(optimiser.state_dict())
print("torch._dynamo" in sys.modules, weight.requires_grad, bool((weight < 1).all()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True True\n"
