"""Resampling keeps what is below both Nyquist rates, at every rate, without edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sleeptools.errors import DataError
from sleeptools.preprocessing import epoching
from sleeptools.recording.signals import resampling


@settings(max_examples=30, deadline=None)
@given(some.integers(64, 2000), some.sampled_from([64, 100, 128, 256]))
def test_a_slow_sine_keeps_its_amplitude(rate: int, to: int) -> None:
    seconds, frequency = 20, 10.0
    time = np.arange(seconds * rate) / rate
    found = resampling.resample(np.sin(2 * np.pi * frequency * time).astype(np.float32), rate, to)
    assert len(found) == seconds * to
    wanted = np.sin(2 * np.pi * frequency * np.arange(len(found)) / to)
    inner = slice(to, -to)
    assert np.abs(found[inner] - wanted[inner]).max() < 0.005


def test_a_constant_stays_constant_to_the_very_ends() -> None:
    found = resampling.resample(np.full(300, 3.5, np.float32), 1, 100)
    np.testing.assert_allclose(found, 3.5, rtol=1e-3)


def test_an_envelope_is_interpolated_not_repeated() -> None:
    envelope = np.sin(np.arange(120) / 5).astype(np.float32)
    found = resampling.resample(envelope, 1, 100)
    np.testing.assert_allclose(found[::100], envelope, atol=0.02)
    assert np.abs(np.diff(found)).max() < 0.01  # repeating samples would jump by 0.2


def test_the_same_rate_is_left_alone() -> None:
    samples = np.arange(10, dtype=np.float32)
    assert resampling.resample(samples, 100, 100) is samples


@pytest.mark.parametrize("rate", [24414.0625 / 24, 24414.0625 / 48, 511.95964, 781.3515625])
def test_odd_rates_keep_the_time(rate: float) -> None:
    """Recorders whose clock is divided by a number give such rates; 2 h, to a part of a sample."""
    seconds, to = 7200, 64.0
    time = np.arange(round(seconds * rate)) / rate
    found = resampling.resample(np.sin(2 * np.pi * 2 * time).astype(np.float32), rate, to)
    wanted = np.sin(2 * np.pi * 2 * np.arange(len(found)) / to)
    assert np.abs(found - wanted)[64:-64].max() < 0.005


def test_a_ratio_that_would_drift_is_refused() -> None:
    samples = np.zeros(round(7200 * 249.999), np.float32)
    assert len(resampling.resample(samples[:9000], 249.999, 100)) == 3600
    with pytest.raises(DataError, match=r"39999/99997, the end would lie 0\.0072 s beside"):
        resampling.resample(samples, 249.999, 100)


@pytest.mark.parametrize("rate", [100.0, 511.95964])
def test_cut_starts_at_the_first_sample_of_the_epoch(rate: float) -> None:
    samples = np.arange(round(100 * rate), dtype=np.float32)
    found = epoching.cut_signal(samples, rate, np.array([0.0, 1.0, 40.0]), round(rate))
    assert found.shape == (3, round(rate))
    assert found[:, 0].tolist() == [np.ceil(s * rate - 1e-6) for s in (0.0, 1.0, 40.0)]
