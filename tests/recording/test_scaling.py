"""Scaling by a signal's own statistics, and baselines up to the twelfth degree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sleeptools.recording.signals import scaling

SCALES = some.floats(1e-3, 1e4)
LEVELS = some.floats(-1e4, 1e4)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@settings(deadline=None)
@given(SCALES, some.floats(-100, 100))
def test_the_gain_of_an_amplifier_makes_no_difference(gain: float, level: float) -> None:
    wave = noise(4000)
    for scale in (scaling.z_score, scaling.robust):
        moved = (gain * (wave + level)).astype(np.float32)
        np.testing.assert_allclose(scale(moved), scale(wave), atol=2e-3)


def test_what_the_scales_are() -> None:
    wave = noise(3, 50_000) * np.float32(20) + np.float32(7)
    found = scaling.z_score(wave).astype(np.float64)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(-1), 1, atol=1e-5)
    found = scaling.robust(wave)
    np.testing.assert_allclose(np.percentile(found, (25, 50, 75), axis=-1)[1], 0, atol=1e-6)
    low, _, high = np.percentile(found, (25, 50, 75), axis=-1)
    np.testing.assert_allclose(high - low, 1, atol=1e-5)


def test_an_artefact_moves_the_robust_scale_little() -> None:
    wave = noise(10_000)
    spoilt = wave.copy()
    spoilt[:50] = 5000
    assert np.abs(scaling.robust(spoilt)[50:] - scaling.robust(wave)[50:]).max() < 0.05
    assert scaling.z_score(spoilt)[50:].std() < 0.01


def test_what_is_flat_becomes_zero() -> None:
    rows = np.stack([np.full(100, 7, np.float32), noise(100)])
    for scale in (scaling.z_score, scaling.robust):
        found = scale(rows)
        assert (found[0] == 0).all()
        assert np.isfinite(found).all()
        assert found[1].std() > 0.5


def test_clip() -> None:
    assert scaling.clip(np.array([-9, -1, 0, 3, 9], np.float32), 2).tolist() == [-2, -1, 0, 2, 2]


@settings(max_examples=25, deadline=None)
@given(some.integers(0, 12), some.sampled_from([256, 512, 3000, 60_000]), SCALES, LEVELS)
def test_a_polynomial_is_removed_whole(degree: int, size: int, scale: float, level: float) -> None:
    x = np.linspace(-1, 1, size)
    rng = np.random.default_rng(degree)
    trend = np.polynomial.chebyshev.chebval(x, scale * rng.normal(size=degree + 1)) + level
    found = scaling.without_baseline(np.stack([trend, 2 * trend]).astype(np.float32), degree)
    assert np.abs(found).max() < 1e-5 * np.abs(trend).max()


@pytest.mark.parametrize("degree", [0, 1, 5, 12])
def test_it_is_the_least_squares_fit(degree: int) -> None:
    wave = noise(3, 700)
    x = np.linspace(-1, 1, 700)
    fit = [
        np.polynomial.chebyshev.chebval(x, np.polynomial.chebyshev.chebfit(x, w, degree))
        for w in wave.astype(np.float64)
    ]
    found = scaling.without_baseline(wave, degree)
    np.testing.assert_allclose(found, wave - fit, atol=1e-5)
    again = scaling.without_baseline(found, degree)
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_a_baseline_is_of_each_epoch_alone() -> None:
    epochs = noise(300, 64) + np.arange(300, dtype=np.float32)[:, None] * 10
    found = scaling.without_baseline(epochs, 1)
    both = [scaling.without_baseline(part, 1) for part in (epochs[:100], epochs[100:])]
    np.testing.assert_allclose(found, np.concatenate(both), atol=1e-5)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-4)


def test_an_input_is_never_changed() -> None:
    wave = noise(2, 100)
    before = wave.copy()
    for do in (
        scaling.z_score,
        scaling.robust,
        scaling.magnitude,
        lambda x: scaling.without_baseline(x, 3),
    ):
        do(wave)
        assert np.array_equal(wave, before)
