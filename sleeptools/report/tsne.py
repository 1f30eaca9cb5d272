"""Exact t-SNE of a few hundred points.

van der Maaten, Hinton, "Visualizing data using t-SNE", J. Mach. Learn. Res. 2008, 9:2579, with the
settings of Kobak and Berens (10.1038/s41467-019-13056-x): started from the principal components,
the step size from the number of points. All pairs are computed, so that time grows with the square
of the points: 500 take about a second. A seed separates equal points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED = 12.0, 150  # of the attraction, and steps with it
STEPS = 600  # in all
SEARCH = 40  # halvings of a neighbourhood's width
TINY = 1e-12


def tsne(scores: Floats, seed: int) -> Floats:
    """Embed points on the plane so that neighbours stay neighbours.

    Parameters
    ----------
    scores
        (n, k) float32, principal components, the first ones first.
    seed
        Seed of small noise in the starting positions, which separates equal points.

    Returns
    -------
    positions
        (n, 2) float32.
    """
    count = len(scores)
    noise = np.random.default_rng(seed).standard_normal((count, 2), np.float32)
    y = np.zeros((count, 2), np.float32)
    y[:, : scores.shape[1]] = scores[:, :2]
    spread = max(float(y[:, 0].std()), TINY)
    y = np.float32(1e-4) * (y / np.float32(spread) + np.float32(1e-3) * noise)
    if count <= 3:  # noqa: PLR2004 - no point has three neighbours
        return y
    p = affinities(scores, min(PERPLEXITY, (count - 1) / 3))
    rate = max(count / EXAGGERATION / 4, 50.0)
    moved, gains = np.zeros_like(y), np.ones_like(y)
    for step in range(STEPS):
        early = step < EXAGGERATED
        slope = gradient(y, p, EXAGGERATION if early else 1.0)
        gains = np.where(slope * moved < 0, gains + 0.2, gains * 0.8).clip(0.01)
        moved = ((0.5 if early else 0.8) * moved - rate * gains * slope).astype(np.float32)
        y = y + moved
        y = y - y.mean(0)
    return y


def affinities(x: Floats, perplexity: float) -> Floats:
    """(n, n) float32 joint probabilities of neighbours, which add up to 1."""
    p = neighbour_probabilities(x, perplexity)
    p = p + p.T
    joint: Floats = p / p.sum()
    return joint


def neighbour_probabilities(x: Floats, perplexity: float) -> Floats:
    """Probability of each point as a neighbour of another, a row for each: (n, n) float32."""
    double = x.astype(np.float64)
    norm = np.square(double).sum(1)
    d = (norm[:, None] + norm - 2 * double @ double.T).clip(0)
    np.fill_diagonal(d, np.inf)
    d -= d.min(1, keepdims=True)
    scale = np.where(np.isinf(d), 0, d).mean(1, keepdims=True).clip(TINY)
    low = np.full_like(scale, -40.0)  # log of the width, in units of the mean distance
    high = -low
    p = d
    for _ in range(SEARCH):
        middle = (low + high) / 2
        logits = -d / (scale * np.exp(middle))
        p = np.exp(logits)
        total = p.sum(1, keepdims=True)
        p /= total
        weighted = np.where(p > 0, p * np.where(np.isinf(logits), 0, logits), 0)
        entropy = np.log(total) - weighted.sum(1, keepdims=True)
        wide = entropy >= np.log(perplexity)
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return np.asarray(p, np.float32)


def gradient(y: NDArray[Any], p: NDArray[Any], exaggeration: float) -> NDArray[Any]:
    """Slope of the divergence between neighbours in the data and on the plane, by place: (n, 2)."""
    norm = np.square(y).sum(1)
    near = y @ y.T
    near *= -2
    near += norm[:, None] + 1
    near += norm
    np.maximum(near, 1, out=near)
    np.reciprocal(near, out=near)  # 1 / (1 + distance²)
    total = max(float(near.sum()) - len(y), TINY)  # a point is no neighbour of its own
    ahead = np.concatenate([y, np.ones_like(y[:, :1])], 1)  # (n, 3)
    pull = (near * p) @ ahead
    np.square(near, out=near)
    push = near @ ahead
    attracted = pull[:, 2:] * y - pull[:, :2]
    repelled = push[:, 2:] * y - push[:, :2]  # its own share cancels
    return np.asarray(4 * (exaggeration * attracted - repelled / total))
