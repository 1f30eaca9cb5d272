"""Epochs whose signal was not there: flat, railed, out of range; and those that only look so."""

import time
from dataclasses import replace

import numpy as np
import pytest

from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, Signal, read_recording, write_recording
from sleeptools.recording.signals import quality

RATE, EPOCHS, SIZE = 100.0, 10, 3000
EDF, BDF = (-32768, 32767), (-(1 << 23), (1 << 23) - 1)


def noise(amplitude: float = 300, seed: int = 0) -> np.ndarray:
    """Ten epochs of EEG, as stored numbers of 0.1 uV."""
    return np.random.default_rng(seed).normal(0, amplitude, EPOCHS * SIZE).round()


def signal(
    samples,
    *,
    rate=RATE,
    dtype=np.int16,
    gain=0.1,
    stored_range=EDF,
    unit="uV",
    modality="eeg",
    label="EEG C4-M1",
) -> Signal:
    stored = np.asarray(samples, dtype)
    return Signal(
        label, rate, unit, modality, len(stored), lambda: stored, gain, 0.0, dtype, stored_range
    )


def counted(judged: Signal, epoch_seconds: float = 30.0) -> dict[str, int]:
    return quality.counts(quality.judge_whole(judged, judged.read(), epoch_seconds))


def test_an_ordinary_night_has_nothing_to_count() -> None:
    assert counted(signal(noise())) == {}
    assert counted(signal(noise(), dtype=np.float32, gain=1.0, stored_range=None)) == {}
    assert counted(signal(noise(), rate=1.0)) == {}


@pytest.mark.parametrize("level", [0, 400, 20000, -7])
@pytest.mark.parametrize("trembling", [False, True])
def test_flat_at_any_level_and_with_one_bit_of_noise(level: int, trembling: bool) -> None:
    samples = noise()
    samples[2 * SIZE : 6 * SIZE] = level
    if trembling:
        samples[2 * SIZE : 6 * SIZE : 7] += 1
    found = counted(signal(samples))
    assert found.pop("flat") == 4
    assert not found
    masks = quality.judge(signal(samples), samples.astype(np.int16), 30.0 * np.arange(10), 30.0)
    assert masks["flat"].tolist() == [2 <= i < 6 for i in range(10)]


