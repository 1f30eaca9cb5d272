"""The contenders of benches/gpu.py: training steps and scoring on a device, ready to be timed.

Data lies on the device, as in a training whose set fits there. A contender with a CUDA graph holds
the whole step, optimiser included, in the trainer's way (`training.graph`); stacked trainings are
`torch.func` over the unchanged model. Seeds of dropout are on the device, and others in every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from instruments.timing import AbsentError
from sleeptools import native
from sleeptools.models.layers.stacking import step_seeds
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.native.devices import runs_kernels
from sleeptools.training.graph import CapturedWork
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import make_optimiser

LAYERS = 1000  # more than a network has, whose seeds follow each other


class Setup(NamedTuple):
    """A case of a contender.

    Parameters
    ----------
    network
        The model, on the device; each contender works on a copy.
    x, stages
        Inputs of a step, and a stage for each epoch that is scored.
    weights, recipe
        Class weights of the loss, and the recipe of the model.
    precision
        "fp32", "tf32" or "bf16"; the flags for the first two are set outside.
    rate
        Learning rate; 0 leaves the weights, and so the gradients, as they are.
    folds
        Trainings that a stacked contender has side by side.
    """

    network: nn.Module
    x: Tensor
    stages: Tensor
    weights: Tensor | None
    recipe: Recipe
    precision: str
    rate: float
    folds: int

    @property
    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        kind = self.x.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")


class Work(NamedTuple):
    """What is timed, how many inputs it takes, and its result: gradients or logits."""

    run: Callable[[], object]
    inputs: int
    result: Callable[[], Tensor]


def optimiser_of(parameters: list[Tensor], setup: Setup) -> torch.optim.Optimizer:
    """Make the recipe's optimiser, its rate on the device, where a graph can hold it."""
    optimiser = make_optimiser(parameters, setup.recipe)
    for group in optimiser.param_groups:
        group["lr"] = torch.tensor(setup.rate, device=setup.x.device)
        group["capturable"] = setup.x.is_cuda
    return optimiser


def training_step(setup: Setup, *, variant: str = "reference") -> Work:
    """Forward, loss, backward and optimiser, one operation after the other."""
    network = copy.deepcopy(setup.network).train()
    parameters = list(network.parameters())
    optimiser = optimiser_of(parameters, setup)
    seeds = torch.zeros(1, dtype=torch.int64, device=setup.x.device)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        seeds.add_(LAYERS)
        with native.using_variant(variant), step_seeds(seeds):
            with setup.autocast:
                logits = network(setup.x)
            logits = logits.flatten(0, -2).float()
            stage_loss(logits, setup.stages, setup.weights, setup.recipe.loss).backward()
        optimiser.step()

    return Work(run, len(setup.x), lambda: joined([p.grad for p in parameters]))


def stacked_step(setup: Setup) -> Work:
    """Make the steps of several trainings as one model with a leading axis of trainings."""
    networks = [copy.deepcopy(setup.network).train() for _ in range(setup.folds)]
    parameters, buffers = stack_module_state(networks)
    base = copy.deepcopy(networks[0]).to("meta")
    optimiser = optimiser_of(list(parameters.values()), setup)
    x, stages = (t.repeat(setup.folds, *[1] * t.dim()) for t in (setup.x, setup.stages))

    def loss(weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with setup.autocast:
            logits = functional_call(base, (weights, state), (x,))
        logits = logits.flatten(0, -2).float()
        return stage_loss(logits, y, setup.weights, setup.recipe.loss)

    losses = vmap(loss)
    seeds = torch.arange(setup.folds, device=setup.x.device) * LAYERS**2

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        seeds.add_(LAYERS)
        # PyTorch cannot stack its fused attention
        with sdpa_kernel(SDPBackend.MATH), step_seeds(seeds, stacked=True):
            losses(parameters, buffers, x, stages).sum().backward()
        optimiser.step()

    last = -1
    return Work(
        run,
        setup.folds * len(setup.x),
        lambda: joined([None if p.grad is None else p.grad[last] for p in parameters.values()]),
    )


def scoring(setup: Setup, *, variant: str = "reference") -> Work:
    """Score the inputs without gradients."""
    network = copy.deepcopy(setup.network).eval()
    kept: list[Tensor] = []

    def run() -> None:
        with native.using_variant(variant), torch.no_grad(), setup.autocast:
            kept[:] = [network(setup.x)]

    def logits() -> Tensor:
        return kept[0].float()

    return Work(run, len(setup.x), logits)


def graphed(make: Callable[[Setup], Work], setup: Setup) -> Work:
    """Hold the work of another contender in a CUDA graph."""
    if not setup.x.is_cuda:
        raise AbsentError("a CUDA graph needs a GPU")
    work = make(setup)
    return work._replace(run=CapturedWork(work.run))


def by_kernels(make: Callable[..., Work], setup: Setup) -> Work:
    """Use our kernels, where the model's GPU path has any."""
    variant = native.variants()[-1]
    with native.using_variant(variant):
        if variant == "reference" or (setup.x.is_cuda and not runs_kernels(setup.x.device.index)):
            raise AbsentError(native.describe())
    return make(setup, variant=variant)


def joined(gradients: list[Tensor | None]) -> Tensor:
    """Put gradients into one vector, on the host in double precision."""
    return torch.cat([g.flatten() for g in gradients if g is not None]).double().cpu()


TRAINING: dict[str, Callable[[Setup], Work]] = {
    "PyTorch eager": training_step,
    "+ CUDA graph": partial(graphed, training_step),
    "stacked by torch.func": stacked_step,
    "stacked + CUDA graph": partial(graphed, stacked_step),
    "our kernels": partial(by_kernels, training_step),
}
INFERENCE: dict[str, Callable[[Setup], Work]] = {
    "PyTorch eager": scoring,
    "+ CUDA graph": partial(graphed, scoring),
    "our kernels": partial(by_kernels, scoring),
}
