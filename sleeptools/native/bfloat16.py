"""Rounding to bfloat16 as the native core takes it, and where the core multiplies it.

`sleeptools.models.ops.rounded` is PyTorch's own rounding, whose gradient autograd sees; a test
holds the two equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import Floats, aligned, as_floats, has_bf16

Weights = NDArray[np.float32] | NDArray[np.uint16]  # the second: bfloat16


def as_weights(array: Weights) -> Weights:
    """Make an array C-contiguous, and float32 unless it is bfloat16 already."""
    if array.dtype == np.uint16:
        return np.ascontiguousarray(array, np.uint16)
    return as_floats(array)


def uses_bf16(precision: str) -> bool:
    """Whether the variant in use has the arithmetic; float32 takes its place elsewhere."""
    return precision == "bf16" and has_bf16()


def bf16_bits(values: Floats) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even: the upper half of each number."""
    bits = as_floats(values).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)  # a NaN may have nothing else in its upper half
    return (np.where(np.isnan(values), quiet, nearest) >> np.uint32(16)).astype(np.uint16)


def round_to_bf16(w: Weights) -> NDArray[np.uint16]:
    """Round a matrix to bfloat16 as `attention` and `feed_forward` take it.

    Parameters
    ----------
    w
        (rows, columns); the result of this function is returned as it is.

    Returns
    -------
    ndarray
        `bf16_bits`, with a column of zeros added where their count is odd, from a cache line on.
    """
    if w.dtype == np.uint16:
        return np.ascontiguousarray(w)
    return aligned(bf16_bits(np.pad(as_floats(w), ((0, 0), (0, w.shape[1] % 2)))))
