"""Embedding of features in two dimensions: principal components, and exact t-SNE.

van der Maaten, Hinton, "Visualizing data using t-SNE", J. Mach. Learn. Res. 2008, 9:2579, with the
settings of Kobak and Berens (10.1038/s41467-019-13056-x): started from the principal components,
the step size from the number of points. All pairs are computed, in strips of rows that stay in the
cache. The result depends on the input, the number of threads, and a seed that separates equal
points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED = 12.0, 150  # of the attraction, and steps with it
STEPS = 600  # in all
STRIP = 1 << 18  # pairs at a time: 1 MiB of float32
SEARCH = 40  # halvings of a neighbourhood's width
TINY = 1e-12


def components(x: Tensor, count: int) -> Tensor:
    """Project on the first principal components, whichever side of the table is shorter.

    Parameters
    ----------
    x
        (n, features).
    count
        Largest number of components.

    Returns
    -------
    scores
        (n, min(count, n, features)) float32, the largest of each in size positive.
    """
    x = x.double() - x.double().mean(0)
    wide = x.shape[0] < x.shape[1]
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)  # ascending
    vectors = vectors[:, -min(count, *x.shape) :].flip(1)
    values = values[-vectors.shape[1] :].flip(0).clamp_min(0)
    scores = vectors * values.sqrt() if wide else x @ vectors
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    signed: Tensor = scores * torch.where(largest < 0, -1.0, 1.0)
    return signed.float()


def plane(scores: Tensor) -> Tensor:
    """(n, 2): the first two of the components, zeros where there are fewer."""
    return torch.nn.functional.pad(scores[:, :2], (0, max(0, 2 - scores.shape[1])))


def tsne(scores: Tensor, seed: int) -> Tensor:
    """Embed points on the plane so that neighbours stay neighbours.

    Parameters
    ----------
    scores
        (n, k) float32, principal components, the first ones first.
    seed
        Seed of small noise in the starting positions, which separates equal points.

    Returns
    -------
    places
        (n, 2) float32.
    """
    count = len(scores)
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    y = plane(scores)
    y = 1e-4 * (y / y[:, :1].std(correction=0).clamp_min(TINY) + 1e-3 * noise)
    if count <= 3:  # noqa: PLR2004 - no point has three neighbours
        return y
    p = affinities(scores, min(PERPLEXITY, (count - 1) / 3))
    rate = max(count / EXAGGERATION / 4, 50.0)
    moved, gains = torch.zeros_like(y), torch.ones_like(y)
    for step in range(STEPS):
        early = step < EXAGGERATED
        slope = gradient(y, p, EXAGGERATION if early else 1.0)
        gains = torch.where(slope * moved < 0, gains + 0.2, gains * 0.8).clamp_min(0.01)
        moved = (0.5 if early else 0.8) * moved - rate * gains * slope
        y = y + moved
        y = y - y.mean(0)
    return y


def affinities(x: Tensor, perplexity: float) -> Tensor:
    """(n, n) float32 joint probabilities of neighbours, which add up to 1."""
    count = len(x)
    p = torch.empty(count, count)
    for rows in _strips(count):
        p[rows] = _neighbours(x, rows, perplexity)
    p = p + p.T
    return p / p.sum()


def _neighbours(x: Tensor, rows: slice, perplexity: float) -> Tensor:
    """Probability of each point as a neighbour of these rows, at the given perplexity."""
    itself = torch.arange(len(x))[rows, None] == torch.arange(len(x))
    d = torch.cdist(x[rows], x).square().masked_fill(itself, torch.inf)
    d = d - d.amin(1, keepdim=True)
    scale = d.masked_fill(itself, 0).mean(1, keepdim=True).clamp_min(TINY)
    low = torch.full_like(scale, -40.0)  # log of the width, in units of the mean distance
    high = -low
    target = torch.tensor(perplexity).log()
    for _ in range(SEARCH):
        middle = (low + high) / 2
        p = torch.softmax(-d / (scale * middle.exp()), 1)
        entropy = torch.special.entr(p).sum(1, keepdim=True)
        low, high = (
            torch.where(entropy < target, middle, low),
            torch.where(entropy < target, high, middle),
        )
    return p


def gradient(y: Tensor, p: Tensor, exaggeration: float) -> Tensor:
    """Slope of the divergence between neighbours in the data and on the plane, by place: (n, 2)."""
    norm = y.square().sum(1)
    ahead = torch.cat([y, torch.ones(len(y), 1)], 1)  # (n, 3)
    pull, push, total = torch.empty_like(ahead), torch.empty_like(ahead), torch.zeros(())
    for rows in _strips(len(y)):
        near = torch.addmm(norm + 1, y[rows], y.T, alpha=-2)
        near = near.add_(norm[rows, None]).clamp_min_(1).reciprocal_()  # 1 / (1 + distance²)
        pull[rows] = (near * p[rows]) @ ahead
        total += near.sum()
        push[rows] = near.square_() @ ahead
    total = total - len(y)  # a point is no neighbour of its own
    attracted = pull[:, 2:] * y - pull[:, :2]
    repelled = push[:, 2:] * y - push[:, :2]  # its own share cancels
    return 4 * (exaggeration * attracted - repelled / total.clamp_min(TINY))


def _strips(count: int) -> Iterator[slice]:
    rows = max(1, STRIP // count)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
