"""SlumberNet as a graph of convolutions, with as few products as it takes.

A convolution over the plane (signals, time) with taps of two samples is, over two signals, the
matrix [[A, B], [C, A]] of the signals for each of both samples: the next signal is seen through the
same weights as the one before, and so is the next sample. Such a matrix times (a, b) is A (a + b) +
(B - A) b above and A (a + b) + (C - A) a below: three products instead of four, on sums that cost
little. Over the samples of each pair in time the same is done once more, so that nine products do
the work of sixteen. (Over time: Winograd, "Arithmetic Complexity of Computations", 1980.) In
bfloat16 products cost less than sums do, and differences would be rounded: there the whole matrix
is one convolution.

Jha, Valekunja, Reddy 2024; the model is `sleeptools.models.slumbernet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import Floats, Precision
from sleeptools.native.conv_graph import GraphBuilder, Maps

TIME = 2  # samples of every kernel, but for the shortcut of the paper's text
WIDTHS = (8, 5, 3)  # signals of a block's three kernels
LAST_WIDTHS = (8, 8, 8)
PRINTED_WIDTHS = (1, 1, 1)
NORM_EPS = 1e-3
PAIR = 2  # signals, and samples, that share products

Weights = NDArray[Any]  # float64 until all sums of them are taken


class BlockTable(NamedTuple):
    """Maps, kernels and shortcut of a residual block.

    Parameters
    ----------
    inputs, outputs
        Maps.
    widths
        Signals of the three kernels.
    shortcut
        Samples of the shortcut's kernel; 0 where it is BatchNorm alone.
    """

    inputs: int
    outputs: int
    widths: tuple[int, int, int]
    shortcut: int


def block_tables(blocks: int, filters: int, network: str) -> list[BlockTable]:
    """List the blocks of the authors' program, or of the paper's text."""
    if network == "paper":
        sizes = [1, *(filters << i for i in range(blocks))]
        return [BlockTable(*pair, PRINTED_WIDTHS, 1) for pair in pairwise(sizes)]
    sizes = [1, *(filters << i for i in range(blocks - 1))]
    last = BlockTable(sizes[-1], sizes[-1], LAST_WIDTHS, 0)
    return [*(BlockTable(*pair, WIDTHS, TIME) for pair in pairwise(sizes)), last]


class PlaneConv(NamedTuple):
    """A convolution over (signals, time), BatchNorm folded.

    Parameters
    ----------
    weight
        (outputs, inputs, width, time).
    bias
        (outputs,).
    """

    weight: Weights
    bias: Weights

    def tap(self, distance: int) -> Weights:
        """Weights (outputs, inputs, time) for the signal so far below the output's; or zeros."""
        width = self.weight.shape[2]
        index = (width - 1) // 2 + distance
        if 0 <= index < width:
            return self.weight[:, :, index]
        return np.zeros_like(self.weight[:, :, 0])


class BlockWeights(NamedTuple):
    """Weights of a block: its convolutions, and the shortcut's, or its scale and shift."""

    convs: Sequence[PlaneConv]
    shortcut: PlaneConv | tuple[Weights, Weights]


class Lowering(Protocol):
    """One of the two ways to write the network down."""

    def block(self, x: Maps, weights: BlockWeights) -> Maps:
        """Add a residual block."""


