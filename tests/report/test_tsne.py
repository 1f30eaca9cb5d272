"""t-SNE: against scikit-learn's, and its parts against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

import golden_models
from sleeptools.report import tsne


def clouds(count: int = 150, features: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Points in three clouds, and which each is of."""
    rng = np.random.default_rng(0)
    whose = rng.integers(0, 3, count)
    centres = rng.normal(0, 2, (3, features))
    return (centres[whose] + rng.normal(0, 1, (count, features))).astype(np.float32), whose


def divergence(scores: np.ndarray, y: np.ndarray) -> float:
    p = tsne.affinities(scores, tsne.PERPLEXITY)
    q = 1 / (1 + np.square(y[:, None] - y).sum(2))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    return float((p * np.log((p + 1e-12) / (q + 1e-12))).sum())


def test_neighbours_stay_as_with_scikit_learn() -> None:
    x, whose = clouds()
    scores = PCA(50, svd_solver="full").fit_transform(x).astype(np.float32)
    ours = tsne.tsne(scores, 0)
    theirs = TSNE(init="pca", method="exact", random_state=0).fit_transform(scores)
    assert divergence(scores, ours) < divergence(scores, theirs) * 1.05
    close_by = [trustworthiness(x, y, n_neighbors=10) for y in (ours, theirs)]
    assert close_by[0] > close_by[1] - 0.01
    distances = np.square(ours[:, None] - ours).sum(2) + 1e9 * np.eye(len(ours))
    assert (whose[distances.argmin(1)] == whose).mean() > 0.95
    assert ours.dtype == np.float32
    assert np.array_equal(ours, tsne.tsne(scores, 0))


def test_the_slope_is_that_of_the_divergence() -> None:
    x, _ = clouds(12, 6)
    p = tsne.affinities(x, 3.0)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(p, p.T, rtol=1e-6)
    y = torch.from_numpy(golden_models.uniform((12, 2), 1)).double().requires_grad_()
    q = 1 / (1 + (y[:, None] - y).square().sum(2))
    q = q * (1 - torch.eye(12, dtype=torch.float64))
    (-(torch.from_numpy(p).double() * (q / q.sum() + torch.eye(12)).log()).sum()).backward()
    slope = tsne.gradient(y.detach().float().numpy(), p, 1.0)
    np.testing.assert_allclose(slope, y.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_neighbourhoods_have_the_size_asked_for() -> None:
    x, _ = clouds(80, 10)
    p = tsne.neighbour_probabilities(x, 12.0).astype(np.float64)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), 1)
    np.testing.assert_allclose(np.exp(entropy), 12.0, rtol=1e-3)
    assert np.abs(np.diagonal(p)).max() == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_few_points_and_equal_ones(count: int) -> None:
    same = tsne.tsne(np.zeros((count, 3), np.float32), 0)
    assert np.isfinite(same).all()
    assert same.shape == (count, 2)
    line = tsne.tsne(np.arange(count, dtype=np.float32)[:, None], 0)
    assert np.isfinite(line).all()
