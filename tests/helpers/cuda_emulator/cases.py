"""What the CUDA ops are tried with: the examples of the CPU sweep, and random sizes beside them.

Random sizes lie around those of warps, tiles and panels, where a bound that is off by one shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from golden_ops import reference_in_double
from sleeptools import registry
from sleeptools.models.ops.two_stream_conv import TOLERANCE_BF16
from sleeptools.native import conv_streams
from sleeptools.native.conv_streams import ConvLayer, ConvStream

EDGES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
BF16 = {"rtol": 2e-3, "atol": 2e-3}  # half a step of bfloat16, where sums round differently
PRECISION = {"attention": 9, "conv-block": 10, "feed-forward": 5, "two-stream-conv": 5}
"""The ops that multiply in bfloat16, with the place of the precision among their arguments."""
SEPARABLE = {"rtol": 2e-5, "atol": 2e-5}  # sums of up to 33 x 31 products one after the other
HOST = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A call of an op, with how far its result may lie from the reference's."""

    op: str
    arguments: tuple[Any, ...]
    tolerance: dict[str, float]
    label: str = ""
    of_largest: float = 0.0  # in the place of the tolerance, if it is not 0

    @property
    def module(self) -> Any:
        """The op's file in sleeptools/models/ops."""
        return registry.load("ops", self.op)

    @property
    def name(self) -> str:
        """Name of the op in Python."""
        return self.op.replace("-", "_")

    def run(self, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
        """Call the op."""
        return (getattr(self.module, self.name)(*arguments),)

    def expected(self) -> tuple[Tensor, ...]:
        """Compute the reference: in double precision, but where it rounds to bfloat16."""
        if "bf16" in self.arguments:
            return (self.module.reference(*self.arguments),)
        return (reference_in_double(self.module, self.arguments).float(),)

    def bounds(self, expected: Tensor) -> dict[str, float]:
        """Give how far the result may lie from the expected one."""
        if not self.of_largest:
            return self.tolerance
        finite = expected[expected.isfinite()].abs()
        return {"rtol": 0.0, "atol": self.of_largest * float(finite.max() if finite.numel() else 0)}

    def in_bf16(self) -> Case:
        """Give the same with products in bfloat16."""
        place = PRECISION[self.op]
        arguments = (*self.arguments[:place], "bf16", *self.arguments[place + 1 :])
        if self.op == "two-stream-conv":
            return replace(self, arguments=arguments, of_largest=4 * TOLERANCE_BF16)
        return replace(self, arguments=arguments, tolerance=BF16)

    def __str__(self) -> str:
        """Give the op, the shapes and the settings."""
        words = [
            "x".join(map(str, a.shape)) if isinstance(a, Tensor) else str(a)[:30]
            for a in self.arguments
        ]
        return f"{self.name}({', '.join(words)}){self.label}"


def examples(op: str, *, batch: int = 1) -> Iterator[Case]:
    """Give the op's own examples, one with a NaN, and one with other strides."""
    module = registry.load("ops", op)
    cases = [Case(op, e, module.TOLERANCE) for e in module.examples("cpu", batch=batch)]
    if op == "conv-block":  # which has no statistics of an empty batch and leaves that to PyTorch
        cases = [case for case in cases if len(case.arguments[0])]
    small = [case for case in cases if 1 < case.arguments[0].numel() < 5000]
    if op in PRECISION:
        in_bf16 = [case.in_bf16() for case in (cases[0], *small)]
        cases, small = cases + in_bf16, small + in_bf16[1:]
    yield from cases
    chosen = small[:2] + small[2:][-2:]
    for case in chosen:
        x, *others = case.arguments
        yield replace(case, arguments=(with_nan(x), *others), label=" with a NaN")
    for case in chosen:
        strided = tuple(
            a.mT.contiguous().mT if isinstance(a, Tensor) and a.dim() > 1 else a
            for a in case.arguments
        )
        yield replace(case, arguments=strided, label=" with other strides")


def with_nan(x: Tensor, place: int = 0) -> Tensor:
    """Copy a tensor, one of its values a NaN."""
    x = x.clone()
    x.view(-1)[place] = torch.nan
    return x


def random_cases(op: str, seed: object, count: int) -> Iterator[Case]:
    """Draw calls of an op with odd sizes."""
    rng = random.Random(f"{op} {seed}")
    for _ in range(count):
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        yield from DRAWN[op](rng, generator)


def edge_size(rng: random.Random, most: int) -> int:
    """Draw a size: one of the edges, or any."""
    edges = [edge for edge in EDGES if edge <= most]
    return rng.choice(edges) if rng.random() < 0.6 else rng.randint(1, most)


def _tolerance(op: str) -> dict[str, float]:
    tolerance: dict[str, float] = registry.load("ops", op).TOLERANCE
    return tolerance


def _attention(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import attention

    heads = rng.choice((1, 2, 3, 4, 8))
    width = heads * rng.randint(1, 17)
    sizes = rng.randint(1, 2), edge_size(rng, 129), width, heads
    example = attention._example(generator, HOST, *sizes)
    case = Case("attention", example, _tolerance("attention"))
    yield from (case, case.in_bf16())


def _classifier(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import classifier

    sizes = (
        rng.randint(1, 4),
        edge_size(rng, 300),
        edge_size(rng, 70),
        rng.choice((1, 2, 5, 257, 300)),
    )
    switches = rng.random() < 0.5, rng.random() < 0.5
    example = classifier._example(generator, HOST, *sizes, *switches)
    yield Case("classifier", example, _tolerance("classifier"))


def drawn_conv_block(rng: random.Random, generator: torch.Generator) -> tuple[Any, ...]:
    """Draw the arguments of a convolution block; half of them are copied by eights."""
    from sleeptools.models.ops import conv_block

    whole = rng.random() < 0.5
    batch, kernel = rng.randint(2, 4), rng.randint(1, 12)
    stride, pad, pool = rng.randint(1, 4), rng.randint(0, 6), rng.choice((1, 1, 2, 3, 5))
    inputs, outputs = (
        (8 * rng.randint(1, 3), rng.choice((8, 136)))
        if whole
        else (rng.randint(1, 9), rng.randint(1, 140))
    )
    samples = rng.randint(pool * stride + kernel, 70)
    sizes = [stride, pad, pool, rng.randint(1, pool + 1), rng.randint(0, pool // 2)]
    activation, slope = rng.choice((("leaky_relu", 0.01), ("leaky_relu", -0.5), ("gelu", 0.0)))
    shape, dropout = (batch, samples, inputs, outputs, kernel), rng.choice((0.0, 0.5))
    example = conv_block._example(generator, HOST, shape, sizes, activation, slope, dropout)
    if rng.random() < 0.7:
        return example
    return *example, *(torch.randn(outputs, generator=generator) for _ in range(2))


def _conv_block(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    case = Case("conv-block", drawn_conv_block(rng, generator), _tolerance("conv-block"))
    yield from (case, case.in_bf16())


def _dropout(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    x = torch.randn(rng.randint(1, 5), edge_size(rng, 40), edge_size(rng, 70), generator=generator)
    probability = rng.choice((0.0, 0.1, 0.5, 0.999999))
    yield Case("dropout", (x, probability, rng.getrandbits(63), None), _tolerance("dropout"))
    seeds = torch.tensor([rng.getrandbits(62) for _ in range(rng.randint(1, 4))])
    x = x.repeat(len(seeds), 1, 1)
    yield Case("dropout", (x, probability, rng.getrandbits(9), seeds), _tolerance("dropout"))


def _feed_forward(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import feed_forward

    sizes = edge_size(rng, 70), edge_size(rng, 129), rng.choice((0, edge_size(rng, 300)))
    example = feed_forward._example(generator, HOST, *sizes, rng.choice((0.0, 0.1, 0.5)))
    case = Case("feed-forward", example, _tolerance("feed-forward"))
    yield from (case, case.in_bf16())


def _modal_se(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import modal_se

    sizes = rng.randint(1, 3), rng.randint(1, 16), rng.randint(1, 9), edge_size(rng, 65)
    example = modal_se._example(generator, HOST, sizes, rng.choice(modal_se.KINDS))
    yield Case("modal-se", example, _tolerance("modal-se"))


def _separable_stream(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import separable_stream

    sizes = rng.randint(1, 2), rng.randint(1, 3), edge_size(rng, 900)
    widths = [rng.randint(1, 20) for _ in range(rng.randint(1, 8))]
    kernel = rng.choice((1, 3, 5, 9, 31, 255))
    example = separable_stream._example(generator, HOST, sizes, widths, kernel)
    yield Case("separable-stream", example, SEPARABLE)


def _two_stream_conv(rng: random.Random, generator: torch.Generator) -> Iterator[Case]:
    from sleeptools.models.ops import two_stream_conv

    whole = rng.random() < 0.5  # so that bfloat16 is copied by eights
    channels = rng.randint(1, 4)
    samples = 8 * rng.randint(3, 50) + rng.choice((0, 3)) if whole else rng.randint(20, 400)
    streams = [ConvStream(0, channels, _layers(rng, whole=whole))]
    while min(map(min, conv_streams.layer_sizes(streams[0], samples))) < 1:
        streams = [ConvStream(0, channels, _layers(rng, whole=whole))]
    activation = rng.choice(("leaky_relu", "relu", "gelu"))
    size = rng.randint(1, 3), channels, samples
    slope = rng.choice((0.01, -0.5, 0.3))
    x, *others = two_stream_conv._example(generator, HOST, size, streams, activation, slope)
    case = Case("two-stream-conv", (x, *others), _tolerance("two-stream-conv"))
    yield from (case, case.in_bf16())
    spoiled = with_nan(x, rng.randrange(x.numel())), *others
    yield replace(case, arguments=spoiled, label=" with a NaN").in_bf16()


def _layers(rng: random.Random, *, whole: bool) -> tuple[ConvLayer, ...]:
    outputs = rng.choice((8, 16, 40, 72)) if whole else edge_size(rng, 40)
    layers: list[ConvLayer] = []
    for _ in range(rng.randint(1, 3)):
        pool = rng.choice((1, 2, 3, 5))
        pools = pool, rng.randint(1, pool + 1), rng.randint(0, pool // 2)
        stride, pad = rng.randint(1, 4), rng.randint(0, 6)
        if whole and not layers:
            stride, pad = 8, rng.choice((0, 8))
        layers.append(ConvLayer(outputs, rng.randint(1, 12), stride, pad, pools))
    return tuple(layers)


DRAWN: dict[str, Callable[[random.Random, torch.Generator], Iterator[Case]]] = {
    "attention": _attention,
    "classifier": _classifier,
    "conv-block": _conv_block,
    "dropout": _dropout,
    "feed-forward": _feed_forward,
    "modal-se": _modal_se,
    "separable-stream": _separable_stream,
    "two-stream-conv": _two_stream_conv,
}
"""The ops that have a CUDA kernel."""
