"""Filters keep amplitude and time of what passes, at any rate; steps commute where they should."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sleeptools import native
from sleeptools.errors import DataError
from sleeptools.recording.signals import filters, resampling

RATES = some.one_of(some.integers(64, 2000), some.floats(64, 2000))
SECONDS = 20


def sine(rate: float, hz: float = 10.0, seconds: float = SECONDS) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def middle(values: np.ndarray, rate: float, edge: float) -> np.ndarray:
    return values[round(edge * rate) : -round(edge * rate)]


def bands(rate: float) -> dict[str, filters.Sections]:
    return {
        "band-pass": filters.butterworth("bandpass", (0.3, 30), 4, rate),
        "high-pass": filters.butterworth("highpass", (0.3,), 4, rate),
        "low-pass": filters.butterworth("lowpass", (30,), 8, rate),
        "notch": filters.notch(0.39 * rate, 2, rate),
    }


@settings(max_examples=25, deadline=None)
@given(RATES, some.sampled_from(["band-pass", "high-pass", "low-pass", "notch"]))
def test_ten_hertz_pass_at_every_rate(rate: float, kind: str) -> None:
    """To 0.5 % and to the sample, from 2 s after the start to 2 s before the end."""
    wave = sine(rate)
    found = filters.zero_phase(wave, bands(rate)[kind])
    assert found.shape == wave.shape
    assert np.abs(middle(found - wave, rate, 2)).max() < 0.005


@settings(max_examples=25, deadline=None)
@given(RATES, some.sampled_from([64.0, 100.0, 128.0, 200.0]))
def test_ten_hertz_pass_the_whole_way(rate: float, to: float) -> None:
    """Resampled and then filtered, as every preset has it: to 0.5 %."""
    there = resampling.resample(sine(rate), rate, to)
    assert abs(len(there) / to - SECONDS) <= 1 / min(rate, to)
    found = filters.zero_phase(there, bands(to)["band-pass"])
    wanted = np.sin(2 * np.pi * 10 * np.arange(len(found)) / to)
    assert np.abs(middle(found - wanted, to, 2)).max() < 0.005


@settings(max_examples=25, deadline=None)
@given(RATES)
def test_what_should_not_pass_does_not(rate: float) -> None:
    drift = sine(rate, 0.02, 100) * 500 + 1000
    found = filters.zero_phase(drift, bands(rate)["high-pass"])
    assert np.abs(middle(found, rate, 10)).max() < 0.5
    if rate > 110:
        mains = sine(rate, 50)
        assert (
            np.abs(middle(filters.zero_phase(mains, filters.notch(50, 2, rate)), rate, 4)).max()
            < 0.01
        )
        low = filters.butterworth("lowpass", (30,), 8, rate)
        assert np.abs(middle(filters.zero_phase(mains, low), rate, 4)).max() < 0.01


@settings(max_examples=25, deadline=None)
@given(RATES, some.floats(-1e4, 1e4))
def test_a_constant_goes_to_the_very_ends(rate: float, level: float) -> None:
    constant = np.full(round(5 * rate), level, np.float32)
    scale = max(1.0, abs(level))
    for kind in ("band-pass", "high-pass"):
        assert np.abs(filters.zero_phase(constant, bands(rate)[kind])).max() < 1e-4 * scale
    for kind in ("low-pass", "notch"):
        kept = filters.zero_phase(constant, bands(rate)[kind])
        np.testing.assert_allclose(kept, level, atol=1e-4 * scale)


@pytest.mark.parametrize("rate", [64.0, 511.95964, 2000.0])
def test_nothing_moves_in_time(rate: float) -> None:
    """The correlation with noise of the pass band is largest at lag 0."""
    noise = np.random.default_rng(0).normal(size=round(60 * rate)).astype(np.float32)
    found = filters.zero_phase(noise, bands(rate)["band-pass"])
    lags = np.arange(-5, 6)
    inner = slice(100, -100)
    overlap = [np.dot(found[inner], np.roll(noise, k)[inner]) for k in lags]
    assert lags[np.argmax(overlap)] == 0
    assert np.allclose(overlap, overlap[::-1], rtol=0.02)


def test_resampling_moves_nothing_either() -> None:
    pulse = np.zeros(6000, np.float32)
    pulse[3000] = 1
    for to in (64, 100, 128, 200, 511):
        found = resampling.resample(pulse, 200, to)
        peak = np.argmax(found)
        assert abs(peak / to - 15) <= 0.5 / to


@settings(max_examples=20, deadline=None)
@given(some.integers(64, 2000), some.sampled_from([64, 100, 128, 256]))
def test_resample_then_filter_is_filter_then_resample(rate: float, to: int) -> None:
    """To 2 %, for near half the rate a corner is a little steeper. 10 s from the edges."""
    noise = np.random.default_rng(1).normal(size=round(60 * rate)).astype(np.float32)
    noise = filters.zero_phase(noise, filters.butterworth("lowpass", (20,), 8, rate))
    band = ("bandpass", (0.5, 5.0), 2)
    one = filters.zero_phase(resampling.resample(noise, rate, to), filters.butterworth(*band, to))
    two = resampling.resample(filters.zero_phase(noise, filters.butterworth(*band, rate)), rate, to)
    difference = middle(one - two, to, 10)
    assert np.sqrt(np.mean(difference**2)) < 0.02 * np.sqrt(np.mean(one**2))


def test_a_filter_of_a_part_is_the_part_of_the_filtered() -> None:
    """Away from the edges of the part, 15 s; so no epoch has an edge of its own."""
    rate = 100.0
    noise = np.random.default_rng(2).normal(size=20_000).astype(np.float32)
    band = bands(rate)["band-pass"]
    whole = filters.zero_phase(noise, band)
    part = filters.zero_phase(noise[5000:15000], band)
    np.testing.assert_allclose(part[1500:-1500], whole[6500:13500], atol=1e-4)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(3).normal(size=(3, 5000)).astype(np.float32)
    band = bands(100.0)["band-pass"]
    for run in (filters.zero_phase, filters.causal):
        whole = run(noise, band)
        with monkeypatch.context() as patch:
            patch.setattr(filters, "BLOCK", 1000)
            np.testing.assert_allclose(run(noise, band), whole, atol=1e-6)


def test_it_is_the_filter_of_scipy() -> None:
    from scipy.signal import sosfilt, sosfiltfilt

    noise = np.random.default_rng(4).normal(10, 30, (2, 8000)).astype(np.float32)
    band = bands(100.0)["band-pass"]
    wanted = sosfiltfilt(band, noise.astype(np.float64), padtype="even", padlen=filters.edge(band))
    np.testing.assert_allclose(filters.zero_phase(noise, band), wanted, atol=2e-3)
    np.testing.assert_allclose(filters.causal(noise, band), sosfilt(band, noise), atol=2e-3)


def test_a_row_is_filtered_as_if_alone() -> None:
    noise = np.random.default_rng(5).normal(size=(2, 3, 900)).astype(np.float32)
    band = bands(100.0)["low-pass"]
    found = filters.zero_phase(noise, band)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(
                found[i, j], filters.zero_phase(noise[i, j], band), atol=1e-6
            )


def test_an_input_is_never_changed() -> None:
    wave = sine(100)
    before = wave.copy()
    for run in (filters.zero_phase, filters.causal):
        run(wave, bands(100)["band-pass"])
        assert np.array_equal(wave, before)


@pytest.mark.parametrize("corners", [(50.0,), (60.0,), (30.0, 10.0), (10.0, 10.0), (0.0,)])
def test_impossible_corners(corners: tuple[float, ...]) -> None:
    kind = "bandpass" if len(corners) == 2 else "lowpass"
    with pytest.raises(DataError, match="expected rising frequencies below 50 Hz"):
        filters.butterworth(kind, corners, 4, 100)


# --- every variant of the native core against scipy -----------------------------------------------


@pytest.fixture(params=native.variants()[1:])
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


def both(variant: str, run: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    with native.using_variant(variant):
        found = run()
    with native.using_variant("reference"):
        return found, run()


SHAPES = [(1,), (2,), (63,), (2500,), (200_001,), (3, 700), (16, 65), (37, 3000), (2, 3, 40_000)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["band-pass", "high-pass", "low-pass", "notch"])
def test_a_variant_filters_as_scipy(variant: str, shape: tuple[int, ...], kind: str) -> None:
    """To 1e-5 of the amplitude, also where a long row is filtered in parts, from an offset."""
    noise = np.random.default_rng(0).normal(1000, 30, shape).astype(np.float32)
    for run in (filters.zero_phase, filters.causal):
        found, wanted = both(variant, lambda run=run: run(noise, bands(100.0)[kind]))
        np.testing.assert_allclose(found, wanted, atol=1e-5 * 1000)


@pytest.mark.parametrize("rates", [(200, 100), (1, 100), (100, 128), (512, 64), (511.95, 512)])
def test_a_variant_resamples_as_scipy(variant: str, rates: tuple[float, float]) -> None:
    for shape in [(1,), (17,), (20_011,), (4, 300)]:
        noise = np.random.default_rng(0).normal(5, 1, shape).astype(np.float32)
        found, wanted = both(variant, lambda noise=noise: resampling.resample(noise, *rates))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-5 * 5)


@pytest.mark.parametrize("rate", [64.0, 511.95964, 2000.0])
@pytest.mark.parametrize("order", range(1, 13))
def test_the_design_is_that_of_scipy(order: int, rate: float) -> None:
    from scipy.signal import butter, iirnotch, sosfreqz

    cases = {
        "bandpass": [(0.3, 30), (8, 12), (0.1, 31.9)],
        "highpass": [(0.5,)],
        "lowpass": [(25,)],
    }
    for kind, wanted in cases.items():
        for corners in wanted:
            ours = filters.butterworth(kind, corners, order, rate)
            theirs = butter(order, np.squeeze(corners), kind, fs=rate, output="sos")
            assert ours.shape == theirs.shape
            found = [sosfreqz(s, 2000, fs=rate)[1] for s in (ours, theirs)]
            np.testing.assert_allclose(*found, atol=1e-8)
    b, a = iirnotch(20, 10, rate)
    np.testing.assert_allclose(filters.notch(20, 2, rate)[0], [*b, *a], atol=1e-12)


def test_nothing_of_scipy_is_imported_where_the_core_is(tmp_path: Path) -> None:
    if not native.available():
        pytest.skip(native.describe())
    code = """
import sys
import numpy as np
from sleeptools.commands import preprocess
from sleeptools.recording.signals import filters, resampling
filters.zero_phase(np.ones(500, np.float32), filters.butterworth("bandpass", (0.3, 35), 4, 100))
resampling.resample(np.ones(500, np.float32), 200, 100)
assert not [m for m in sys.modules if m.startswith("scipy")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
