"""Separable-convolution blocks as the native core takes them: weights, sizes, NumPy op.

A block is two units (depthwise convolution, pointwise convolution with bias, ReLU, a pool over two
steps) and a shortcut, a matrix on every 4th step, which is added; the mean over time follows the
last block. Every signal goes through the same blocks. The weights are one vector: of each block in
turn depthwise (inputs, kernel), pointwise (inputs, outputs) and bias (outputs) of its two units,
then matrix (inputs, outputs) and bias (outputs) of its shortcut, where the first block has one
input.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native import Floats, as_floats, threads
from sleeptools.native.batch_norm import fold_batch_norm
from sleeptools.native.check import Shapes, check_shape
from sleeptools.native.prepared import Op, PreparedOp, on_cpu

OP = "separable_stream"
SHAPES = Shapes(OP, x="batch signals samples", weights="count")
MAX_BLOCKS = 8  # a step of the last one is 4^8 samples; csrc/ops.h
MAX_KERNEL = 255


class SeparableLayout(NamedTuple):
    """What the op needs to know of its sizes alone.

    Parameters
    ----------
    widths
        Feature maps after each block, as the core reads them.
    work
        Float operations of a signal.
    floats
        Size of the workspace: for each thread on the CPU, for each signal of an epoch on a GPU.
    """

    widths: NDArray[np.int64]
    work: int
    floats: int


def separable_weight_count(widths: Sequence[int], kernel: int) -> int:
    """Numbers in the vector of weights."""
    total, inputs = 0, 1
    for width in widths:
        total += (inputs + width) * (kernel + width) + 2 * width + width * (inputs + 1)
        inputs = width
    return total


def check_separable_stream(
    size: tuple[int, ...], weights: tuple[int, ...], widths: Sequence[int], kernel: int
) -> None:
    """Check the arguments of `separable_stream`: the shapes of x and weights, and the settings.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    SHAPES.check_shapes(size, weights)
    check_sizes(OP, size, widths, kernel, MAX_KERNEL)
    check_shape(OP, "weights", weights, (separable_weight_count(widths, kernel),))


def check_sizes(
    op: str, size: tuple[int, ...], widths: Sequence[int], kernel: int, max_kernel: int
) -> None:
    """Check the sizes of blocks for one of the two ops.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    if size[2] < 1:
        raise ValueError(f"{op}: x has shape {size}; expected at least 1 sample")
    if not 1 <= len(widths) <= MAX_BLOCKS or min(widths) < 1:
        raise ValueError(
            f"{op}: widths is {list(widths)}; expected 1 to {MAX_BLOCKS} numbers of at least 1"
        )
    if not 1 <= kernel <= max_kernel or kernel % 2 == 0:
        raise ValueError(f"{op}: kernel is {kernel}; expected an odd number up to {max_kernel}")


def fold_separable(tensors: Mapping[str, Any], names: Iterable[str], eps: float) -> list[Any]:
    """Fold each BatchNorm into its convolution, and each shortcut's two convolutions into one.

    Parameters
    ----------
    tensors
        Weights as NumPy arrays or torch tensors alike: of the block NAME `NAME.unit1`,
        `NAME.unit2`, `NAME.shortcut1` and `NAME.shortcut2`, of each `depthwise.weight`
        (inputs, 1, kernel), `pointwise.weight` (outputs, inputs, 1) and `pointwise.bias`, of the
        units also `norm.weight`, `norm.bias`, `norm.running_mean` and `norm.running_var`.
    names
        Names of the blocks.
    eps
        Added to the variance by the BatchNorm.

    Returns
    -------
    list
        Vectors, to be joined to the vector of weights.
    """
    vectors: list[Any] = []
    for name in names:
        for unit in ("unit1", "unit2"):
            vectors += _fold_unit(tensors, f"{name}.{unit}", eps)
        vectors += fold_shortcut(tensors, name)
    return [vector.reshape(-1) for vector in vectors]


def _fold_unit(tensors: Mapping[str, Any], name: str, eps: float) -> list[Any]:
    depthwise, pointwise, bias = separable(tensors, name)
    names = ("running_mean", "running_var", "weight", "bias")
    norm = [tensors[f"{name}.norm.{vector}"] for vector in names]
    pointwise, bias = fold_batch_norm(pointwise, bias, *norm, eps=eps)
    return [depthwise, pointwise.T, bias]


def fold_shortcut(tensors: Mapping[str, Any], name: str) -> list[Any]:
    """Matrix (inputs, outputs) and bias (outputs) of a block's shortcut."""
    depth1, point1, bias1 = separable(tensors, f"{name}.shortcut1")
    depth2, point2, bias2 = separable(tensors, f"{name}.shortcut2")
    point2 = point2 * depth2[:, 0]
    return [(point2 @ (point1 * depth1[:, 0])).T, point2 @ bias1 + bias2]


def separable(tensors: Mapping[str, Any], name: str) -> tuple[Any, Any, Any]:
    """Depthwise (inputs, kernel), pointwise (outputs, inputs) and bias (outputs)."""
    depthwise, pointwise = tensors[f"{name}.depthwise.weight"], tensors[f"{name}.pointwise.weight"]
    return depthwise[:, 0], pointwise[:, :, 0], tensors[f"{name}.pointwise.bias"]


@functools.lru_cache(maxsize=64)
def separable_layout(
    widths: tuple[int, ...], kernel: int, samples: int, device: int = native.CPU
) -> SeparableLayout:
    """Lay out a call of the core; the sizes are checked before."""
    table = np.array(widths, np.int64)
    floats = native.module(OP).separable_stream_workspace(
        widths=native.address(table),
        samples=samples,
        blocks=len(widths),
        kernel=kernel,
        device=device,
    )
    return SeparableLayout(table, stream_work(widths, kernel, samples), int(floats))


def stream_work(widths: Sequence[int], kernel: int, samples: int) -> int:
    """Float operations of a signal."""
    work, inputs, steps = 0, 1, samples
    for width in widths:
        half = -(-steps // 2)
        work += 2 * steps * inputs * (kernel + width) + 2 * half * width * (kernel + width)
        steps = -(-half // 2)
        work += 2 * steps * inputs * width
        inputs = width
    return work


@Op
def separable_stream(
    x: Floats, weights: Floats, widths: Sequence[int], kernel: int = 3
) -> PreparedOp:
    """Run the blocks on NumPy arrays; see `sleeptools.models.ops.separable_stream`.

    Parameters
    ----------
    x
        Signals (batch, signals, samples).
    weights
        Weights of all blocks, in one vector.
    widths
        Feature maps after each block.
    kernel
        Length of the depthwise convolutions; odd.

    Returns
    -------
    ndarray
        (batch, signals, widths[-1]) float32.

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    check_separable_stream(x.shape, weights.shape, widths, kernel)
    x, weights = (as_floats(array) for array in (x, weights))
    batch, signals, samples = x.shape
    layout = separable_layout(tuple(widths), kernel, samples)
    slots = threads.threads_for(batch * signals, layout.work)
    return on_cpu(
        OP,
        {
            "x": x,
            "weights": weights,
            "widths": layout.widths,
            "space": np.empty(slots * layout.floats, np.float32),
        },
        np.empty((batch, signals, widths[-1]), np.float32),
        batch=batch,
        signals=signals,
        samples=samples,
        blocks=len(widths),
        kernel=kernel,
        slots=slots,
        work=layout.work,
    )
