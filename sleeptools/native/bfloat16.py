"""Rounding to bfloat16 as the native core takes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import aligned

Weights = NDArray[np.float32] | NDArray[np.uint16]  # the second: bfloat16


def as_weights(array: Weights) -> Weights:
    """Make an array C-contiguous, and float32 unless it is bfloat16 already."""
    if array.dtype == np.uint16:
        return np.ascontiguousarray(array, np.uint16)
    return np.ascontiguousarray(array, np.float32)


def round_to_bf16(w: Weights) -> NDArray[np.uint16]:
    """Round a matrix to the nearest bfloat16, ties to even.

    Parameters
    ----------
    w
        (rows, columns); the result of this function is returned as it is.

    Returns
    -------
    ndarray
        The upper half of each number, with a column of zeros added where their count is odd, from
        a cache line on.
    """
    if w.dtype == np.uint16:
        return np.ascontiguousarray(w)
    even = np.ascontiguousarray(np.pad(w, ((0, 0), (0, w.shape[1] % 2))), np.float32)
    bits = even.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)  # a NaN may have nothing else in its upper half
    halves = np.where(np.isnan(even), quiet, rounded) >> np.uint32(16)
    return aligned(halves.astype(np.uint16))
