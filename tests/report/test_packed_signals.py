"""Packed signals come back within half a step, whatever the signal is."""

import numpy as np
import pytest

from sleeptools.report.packed_signals import FIRST_CHARACTER, pack, unpack


def signal(kind: str, n: int, rate: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    t = np.arange(n) / rate
    wave = 40 * np.sin(2 * np.pi * 1.3 * t) + rng.normal(0, 5, n)
    return {
        "wave": wave,
        "noise": rng.normal(0, 20, n),
        "flat": np.full(n, 7.5),
        "steps": np.sign(np.sin(t)) * 3000,
        "drifts": wave + 1e4 * t,
        "rails": np.where(np.arange(n) % 2, 3.2e4, -3.2e4),
        "spike": np.where(np.arange(n) == n // 2, 1e6, wave),
        "tiny": wave * 1e-9,
    }[kind].astype(np.float32)


KINDS = ["wave", "noise", "flat", "steps", "drifts", "rails", "spike", "tiny"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "rate"), [(4321, 100.0), (25_000, 199.6), (61, 1.0), (1, 256.0)])
def test_within_half_a_step_of_each_block(kind: str, n: int, rate: float) -> None:
    samples = signal(kind, n, rate)
    packed = pack(samples, rate)
    step = np.repeat(packed.steps, packed.block)[:n]
    slack = np.abs(samples) * 1e-6  # of float32
    assert np.all(np.abs(unpack(packed) - samples) <= step * 0.502 + slack)
    ranges = [np.ptp(samples[i : i + packed.block]) for i in range(0, n, packed.block)]
    assert np.all(packed.steps <= np.maximum(np.array(ranges) / 253.9, (np.array(ranges) == 0)))


def test_samples_that_are_not_there_stay_so_and_disturb_none() -> None:
    samples = signal("wave", 6000, 100.0)
    samples[[0, 17, 5999]] = np.nan
    samples[1500:3200] = np.nan
    samples[40] = np.inf
    packed = pack(samples, 100.0)
    back = unpack(packed)
    there = np.isfinite(samples)
    assert np.array_equal(np.isfinite(back), there)
    step = np.repeat(packed.steps, packed.block)[:6000]
    assert np.all(np.abs(back - samples)[there] <= 0.502 * step[there])


def test_no_step_is_finer_than_the_file_is() -> None:
    packed = pack(np.round(signal("wave", 3000, 100.0)), 100.0, finest=1.0)
    assert packed.steps.min() == 1.0
    assert np.array_equal(unpack(packed), np.round(signal("wave", 3000, 100.0)))


def test_the_text_needs_no_escape_and_holds_15_bits_a_character() -> None:
    packed = pack(signal("noise", 20_000, 100.0), 100.0)
    codes = {ord(c) for c in packed.text}
    assert min(codes) >= FIRST_CHARACTER
    assert max(codes) < FIRST_CHARACTER + (1 << 15)  # below the surrogates
    assert len(packed.text) * 15 <= 20_000 * 8 * 1.02


def test_prediction_beats_plain_differences_on_a_smooth_signal() -> None:
    t = np.arange(60_000) / 200.0
    smooth = sum(np.sin(2 * np.pi * f * t + f) * 20 / f for f in (0.7, 2.1, 9.3, 13.7, 21.0))
    packed = pack(smooth.astype(np.float32), 200.0)
    assert len(packed.text) * 15 / len(t) < 3  # bits a sample; differences need 5