def test_half_an_epoch_is_not_flat() -> None:
    samples = noise()
    samples[SIZE // 2 : SIZE * 2 - SIZE // 2] = 0  # the halves of two epochs
    assert counted(signal(samples)) == {}


def test_quiet_is_not_flat() -> None:
    assert counted(signal(noise(0.7))) == {}  # 0.07 uV rms: several steps
    assert counted(signal(noise(10), gain=0.001)) == {"flat": 10}  # 0.08 uV from end to end
    floats = signal(noise(1) / 100, dtype=np.float32, gain=1.0, stored_range=None)
    assert counted(floats) == {"flat": 10}


def test_what_is_no_voltage_or_slow_may_stand_still() -> None:
    still = np.full(EPOCHS * SIZE, 37)
    assert counted(signal(still, unit="%", modality="spo2")) == {}
    envelope = signal(np.full(EPOCHS * 30, 37), rate=1.0, modality="emg")
    assert counted(envelope) == {}
    assert counted(signal(np.full(EPOCHS * 300, 37), rate=10.0)) == {"flat": 10}
    assert counted(signal(still, unit="", modality="eeg")) == {
        "flat": 10
    }  # no unit needed for that
    volts = signal(noise(), unit="", gain=1e-7)
    assert counted(volts) == {}


@pytest.mark.parametrize(("rail", "limits"), [(32767, EDF), (-32768, EDF), (8191, (-8192, 8191))])
def test_railed_on_either_side(rail: int, limits: tuple[int, int]) -> None:
    samples = noise()
    samples[3 * SIZE : 5 * SIZE] = rail
    samples[7 * SIZE : 7 * SIZE + 31] = rail  # just over 1 % of an epoch
    samples[9 * SIZE : 9 * SIZE + 30] = rail  # just not
    assert counted(signal(samples, stored_range=limits)) == {"railed": 3}


@pytest.mark.parametrize("rail", BDF)
def test_rails_of_24_bits(rail: int) -> None:
    samples = noise(3000)
    samples[: 2 * SIZE] = rail
    assert counted(signal(samples, dtype=np.int32, gain=0.03125, stored_range=BDF)) == {"railed": 2}


def test_the_extreme_value_is_the_rail_where_no_limit_is_known_or_reached() -> None:
    samples = noise()
    samples[100:500] = 20000
    assert counted(signal(samples, stored_range=None)) == {"railed": 1}
    assert counted(signal(samples)) == {"railed": 1}


def test_waves_without_their_tips_are_clipped_and_no_more() -> None:
    samples = np.clip(noise(2400), -1500, 1500)  # +-150 uV
    assert counted(signal(samples, stored_range=(-1500, 1500))) == {"clipped": 10}
    assert counted(signal(samples)) == {"clipped": 10}
    samples[:SIZE] = 1500  # stays there
    assert counted(signal(samples, stored_range=(-1500, 1500))) == {"railed": 1, "clipped": 9}
    envelope = signal(np.full(300, 2047), rate=1.0, modality="emg", stored_range=(-2048, 2047))
    assert counted(envelope) == {"clipped": 10}  # the envelope of a loud EMG


def test_a_rectified_signal_rests_at_zero() -> None:
    samples = np.maximum(noise(), 0)
    assert counted(signal(samples, stored_range=(0, 32767))) == {}


def test_beyond_the_declared_range() -> None:
    samples = noise()
    samples[4 * SIZE + 5] = 2048
    samples[8 * SIZE + 5] = -2049
    samples = np.clip(samples, -2049, 2048)
    inside = np.clip(samples, -2048, 2047)
    assert counted(signal(samples, stored_range=(-2048, 2047))) == {"out of range": 2}
    assert counted(signal(inside, stored_range=(-2048, 2047))) == {}


def test_not_finite() -> None:
    samples = noise()
    samples[5], samples[SIZE + 5], samples[SIZE + 6] = np.nan, np.inf, -np.inf
    floats = signal(samples, dtype=np.float32, gain=1.0, stored_range=None)
    assert counted(floats) == {"not finite": 2}
    infinite = noise()
    infinite[SIZE : 2 * SIZE] = np.inf  # less itself it is no number
    assert counted(signal(infinite, dtype=np.float32, stored_range=None)) == {"not finite": 1}
    every = signal(np.full(SIZE, np.nan), dtype=np.float32, stored_range=None)
    assert counted(every) == {"not finite": 1}
    bridged = quality.bridged(np.array([np.nan, 1, np.inf, 3], np.float32))
    assert bridged.tolist() == [1, 1, 2, 3]
    assert quality.bridged(np.full(3, np.nan, np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rate", [128.0, 200.0, 256.0, 511.95964])
@pytest.mark.parametrize("hz", [49.9, 50.0, 60.0])
def test_mains(rate: float, hz: float) -> None:
    seconds = np.arange(round(301 * rate)) / rate
    quiet = np.random.default_rng(1).normal(0, 100, len(seconds))
    loud = 1000 + quiet + 200 * np.sin(2 * np.pi * hz * seconds) * (seconds >= 150)
    assert counted(signal(loud, rate=rate)) == {"mains": 5}
    assert counted(signal(quiet + 100 * np.sin(2 * np.pi * hz * seconds), rate=rate)) == {}
    other = signal(quiet + 300 * np.sin(2 * np.pi * 40 * seconds), rate=rate)
    assert counted(other) == {}


def test_nothing_is_mains_at_twice_its_frequency() -> None:
    assert not quality.mains(np.tile(np.array([1.0, -1.0], np.float32), (3, 50)), 100.0).any()


def test_a_difference_is_as_good_as_both_of_its_electrodes() -> None:
    c4, m1 = noise(seed=1), noise(seed=2)
    c4[:SIZE], m1[SIZE : 3 * SIZE] = 0, 32767
    c4[5 * SIZE : 6 * SIZE] = m1[5 * SIZE : 6 * SIZE]  # joined by a bridge of paste
    both = {n: signal(x, label=n) for n, x in (("C4-Ref", c4), ("M1-Ref", m1))}
    (made,) = montage.pick(Recording("a", "a", 1, both), [montage.MontageChannel("EEG C4-M1")])
    assert counted(made) == {"railed": 2, "flat": 2}


def test_epochs_off_the_grid_and_at_odd_rates() -> None:
    samples = noise()
    samples[SIZE + 1500 : 2 * SIZE + 1500] = 0
    still = signal(samples)
    onsets = np.array([15.0, 45.0, 105.0, 135.0])
    masks = quality.judge(still, still.read(), onsets, 30.0)
    assert masks["flat"].tolist() == [False, True, False, False]
    odd = signal(np.zeros(5120), rate=511.95964)
    assert counted(odd, 1.0) == {"flat": 10}
    short = signal(np.zeros(100))
    assert counted(short) == {}


def test_the_gravest_reason_counts() -> None:
    masks = [{k: np.zeros(4, bool) for k in quality.KINDS} for _ in range(2)]
    masks[0]["flat"][:3] = True
    masks[1]["railed"][1] = masks[1]["clipped"][:] = True
    assert quality.reasons(masks).tolist() == ["flat", "railed", "flat", ""]


def test_epochs_that_touch_a_gap_are_not_judged() -> None:
    samples = noise()
    samples[8000:11000] = 0  # 90 to 120 s, after gaps of 10 s
    night = replace(signal(samples), gaps=((59.0, 64.0), (85.0, 90.0)))
    onsets = np.arange(0.0, 150.0, 30.0)
    assert quality.touch_gap(night, onsets, 30.0).tolist() == [False, True, True, False, False]
    assert quality.whole_epochs(night, 30.0).tolist() == [0.0, *np.arange(90.0, 300.0, 30.0)]
    masks = quality.judge_whole(night, night.read(), 30.0)
    assert masks["flat"].tolist() == [False, True, *[False] * 6]
    assert quality.count_in_gaps([night], 30.0) == 2
    assert quality.count_in_gaps([], 30.0) == 0
    exact = replace(night, gaps=((30.0, 60.0),))
    assert quality.touch_gap(exact, onsets, 30.0).tolist() == [False, True, False, False, False]


def test_our_own_recordings_keep_the_declared_limits(tmp_path) -> None:
    night = Recording("a", "a", 1, {"EEG C4-M1": signal(noise())})
    write_recording(tmp_path / "a.safetensors", night, {})
    assert read_recording(tmp_path / "a.safetensors").signals["EEG C4-M1"].stored_range == EDF


def test_a_night_of_four_channels_is_quick() -> None:
    samples = np.random.default_rng(0).normal(0, 300, 8 * 3600 * 100)
    night = signal(samples)
    onsets = 30.0 * np.arange(960)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(4):
            quality.judge(night, night.read(), onsets, 30.0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_a_sample_beyond_what_float32_holds_is_not_finite():
    stored = np.array([1e38, -1e38, 1.0], np.float32)
    signal = Signal("EEG", 1.0, "uV", "eeg", 3, lambda: stored, gain=1e6)
    assert signal.samples().tolist() == [np.inf, -np.inf, 1e6]
