"""The hypnodensity from what a network of another library gives, NaN where nothing is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sleeptools.native import Floats


def softmax(logits: Floats) -> Floats:
    """Turn (..., stages) logits into probabilities."""
    e = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    density: Floats = e / e.sum(-1, keepdims=True)
    return density


def finite_density(x: Floats, network: Callable[[Floats], Floats]) -> Floats:
    """Score a batch (B, ...): NaN for what is not finite, or was computed from such an input."""
    with np.errstate(invalid="ignore", over="ignore"):
        # the sum of an epoch is finite only if all of it is; a maximum could hide a value
        finite = np.isfinite(x.sum(tuple(range(1, x.ndim))))
        density = network(x)
    density[~finite] = np.nan
    density[~np.isfinite(density).all(-1)] = np.nan
    return density
