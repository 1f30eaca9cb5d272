"""Levels of bands: those of scipy's Welch, without scipy, whatever the offset."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import signal

from sleeptools.recording.signals import band_levels
from sleeptools.recording.signals.band_levels import BANDS, BLOCK, RATE


def by_scipy(epochs: np.ndarray) -> np.ndarray:
    hertz, density = signal.welch(epochs, RATE, nperseg=256, axis=-1)
    powers = [density[:, (hertz >= a) & (hertz <= b)].mean(1) for a, b in BANDS.values()]
    variance, steps = epochs.var(1), np.diff(epochs, axis=1).var(1)
    levels = 10 * np.log10(np.stack([*powers, variance], 1))
    return np.column_stack([levels, np.sqrt(steps / variance)])


@pytest.mark.parametrize("offset", [0.0, 4000.0])
@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 3])
def test_equal_those_of_scipy(offset: float, count: int) -> None:
    noise = np.random.default_rng(2).standard_normal((count, 3000)).cumsum(1)
    epochs = (noise + offset).astype(np.float32)
    levels = band_levels.band_levels(epochs)
    np.testing.assert_allclose(levels, by_scipy(epochs.astype(float)), atol=1e-3, rtol=1e-4)
    np.testing.assert_array_equal(band_levels.band_powers(epochs), levels[:, : len(BANDS)])
    np.testing.assert_allclose(band_levels.band_powers(-epochs), levels[:, : len(BANDS)])


def test_an_epoch_that_is_not_finite_touches_no_other() -> None:
    epochs = np.random.default_rng(3).standard_normal((5, 3000)).astype(np.float32)
    before = band_levels.band_powers(epochs)
    epochs[2, 77] = np.nan
    after = band_levels.band_powers(epochs)
    assert np.isnan(after[2]).all()
    np.testing.assert_array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))
    assert band_levels.band_powers(epochs[:0]).shape == (0, len(BANDS))


def test_scipy_is_not_imported() -> None:
    code = (
        "import sys; from sleeptools.recording.signals import band_levels; import numpy as np; "
        "band_levels.band_levels(np.ones((2, 3000), np.float32)); "
        "sys.exit(any(name.split('.')[0] == 'scipy' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
