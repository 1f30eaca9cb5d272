"""Weights, statistics and moments of several trainings, with a leading axis of trainings.

The tensors of each training's model and optimiser become views of these: what changes here changes
there, and a checkpoint is written from a training alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sleeptools.models.recipe.recipe import Recipe
from sleeptools.training.checkpoint import State
from sleeptools.training.optimisation import moment_names, update_stacked

ALIGNMENT: Final = 64
"""Numbers by whose multiples a weight begins, so that kernels can read it in wide words."""


class StackedState:
    """What the steps of some trainings change.

    Parameters
    ----------
    states
        K states, of models and optimisers that are alike; on one device.
    recipe
        Their recipe.
    """

    def __init__(self, states: Sequence[State], recipe: Recipe) -> None:
        self.recipe = recipe
        self.models = [state.model for state in states]
        self.trained = [[p for p in model.parameters() if p.requires_grad] for model in self.models]
        count, like = len(states), self.trained[0][0]
        sizes = [p.numel() for p in self.trained[0]]
        self.paddings = [-size % ALIGNMENT for size in sizes]
        ends = accumulate(a + b for a, b in zip(sizes, self.paddings, strict=True))
        starts = [0, *ends]
        self.places = [slice(a, a + n) for a, n in zip(starts, sizes, strict=False)]
        self.weights = like.new_zeros(count, starts[-1])  # (K, all weights, each padded)
        self.moments = {name: torch.zeros_like(self.weights) for name in moment_names(recipe)}
        self.counts = like.new_zeros(count, len(sizes), dtype=torch.float32)  # updates
        self.decay: Tensor | None = None
        if recipe.weight_decay:
            self.decay = like.new_full((starts[-1],), recipe.weight_decay)
        self.zeros = like.new_zeros(count, ALIGNMENT)
        for row, state in enumerate(states):
            self._take_over(row, state)
        self.parameters = self._leaves()
        self.buffers = self._stacked([dict(model.named_buffers()) for model in self.models])

    def _take_over(self, row: int, state: State) -> None:
        """Move the trained weights of a training here, and the moments of its optimiser."""
        for index, (weight, span) in enumerate(zip(self.trained[row], self.places, strict=True)):
            held = state.optimiser.state[weight]
            for name, moment in self.moments.items():
                held[name] = moved(held.get(name), moment[row, span].view_as(weight))
            if self.recipe.optimiser == "adam":
                held["step"] = moved(held.get("step"), self.counts[row, index])
            weight.data = moved(weight.detach(), self.weights[row, span].view_as(weight))
            weight.grad = None

    def _leaves(self) -> dict[str, Tensor]:
        """Give all parameters by name, (K, ...); those that are trained get gradients."""
        named = [dict(model.named_parameters()) for model in self.models]
        frozen = self._stacked(
            [{n: p for n, p in of.items() if not p.requires_grad} for of in named]
        )
        names = [name for name, p in named[0].items() if p.requires_grad]
        count = len(self.models)
        leaves = {
            name: self.weights[:, span].view(count, *named[0][name].shape).detach()
            for name, span in zip(names, self.places, strict=True)
        }
        return {name: leaf.requires_grad_() for name, leaf in leaves.items()} | frozen

    def _stacked(self, named: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Stack tensors of one name, and make them views of the stack."""
        stacks: dict[str, Tensor] = {}
        for name in named[0]:
            stacks[name] = torch.stack([tensors[name].detach() for tensors in named])
            for row, tensors in enumerate(named):
                tensors[name].data = stacks[name][row]
        return stacks

    def learn(self, factors: Tensor) -> None:
        """Change the weights of all by the gradients of `parameters`, which are let go.

        Parameters
        ----------
        factors
            (K, 3), of each as `optimisation.step_factors` gives them.
        """
        leaves = [leaf for leaf in self.parameters.values() if leaf.requires_grad]
        self._update(slice(0, len(self.models)), leaves, factors)

    def learn_alone(self, row: int, factors: Tensor) -> None:
        """Change the weights of one by the gradients of its model, with factors (1, 3)."""
        self._update(slice(row, row + 1), self.trained[row], factors)

    def _update(self, rows: slice, leaves: Sequence[Tensor], factors: Tensor) -> None:
        update_stacked(
            self.recipe,
            self.weights[rows],
            [moment[rows] for moment in self.moments.values()],
            self._gradient(rows, leaves),
            self.decay,
            factors,
        )

    def _gradient(self, rows: slice, leaves: Sequence[Tensor]) -> Tensor:
        """Join gradients, of one training or more, in the order of the weights: (K, weights)."""
        zeros, pieces = self.zeros[rows], []
        for leaf, span, padding in zip(leaves, self.places, self.paddings, strict=True):
            grad, leaf.grad = leaf.grad, None
            if grad is None:  # PyTorch's optimisers leave such a weight alone
                grad = zeros.new_zeros(len(zeros), span.stop - span.start)
                if self.decay is not None:
                    self.decay[span] = 0.0
            pieces += [grad.reshape(len(zeros), -1), zeros[:, :padding]]
        return torch.cat([piece for piece in pieces if piece.numel()], 1)

    def publish(self, row: int, updates: int) -> None:
        """Tell PyTorch that the tensors of a training have changed, and after how many updates.

        What is computed from them once, as folded weights, is computed anew.
        """
        self.counts[row].fill_(updates)
        model = self.models[row]
        increment_version([*model.parameters(), *model.buffers()])


@torch.no_grad()
def moved(tensor: Tensor | None, storage: Tensor) -> Tensor:
    """Copy a tensor, if there is one, to its new place; give that."""
    return storage if tensor is None else storage.copy_(tensor)
