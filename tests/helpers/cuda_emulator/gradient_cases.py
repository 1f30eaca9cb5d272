"""Gradients on the emulated device: an op's backward pass as autograd calls it, on a CUDA tensor.

PyTorch's autograd has no device thread for a device that is none, so a case calls the two functions
that the op registered, with a context of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cuda_emulator.cases import HOST, Case, drawn_conv_block, edge_size, with_nan
from sleeptools import registry

CANCELLED = 0.1  # no gradient is asked for more exactly than one whose largest number is this
BF16_GRADIENT = 4e-3  # of the largest number of a gradient: a step of bfloat16


class Context:
    """What autograd hands from the forward to the backward pass."""

    saved_tensors: tuple[Tensor | None, ...]
    needs_input_grad: tuple[bool, ...]
    settings: list[Any]

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say what has no gradient."""

    def set_materialize_grads(self, materialized: bool) -> None:
        """Say whether a gradient that is not there is zeros."""


@dataclass(frozen=True)
class GradientCase(Case):
    """The gradients of an op; the last argument is that of its output."""

    def run(self, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
        """Compute the gradients of all tensors, in their order."""
        *inputs, grad = arguments
        context = Context()
        context.needs_input_grad = tuple(isinstance(a, Tensor) for a in inputs)
        with torch.no_grad():
            self.module._setup_context(context, tuple(inputs), self.output(inputs))
            gradients = self.module._backward(context, grad)
        return tuple(g for g in gradients if g is not None)

    def bounds(self, expected: Tensor) -> dict[str, float]:
        """Allow rounding where the terms of a sum cancel each other."""
        bounds = super().bounds(expected)
        return bounds | {"atol": max(bounds["atol"], self.of_largest * CANCELLED)}

    def output(self, inputs: Sequence[Any]) -> Any:
        """Run the op, if its backward pass keeps results; here it does not."""

    def expected(self) -> tuple[Tensor, ...]:
        """Differentiate the reference in double precision."""
        doubled = [
            a.double().requires_grad_() if isinstance(a, Tensor) else a for a in self.arguments[:-1]
        ]
        tensors = [a for a in doubled if isinstance(a, Tensor)]
        out = self.module.reference(*doubled)
        return _floats(torch.autograd.grad(out, tensors, self.arguments[-1].double()))


class FeedForwardGradients(GradientCase):
    """Rounds where the op says so."""

    def expected(self) -> tuple[Tensor, ...]:
        """Compute the gradients as the op does in PyTorch, in double precision."""
        x, w1, b1, w2, _, *settings, grad = self.arguments
        tensors = (t.double() for t in (grad, x, w1, b1, w2))
        return _floats((*self.module._gradients(*tensors, *settings), grad.sum(0)))


class ConvBlockGradients(GradientCase):
    """Keeps the convolution and the statistics of the batch."""

    def output(self, inputs: Sequence[Any]) -> Any:
        """Run the op."""
        return self.module._operator(*inputs)


def _floats(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(t.float() for t in tensors)


def feed_forward_gradients(
    rng: random.Random, generator: torch.Generator, sizes: tuple[int, int, int, float] | None = None
) -> Iterator[FeedForwardGradients]:
    """Draw a case, or one of the sizes given: rows, width, hidden and dropout."""
    from sleeptools.models.ops import feed_forward

    if sizes is None:
        dropout = rng.choice((0.0, 0.1, 0.5))
        sizes = edge_size(rng, 70), edge_size(rng, 128), edge_size(rng, 200), dropout
    x, *others = feed_forward._example(generator, HOST, *sizes)
    others[4] = "bf16"
    grad = torch.randn(x.shape, generator=generator)
    arguments = (x, *others, grad)
    yield FeedForwardGradients("feed-forward", arguments, {}, " gradients", BF16_GRADIENT)


CONV_BLOCK_GRADIENT = 1e-5  # of the largest number of a gradient in float32


def conv_block_gradients(
    rng: random.Random, generator: torch.Generator, example: Sequence[Any] | None = None
) -> Iterator[ConvBlockGradients]:
    """Draw a case in both precisions, or those of an example."""
    from sleeptools.models.ops import conv_block

    arguments = list(example or drawn_conv_block(rng, generator))
    out = conv_block.reference(*arguments)
    arguments += [None] * (13 - len(arguments))
    grad = torch.randn(out.shape, generator=generator)
    for precision, bound in (("fp32", CONV_BLOCK_GRADIENT), ("bf16", BF16_GRADIENT)):
        arguments[10] = precision
        yield ConvBlockGradients("conv-block", (*arguments, grad), {}, " gradients", bound)


def gradient_examples(op: str) -> Iterator[GradientCase]:
    """Give the gradients of an op at sizes that reach every part of its kernels."""
    rng, generator = random.Random(op), torch.Generator().manual_seed(2)
    cases: list[GradientCase] = []
    if op == "feed-forward":
        sizes = [(70, 96, 130, 0.1), (33, 128, 65, 0.5), (0, 8, 8, 0.1), (530, 8, 9, 0.3)]
        for size in [*sizes, (3, 8, 0, 0.1), (17, 16, 24, 0.0)]:
            cases += feed_forward_gradients(rng, generator, size)
    if op == "conv-block":
        module = registry.load("ops", op)
        whole_and_one = (3, 11, 2, 3, 1), [1, 0, 1, 1, 0], "relu", 0.0, 0.0  # 33 rows
        wide = (2, 9, 33, 8, 2), [4, 0, 1, 1, 0], "relu", 0.0, 0.0  # 132 inputs of a stride
        odd = [module._example(generator, HOST, *size) for size in (whole_and_one, wide)]
        for example in [*odd, *module.examples("cpu", batch=1)]:
            if len(example[0]):
                cases += conv_block_gradients(rng, generator, example)
    yield from cases
    for case in cases[-1:]:
        x, *others = case.arguments
        yield replace(case, arguments=(with_nan(x), *others), label=" gradients with a NaN")


def random_gradients(op: str, seed: object, count: int) -> Iterator[GradientCase]:
    """Draw gradients of an op with odd sizes."""
    rng = random.Random(f"{op} {seed} gradients")
    for _ in range(count if op in DRAWN_GRADIENTS else 0):
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        yield from DRAWN_GRADIENTS[op](rng, generator)


DRAWN_GRADIENTS: dict[str, Callable[[random.Random, torch.Generator], Iterator[GradientCase]]] = {
    "conv-block": conv_block_gradients,
    "feed-forward": feed_forward_gradients,
}
"""The ops whose gradients have a CUDA kernel."""
