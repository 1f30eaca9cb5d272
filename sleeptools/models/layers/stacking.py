"""The networks of several tasks as one: `torch.func.vmap` over their weights and their inputs.

A model needs no change for it. What a layer does for each task apart, because PyTorch has no rule
for several, goes through `each_task`; what knows an axis of tasks itself through `all_tasks`.

Here are the seeds of dropout, too. Of a training's step there is one seed for each task, and the
layers count: the first that drops adds 0 to it, the next one 1, and so on, so that masks are the
same alone and stacked. The seeds of a step may be on the device, where a CUDA graph can hold them.
Philox has other numbers for neighbouring seeds as it has for any others (`layers.philox`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

LARGEST_SEED: Final = 2**62 - 1
"""Of a step: what the layers add stays below 2^63."""


class LayerSeed(NamedTuple):
    """Seed of a layer's dropout, as `ops.dropout` takes it.

    Parameters
    ----------
    seed
        0 to 2^63 - 1.
    tasks
        (K,) int64 on the device, each to be added to `seed`; None where that is all.
    """

    seed: int
    tasks: Tensor | None = None

    def following(self, count: int) -> LayerSeed:
        """Give the seed so many layers later."""
        return self._replace(seed=self.seed + count)


@dataclass
class _Step:
    """A training's step: its seed or seeds, and how many layers have drawn."""

    seeds: int | Tensor
    stacked: bool
    drawn: int = 0


_steps: list[_Step] = []  # the present one, if any


@contextlib.contextmanager
def step_seeds(seeds: int | Tensor, *, stacked: bool = False) -> Iterator[None]:
    """Draw the dropout of a training's step from its seed.

    Parameters
    ----------
    seeds
        0 to `LARGEST_SEED`; one number, or (K,) int64 on the device, of one task or of each stacked
        one.
    stacked
        Whether layers work for as many tasks as there are seeds, within a `vmap` over these.
    """
    _steps.append(_Step(seeds, stacked))
    try:
        yield
    finally:
        _steps.pop()


def is_stacked() -> bool:
    """Whether layers work for several tasks; native ops train one at a time."""
    return bool(_steps) and _steps[-1].stacked


def next_seed(layers: int = 1) -> LayerSeed:
    """Give the seed of the next layer that drops, and pass over those of some after it.

    Outside of a training's step it is drawn by PyTorch's generator on the CPU.
    """
    if not _steps:
        return LayerSeed(int(torch.randint(LARGEST_SEED, (), device="cpu")))
    step = _steps[-1]
    index, step.drawn = step.drawn, step.drawn + layers
    if isinstance(step.seeds, Tensor):
        return LayerSeed(index, step.seeds)
    return LayerSeed(step.seeds + index)


def each_task(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function for each task with what it has of some tensors.

    Parameters
    ----------
    function
        Takes the tensors of one task, and gives one tensor.
    tensors
        As a layer sees them: without an axis of tasks.
    """
    if not is_stacked():
        return function(*tensors)

    def run(*stacks: Tensor) -> Tensor:
        rows = zip(*[stack.unbind(0) for stack in stacks], strict=True)
        return torch.stack([function(*row) for row in rows])

    return all_tasks(run, *tensors)


def all_tasks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function with what all stacked tasks have of some tensors.

    Parameters
    ----------
    function
        Takes tensors with a leading axis of tasks, and gives one.
    tensors
        As a layer sees them: without that axis.
    """
    out: Tensor = _AllTasks.apply(function, *tensors)  # type: ignore[no-untyped-call]
    return out


class _AllTasks(torch.autograd.Function):
    """Has no gradient of its own: below `vmap`, that of the call is PyTorch's."""

    generate_vmap_rule = False

    @staticmethod
    def forward(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise AssertionError("outside of vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        raise AssertionError("outside of vmap")

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], function: Callable[..., Tensor], *tensors: Tensor
    ) -> tuple[Tensor, int]:
        stacks = [
            tensor.expand(info.batch_size, *tensor.shape)
            if axis is None
            else tensor.movedim(axis, 0)
            for tensor, axis in zip(tensors, in_dims[1:], strict=True)
        ]
        return function(*stacks), 0


def run_recurrent(layer: nn.LSTM | nn.GRU, x: Tensor) -> Tensor:
    """Run a recurrent layer, (B, steps, inputs) to (B, steps, outputs)."""
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, dict(zip(names, weights, strict=True)), (x,))[0]
        return out

    if is_stacked():
        return each_task(run, x, *layer.parameters())
    out: Tensor = layer(x)[0]
    return out
