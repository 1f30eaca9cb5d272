"""Separable-convolution blocks in training as the native core takes them: weights and sizes.

As `sleeptools.native.separable_stream`, with BatchNorm in place of its fold: the weights are one
vector, of each block in turn depthwise (inputs, kernel), pointwise (inputs, outputs), bias, gamma
and beta (outputs) of its two units, then matrix (inputs, outputs) and bias (outputs) of its
shortcut.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native.check import Shapes, check_shape
from sleeptools.native.separable_stream import check_sizes, fold_shortcut, separable, stream_work

OP = "separable_blocks"
SHAPES = Shapes(OP, x="batch signals samples", weights="count")
MAX_KERNEL = 15  # the products of all its taps with each other are summed
SIGNALS = 16  # that the core keeps side by side; csrc/ops.h


class Unit(NamedTuple):
    """Sizes of a unit: feature maps, and time steps before and after its pool."""

    inputs: int
    outputs: int
    steps: int
    pooled: int


def list_units(widths: Sequence[int], samples: int) -> Iterator[Unit]:
    """List the units of all blocks, two of each."""
    inputs, steps = 1, samples
    for width in widths:
        for maps in (inputs, width):
            pooled = (steps + 1) // 2
            yield Unit(maps, width, steps, pooled)
            steps = pooled
        inputs = width


class KeptSizes(NamedTuple):
    """Lengths of what the forward pass keeps for the gradients: see csrc/separable_layout.h."""

    maps: int
    marks: int
    moments: int


def kept_sizes(
    widths: Sequence[int], kernel: int, signals: int, samples: int, *, drops: bool
) -> KeptSizes:
    """Count what a call keeps for its gradients."""
    units = list(list_units(widths, samples))
    margin = 2 * (kernel // 2)
    vectors = samples + margin + sum(u.inputs * (u.steps + margin) for u in units[2:])
    words = sum(u.outputs * u.pooled for u in units)
    if drops:
        words += sum(u.outputs * u.pooled for u in units[1::2])
    taps = [kernel, *(u.inputs for u in units[1:])]
    groups = (signals + SIGNALS - 1) // SIGNALS
    moments = sum(count * (count + 1) for count in taps)
    return KeptSizes(groups * SIGNALS * vectors, groups * words, moments)


def blocks_weight_count(widths: Sequence[int], kernel: int) -> int:
    """Numbers in the vector of weights."""
    units = list(list_units(widths, 1))
    total = sum(u.inputs * (kernel + u.outputs) + 3 * u.outputs for u in units)
    return total + sum((u.inputs + 1) * u.outputs for u in units[::2])


def check_separable_blocks(
    size: tuple[int, ...], weights: tuple[int, ...], widths: Sequence[int], kernel: int
) -> None:
    """Check the arguments of `separable_blocks`: the shapes of x and weights, and the settings.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    SHAPES.check_shapes(size, weights)
    check_sizes(OP, size, widths, kernel, MAX_KERNEL)
    check_shape(OP, "weights", weights, (blocks_weight_count(widths, kernel),))


def join_blocks(tensors: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    """List the weights of blocks in the order of the vector, each shortcut folded.

    Parameters
    ----------
    tensors
        Weights under the names that `separable_stream.fold_separable` takes.
    names
        Names of the blocks.

    Returns
    -------
    list
        Vectors, to be joined to the vector of weights.
    """
    vectors: list[Any] = []
    for name in names:
        for unit in (f"{name}.unit1", f"{name}.unit2"):
            depthwise, pointwise, bias = separable(tensors, unit)
            norm = [tensors[f"{unit}.norm.{vector}"] for vector in ("weight", "bias")]
            vectors += [depthwise, pointwise.T, bias, *norm]
        vectors += fold_shortcut(tensors, name)
    return [vector.reshape(-1) for vector in vectors]


@functools.lru_cache(maxsize=64)
def width_table(widths: tuple[int, ...]) -> NDArray[np.int64]:
    """Widths as the core reads them."""
    return np.array(widths, np.int64)


def blocks_work(widths: Sequence[int], kernel: int, samples: int) -> int:
    """Float operations of a signal, forward; about a third of those of a step of training."""
    return stream_work(widths, kernel, samples)


def blocks_workspace(
    widths: tuple[int, ...], kernel: int, size: tuple[int, int], slots: int, *, backward: bool
) -> int:
    """Floats of workspace of the op or of its gradients, for `size` signals and samples."""
    floats = native.module(OP).separable_blocks_workspace(
        widths=native.address(width_table(widths)),
        signals=size[0],
        samples=size[1],
        blocks=len(widths),
        kernel=kernel,
        slots=slots,
        backward=backward,
    )
    return int(floats)
