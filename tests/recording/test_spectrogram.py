"""Multitaper spectrograms: levels and frequencies of known signals, gaps, and short epochs."""

import numpy as np
import pytest
from scipy import signal as scipy_signal

from sleeptools.recording.recording import Signal
from sleeptools.recording.signals.spectrogram import sine_tapers, spectrogram


def signal_of(values: np.ndarray, rate: float, **facts: object) -> Signal:
    values = values.astype(np.float32)
    return Signal("EEG C4-M1", rate, "uV", "eeg", len(values), lambda: values, **facts)


def test_tapers_are_orthonormal() -> None:
    tapers = sine_tapers(600, 3).astype(float)
    np.testing.assert_allclose(tapers @ tapers.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("rate", [64.0, 100.0, 256.0, 511.95964])
def test_white_noise_has_its_density_and_a_sine_its_frequency(rate: float) -> None:
    size = round(40 * 30 * rate)
    rng = np.random.default_rng(1)
    t = np.arange(size) / rate
    noise = rng.normal(0, 10, size)
    hertz, level = spectrogram(signal_of(noise, rate), np.arange(39) * 30.0, 30.0)
    assert hertz[-1] == pytest.approx(min(30, rate / 2), abs=0.2)
    expected = 10 * np.log10(100 / (rate / 2))  # uV^2/Hz, one-sided
    assert level[:, 5:-5].mean() == pytest.approx(expected, abs=0.2)
    _, level = spectrogram(
        signal_of(noise + 20 * np.sin(2 * np.pi * 12.5 * t), rate), np.arange(39) * 30.0, 30.0
    )
    assert np.all(abs(hertz[level.argmax(1)] - 12.5) < 0.5)


def test_levels_are_those_of_welch_to_a_decibel() -> None:
    rng = np.random.default_rng(2)
    pink = scipy_signal.lfilter([1], [1, -0.95], rng.normal(0, 5, 300000))
    hertz, level = spectrogram(signal_of(pink, 100.0), np.arange(100) * 30.0, 30.0)
    welch_hertz, density = scipy_signal.welch(pink, 100.0, nperseg=600)
    ours = np.interp(welch_hertz[12:170], hertz, (10 ** (level / 10)).mean(0))
    assert abs(10 * np.log10(ours / density[12:170])).mean() < 0.5


def test_epochs_that_the_signal_does_not_cover_have_no_level() -> None:
    made = signal_of(np.random.default_rng(3).normal(0, 10, 9000), 100.0, gaps=((45.0, 60.0),))
    _, level = spectrogram(made, np.array([0.0, 30.0, 60.0, 90.0]), 30.0)
    assert np.isfinite(level).all(1).tolist() == [True, False, True, False]


def test_epochs_of_a_second_are_one_window() -> None:
    made = signal_of(np.random.default_rng(4).normal(0, 10, 5120), 512.0)
    hertz, level = spectrogram(made, np.arange(10.0), 1.0)
    assert level.shape == (10, len(hertz)) == (10, 31)
    assert np.isfinite(level).all()