def slumbernet_graph(
    blocks: Sequence[BlockWeights],
    head: tuple[Weights, Weights],
    signals: int,
    samples: int,
    precision: Precision = "fp32",
) -> GraphBuilder:
    """Write the network down.

    Parameters
    ----------
    blocks
        Weights of the residual blocks.
    head
        Weight (stages, maps) and bias (stages,) of the last layer.
    signals, samples
        Size of an epoch, which `arrange_epochs` turns to the values that the graph reads.
    precision
        Precision of the products that it is written for.
    """
    builder = GraphBuilder()
    copies = signals * PAIR if shares_products(signals, samples, precision) else signals
    x = builder.input(copies, samples * signals // copies)
    lowering = PairedPlane(builder) if copies > signals else PlainPlane(builder, signals)
    for weights in blocks:
        x = lowering.block(x, weights)
    weight = np.tile(head[0] / copies, (1, copies))[:, :, None]
    builder.convolve(builder.average(x, 1), weight, bias=head[1])
    return builder


def shares_products(signals: int, samples: int, precision: Precision) -> bool:
    """Whether signals and samples come in pairs whose products are taken together."""
    return signals == PAIR and samples % PAIR == 0 and precision == "fp32"


def arrange_epochs(x: Floats, precision: Precision = "fp32") -> Floats:
    """Arrange epochs (B, signals, samples) as the graph reads them: (B, values)."""
    batch, signals, samples = x.shape
    if shares_products(signals, samples, precision):
        x = x.reshape(batch, signals, samples // PAIR, PAIR).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x, np.float32).reshape(batch, -1)


class PlainPlane:
    """Any number of signals: each step in time is a row of (signal, map)."""

    def __init__(self, builder: GraphBuilder, signals: int) -> None:
        self.builder, self.signals = builder, signals

    def block(self, x: Maps, weights: BlockWeights) -> Maps:
        """Add a residual block."""
        first, second, third = weights.convs
        y = self._convolve(x, first)
        y = self._convolve(y, second)
        return self._convolve(y, third, self._shortcut(x, weights.shortcut))

    def _shortcut(self, x: Maps, shortcut: PlaneConv | tuple[Weights, Weights]) -> Maps:
        if isinstance(shortcut, PlaneConv):
            return self._convolve(x, shortcut, rectified=False)
        factor, shift = (np.tile(vector, self.signals) for vector in shortcut)
        target = self.builder.signal(x.width, self.builder.steps(x))
        return self.builder.scale_maps(x, factor, target, bias=shift)

    def _convolve(
        self, x: Maps, conv: PlaneConv, added: Maps | None = None, *, rectified: bool = True
    ) -> Maps:
        outputs, inputs, width, _ = conv.weight.shape
        target = self.builder.signal(outputs * self.signals, self.builder.steps(x))
        together = self.signals if width > 1 else 1  # signals that see each other
        rows = [
            np.concatenate([conv.tap(other - signal) for other in range(together)], 1)
            for signal in range(together)
        ]
        for signal in range(0, self.signals, together):
            output = target.pick(signal * outputs, together * outputs)
            self.builder.convolve(
                x.pick(signal * inputs, together * inputs),
                np.concatenate(rows),
                output,
                bias=np.tile(conv.bias, together),
                added=[added.pick(output.first, output.width)] if added else [],
                activation="relu" if rectified else "none",
            )
        return target


class Sums(NamedTuple):
    """What products of a pair of signals are taken of: both, their maps, and their sum."""

    pair: Maps
    total: Maps

    @property
    def maps(self) -> int:
        """Maps of a signal."""
        return self.total.width

    def signal(self, index: int) -> Maps:
        """Pick a signal."""
        return self.pair.pick(index * self.maps, self.maps)


class PairSums(NamedTuple):
    """The same of odd samples, of even less odd ones, and of odd less the next even ones."""

    odd: Sums
    falls: Sums
    rises: Sums


Residual = Callable[[int, int, Maps], Maps]


class PairedPlane:
    """Two signals and pairs of samples: rows of (sample of the pair, signal, map)."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder

    def block(self, x: Maps, weights: BlockWeights) -> Maps:
        """Add a residual block."""
        sums = self._sums(x)
        y = x
        for conv in weights.convs[:2]:
            y = self._convolve(self._sums(y) if y != x else sums, conv, None)
        residual = self._residual(x, sums, weights.shortcut)
        return self._convolve(self._sums(y), weights.convs[2], residual)

    def _sums(self, x: Maps) -> PairSums:
        half = x.width // PAIR
        even, odd = x.pick(0, half), x.pick(half, half)
        minus = np.full(half, -1.0)
        falls = self._scaled(odd, minus, added=[even])
        rises = self._scaled(even, minus, added=[odd], pad=-1)
        return PairSums(*(self._total(pair) for pair in (odd, falls, rises)))

    def _total(self, pair: Maps) -> Sums:
        maps = pair.width // PAIR
        total = self._scaled(pair.pick(0, maps), np.ones(maps), added=[pair.pick(maps, maps)])
        return Sums(pair, total)

    def _scaled(self, x: Maps, factors: Weights, added: Sequence[Maps] = (), pad: int = 0) -> Maps:
        target = self.builder.signal(x.width, self.builder.steps(x))
        return self.builder.scale_maps(x, factors, target, added=added, pad=pad)

    def _convolve(self, sums: PairSums, conv: PlaneConv, residual: Residual | None) -> Maps:
        """Convolve, with what `residual(sample, signal, added)` gives added to `added`."""
        first, later = np.moveaxis(np.stack([conv.tap(d) for d in (0, 1, -1)]), 3, 0)
        outputs = len(conv.bias)
        steps = self.builder.steps(sums.odd.total)
        target = self.builder.signal(PAIR * PAIR * outputs, steps)
        shared = self._product(sums.odd.total, (first + later)[0], bias=conv.bias)
        common = [
            self._product(sums.odd.signal(1 - s), self._rest(first + later, s), added=[shared])
            for s in range(PAIR)
        ]
        for sample, (change, taps) in enumerate(((sums.falls, first), (sums.rises, -later))):
            shared = self._product(change.total, taps[0])
            for signal in range(PAIR):
                beside = residual(sample, signal, shared) if residual else shared
                self._product(
                    change.signal(1 - signal),
                    self._rest(taps, signal),
                    target.pick((sample * PAIR + signal) * outputs, outputs),
                    added=[beside, common[signal]],
                    activation="relu",
                )
        return target

    @staticmethod
    def _rest(taps: Weights, signal: int) -> Weights:
        """Weights for the other signal, less those that the sum has brought along."""
        rest: Weights = taps[1 + signal] - taps[0]
        return rest

    def _product(self, x: Maps, weight: Weights, target: Maps | None = None, **after: Any) -> Maps:
        return self.builder.convolve(x, weight[:, :, None], target, **after)

    def _residual(
        self, x: Maps, sums: PairSums, shortcut: PlaneConv | tuple[Weights, Weights]
    ) -> Residual:
        if not isinstance(shortcut, PlaneConv):
            return lambda sample, signal, added: self._affine(x, shortcut, (sample, signal), added)
        taps = shortcut.tap(0)  # (outputs, inputs, time)
        first, later = taps[:, :, 0], taps[:, :, 1] if taps.shape[2] > 1 else 0 * taps[:, :, 0]
        common = [
            self._product(sums.odd.signal(s), first + later, bias=shortcut.bias)
            for s in range(PAIR)
        ]
        changes = ((sums.falls, first), (sums.rises, -later))

        def residual(sample: int, signal: int, added: Maps) -> Maps:
            change, weight = changes[sample]
            return self._product(change.signal(signal), weight, added=[added, common[signal]])

        return residual

    def _affine(
        self, x: Maps, vectors: tuple[Weights, Weights], position: tuple[int, int], added: Maps
    ) -> Maps:
        maps = x.width // PAIR**2
        source = x.pick((position[0] * PAIR + position[1]) * maps, maps)
        target = self.builder.signal(maps, self.builder.steps(x))
        return self.builder.scale_maps(source, vectors[0], target, bias=vectors[1], added=[added])
