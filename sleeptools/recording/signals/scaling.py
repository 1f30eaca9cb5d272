"""Scaling (z-score, robust), clipping and baseline removal along the last axis.

Of a whole channel, or of every epoch by itself. A scale is never learnt from several recordings,
because that would carry test subjects into training. A constant signal becomes zero.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.recording import Samples

BLOCK: Final = 1 << 18  # samples in float64 at a time


def z_score(samples: Samples) -> Samples:
    """Subtract the mean and divide by the standard deviation (of the population)."""
    centred = samples - samples.mean(-1, dtype=np.float64, keepdims=True).astype(np.float32)
    power = np.einsum("...i,...i->...", centred, centred, dtype=np.float64)
    return _divided(centred, np.sqrt(power / samples.shape[-1]))


def robust(samples: Samples) -> Samples:
    """Subtract the median and divide by the interquartile range.

    Unlike mean and standard deviation, a few large artefacts hardly change them. The interquartile
    range of a normal distribution is 1.35 standard deviations.
    """
    low, middle, high = np.asarray(np.percentile(samples, (25, 50, 75), axis=-1))
    return _divided(samples - middle[..., None].astype(np.float32), high - low)


def magnitude(samples: Samples) -> Samples:
    """Divide by the median of the absolute values; nothing is subtracted.

    Where a gain changes on the way, both parts are within its square root of what they would be,
    or nearly so, while a range of quartiles around the median would be that of the change.
    """
    return _divided(samples.copy(), np.median(np.abs(samples), axis=-1))


def _divided(samples: Samples, by: npt.NDArray[np.float64]) -> Samples:
    by = np.asarray(by)[..., None]
    inverse = np.divide(1.0, by, out=np.zeros(by.shape), where=by > 0)
    samples *= inverse.astype(np.float32)
    return samples


def clip(samples: Samples, limit: float) -> Samples:
    """Clip to -limit ... limit, in the unit of the samples."""
    return np.clip(samples, -np.float32(limit), np.float32(limit))


def without_baseline(samples: Samples, degree: int) -> Samples:
    """Subtract the best-fitting polynomial of a degree, by least squares over the last axis.

    Degree 0 removes the mean, degree 1 a linear trend. The polynomial is a projection on an
    orthonormal basis, because powers of the sample number lose all precision at high degrees.

    Parameters
    ----------
    samples
        (..., n) float32.
    degree
        0 to 12.
    """
    rows = samples.reshape(-1, samples.shape[-1])
    basis = _basis(rows.shape[-1], degree)
    out = np.empty_like(rows)
    step = max(1, BLOCK // rows.shape[-1])
    for i in range(0, len(rows), step):
        epochs = rows[i : i + step].astype(np.float64)
        epochs -= (epochs @ basis) @ basis.T
        out[i : i + step] = epochs
    return out.reshape(samples.shape)


@lru_cache(4)
def _basis(size: int, degree: int) -> npt.NDArray[np.float64]:
    """Orthonormal polynomials on `size` points: (size, degree + 1)."""
    vander = np.polynomial.legendre.legvander(np.linspace(-1, 1, size), min(degree, size - 1))
    return np.linalg.qr(vander)[0]
