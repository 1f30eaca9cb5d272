"""The networks of several tasks as one: `torch.func.vmap` over their weights and their inputs.

A model needs no change for it. What a layer does for each task apart, because the task has random
numbers of its own or PyTorch has no rule for several, goes through `each_task`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_generators: list[torch.Generator] = []  # one for each stacked task; none where one trains alone


@contextlib.contextmanager
def stacked(seeds: Sequence[int]) -> Iterator[None]:
    """Let layers work for as many tasks as there are seeds, within a `vmap` over these.

    Parameters
    ----------
    seeds
        What each task alone would give `torch.manual_seed` before the same step.
    """
    _generators[:] = [torch.Generator().manual_seed(seed) for seed in seeds]
    try:
        yield
    finally:
        _generators.clear()


def is_stacked() -> bool:
    """Whether layers work for several tasks; native ops train one at a time."""
    return bool(_generators)


class TaskSeeds(dict[int, int]):
    """A seed, 0 to 2^63 - 1, by the number of the task; 0 is the one that trains alone.

    Each is drawn when it is first needed, in what `each_task` calls: within `vmap` nothing can be.
    """

    def __missing__(self, task: int) -> int:
        generator = _generators[task] if _generators else torch.default_generator
        self[task] = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
        return self[task]


def each_task(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function for each task with what it has of some tensors.

    Parameters
    ----------
    function
        Takes the number of the task and its tensors, and gives one tensor.
    tensors
        As a layer sees them: without an axis of tasks.
    """
    if not _generators:
        return function(0, *tensors)
    out: Tensor = _EachTask.apply(function, *tensors)  # type: ignore[no-untyped-call]
    return out


class _EachTask(torch.autograd.Function):
    """Has no gradient of its own: below `vmap`, that of each task's call is PyTorch's."""

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
        rows = [
            [tensor] * info.batch_size if axis is None else tensor.unbind(axis)
            for tensor, axis in zip(tensors, in_dims[1:], strict=True)
        ]
        outs = [function(task, *row) for task, row in enumerate(zip(*rows, strict=True))]
        return torch.stack(outs), 0


def run_recurrent(layer: nn.LSTM | nn.GRU, x: Tensor) -> Tensor:
    """Run a recurrent layer, (B, steps, inputs) to (B, steps, outputs)."""
    names = [name for name, _ in layer.named_parameters()]

    def run(_: int, x: Tensor, *weights: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, dict(zip(names, weights, strict=True)), (x,))[0]
        return out

    if is_stacked():
        return each_task(run, x, *layer.parameters())
    out: Tensor = layer(x)[0]
    return out
