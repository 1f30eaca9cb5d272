"""The simulator against what is known of real nights: stages, scorers, amplitudes, muscle tone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.signal import welch
from sklearn.metrics import cohen_kappa_score, f1_score

from sleeptools.datasets.simulation import architecture, scorer
from sleeptools.datasets.simulation.calibration import calibrated
from sleeptools.datasets.simulation.night import EXTRAS, SimulatedNight, simulate_night
from sleeptools.datasets.simulation.traits import draw_traits
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.hypnogram import from_events

NIGHTS = 20
CHANNELS = (*CASSETTE_CHANNELS, *EXTRAS)


@cache
def short(subject: int) -> SimulatedNight:
    return simulate_night(subject, 1, hours=3.0, seed=11, channels=CHANNELS)


@cache
def hypnograms() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (true codes, written codes) of whole nights, without signals."""
    nights = []
    for seed in range(NIGHTS):
        rng = np.random.default_rng([seed, 5])
        habits = draw_traits(rng, calibrated()).habits
        truth = architecture.simulate_codes(rng, architecture.recording_epochs(rng, None), habits)
        nights.append((truth, scorer.score(rng, truth).codes))
    return nights


def sleep_period(codes: np.ndarray) -> np.ndarray:
    """Stages from the first to the last epoch of sleep, without what is unscored."""
    stages = architecture.HUMAN_OF_CODE[codes[codes <= architecture.REM]]
    asleep = np.flatnonzero(stages)
    return stages[asleep[0] : asleep[-1] + 1]


def bouts(stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.r_[0, np.flatnonzero(np.diff(stages)) + 1]
    return stages[starts], np.diff(np.r_[starts, len(stages)])


def per_epoch(night: SimulatedNight, label: str) -> np.ndarray:
    signal = night.recording.signal(label)
    return signal.samples().reshape(len(night.truth), -1)


def test_a_night_is_the_same_again_and_another_is_not():
    first = simulate_night(3, 1, hours=1.0)
    again = simulate_night(3, 1, hours=1.0)
    other = simulate_night(3, 2, hours=1.0)
    assert first.events == again.events
    for label, signal in first.recording.signals.items():
        np.testing.assert_array_equal(signal.samples(), again.recording.signal(label).samples())
        assert not np.array_equal(signal.samples(), other.recording.signal(label).samples())


def test_a_subject_is_the_same_person_every_night():
    nights = [simulate_night(4, night, hours=1.0) for night in (1, 2)]
    assert nights[0].recording.facts == nights[1].recording.facts
    assert nights[0].recording.subject == nights[1].recording.subject == "SC404"
    assert nights[0].recording.start != nights[1].recording.start


def test_a_fast_night_repeats_few_epochs_in_the_order_of_the_same_stages():
    whole = short(6)
    fast, other = (
        simulate_night(s, 1, hours=3.0, seed=11, channels=CHANNELS, fast=True) for s in (6, 7)
    )
    np.testing.assert_array_equal(fast.truth, whole.truth)
    assert fast.events == whole.events
    assert fast.recording.facts == {"fast": True, **whole.recording.facts}
    for label in ("EEG Fpz-Cz", "EMG submental"):
        assert per_epoch(fast, label).shape == per_epoch(whole, label).shape
    epochs, stages = per_epoch(fast, "EEG Fpz-Cz"), {}
    for epoch, stage in zip(epochs, fast.truth.tolist(), strict=True):
        stages.setdefault(epoch.tobytes(), set()).add(stage)
    assert len(whole.truth) / 3 > len(stages) > 5 * 10
    assert all(len(of_one) == 1 for of_one in stages.values())
    assert not stages.keys() & {epoch.tobytes() for epoch in per_epoch(other, "EEG Fpz-Cz")}
    tone = per_epoch(fast, "EMG submental").mean(1)
    assert tone[fast.truth == 0].mean() > 2 * tone[fast.truth == 4].mean()


def test_extras_leave_the_stages_alone():
    plain, extra = (
        simulate_night(5, 1, hours=1.0, channels=c) for c in (CASSETTE_CHANNELS, CHANNELS)
    )
    np.testing.assert_array_equal(plain.truth, extra.truth)
    assert set(extra.recording.signals) - set(plain.recording.signals) == {"EEG C4-M1", "EMG chin"}


def test_signals_are_labelled_and_ranged_as_in_sleep_cassette():
    recording = short(0).recording
    assert list(recording.signals) == [c.label for c in CHANNELS]
    assert recording.facts["simulated"] is True
    modalities = ["eeg", "eeg", "eog", "resp", "emg", "temp", "event", "eeg", "emg"]
    assert [s.modality for s in recording.signals.values()] == modalities
    for channel, signal in zip(CHANNELS, recording.signals.values(), strict=True):
        rate, low, high = channel.sample_rate, channel.low, channel.high
        values = signal.samples()
        assert (signal.sample_rate, signal.unit) == (rate, channel.unit)
        assert values.dtype == np.float32
        assert signal.size == len(values) == rate * 3 * 3600
        assert np.isfinite(values).all()
        assert low <= values.min() < values.max() <= high


def test_a_whole_recording_lasts_about_22_hours_and_its_scoring_24():
    night = simulate_night(0, 1)
    assert 21.5 <= night.recording.seconds / 3600 <= 23.5
    onset, duration, text = night.events[-1]
    assert text == "Sleep stage ?"
    assert onset + duration == 86400.0 > night.recording.seconds


@pytest.mark.parametrize("hours", [1.5, 3.0, 8.0])
def test_every_stage_occurs_in_a_short_recording(hours):
    for seed in range(30):
        rng = np.random.default_rng([seed, 6])
        habits = draw_traits(rng, calibrated()).habits
        codes = architecture.simulate_codes(rng, round(hours * 120), habits)
        assert set(architecture.HUMAN_OF_CODE[codes].tolist()) == {0, 1, 2, 3, 4}
        assert codes[0] == codes[-1] == architecture.WAKE


def test_shares_of_stages_are_like_the_39_real_nights():
    stages = np.concatenate([sleep_period(written) for _, written in hypnograms()])
    shares = np.bincount(stages, minlength=5) / len(stages)
    for share, (name, real) in zip(shares, architecture.REAL_SHARES.items(), strict=True):
        assert share == pytest.approx(real, rel=0.30), name


def test_bouts_last_about_as_long_as_in_real_nights():
    parts = [bouts(sleep_period(written)) for _, written in hypnograms()]
    stages, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    for stage, (name, real) in enumerate(architecture.REAL_BOUTS.items()):
        assert lengths[stages == stage].mean() == pytest.approx(real, rel=0.35), name


def test_stages_follow_each_other_as_in_real_nights():
    """Of ten scored nights, 87 % of what follows wake is N1 and 18 % of what follows REM is N2."""
    next_of = np.zeros((5, 5))
    for _, written in hypnograms():
        stages, _ = bouts(sleep_period(written))
        np.add.at(next_of, (stages[:-1], stages[1:]), 1)
    shares = next_of / next_of.sum(1, keepdims=True)
    wake, n1, n2, n3, rem = range(5)
    assert shares[wake, n1] > 0.62
    assert shares[rem, n2] < 0.35
    assert shares[n3, n2] > 0.8


def test_deep_sleep_comes_early_and_rem_late():
    nights = [sleep_period(written) for _, written in hypnograms()]
    thirds = [np.concatenate(p) for p in zip(*(np.array_split(n, 3) for n in nights), strict=True)]
    deep, rem = ([float(np.mean(third == stage)) for third in thirds] for stage in (3, 4))
    assert deep[0] > deep[1] > deep[2]
    assert rem[0] < rem[1] < rem[2]


def test_two_scorers_agree_as_human_ones_do_and_least_on_n1():
    pairs = []
    for seed, (truth, first) in enumerate(hypnograms()):
        second = scorer.score(np.random.default_rng([seed, 7]), truth).codes
        asleep = np.flatnonzero(truth)
        night = slice(asleep[0] - 60, asleep[-1] + 61)  # 30 min of wake on either side
        scored = np.maximum(first, second)[night] <= architecture.REM
        codes = np.stack([truth, first, second])[:, night][:, scored]
        pairs.append(architecture.HUMAN_OF_CODE[codes])
    truth, first, second = np.concatenate(pairs, axis=1)
    assert 0.74 <= cohen_kappa_score(first, second) <= 0.82
    assert cohen_kappa_score(truth, first) > cohen_kappa_score(first, second) + 0.03
    f1 = f1_score(first, second, average=None)
    assert f1.argmin() == stages.HUMAN_STAGES.index("N1")


def test_annotations_give_the_hypnogram_and_outlast_the_signals():
    night = short(1)
    read = from_events(night.events, label_schemes.EDF_TEXTS).clipped(night.recording.seconds)
    assert night.recording.hypnogram is not None
    np.testing.assert_array_equal(read.stages, night.recording.hypnogram.stages)
    np.testing.assert_array_equal(read.reasons, night.recording.hypnogram.reasons)
    assert len(read) == len(night.truth)
    onset, duration, text = night.events[-1]
    assert text == "Sleep stage ?"
    assert onset + duration > night.recording.seconds


def test_movement_epochs_and_both_deep_stages_are_written():
    written = np.concatenate([w for _, w in hypnograms()])
    movements = int((written == scorer.MOVEMENT_CODE).sum())
    assert 3 <= movements <= 3 * NIGHTS
    assert {architecture.S3, architecture.S4} <= set(written.tolist())


def bands(label: str) -> dict[str, np.ndarray]:
    """Median power per stage and band over six subjects, (5,) uV squared."""
    limits = {"delta": (0.5, 4.0), "theta": (4.0, 7.5), "alpha": (8.0, 12.0), "sigma": (12.0, 15.0)}
    nights = [short(subject) for subject in range(6)]
    epochs = np.concatenate([per_epoch(night, label) for night in nights])
    truth = np.concatenate([night.truth for night in nights])
    hertz, power = welch(epochs, 100.0, nperseg=400)
    found = {}
    for name, (low, high) in limits.items():
        sums = power[:, (hertz >= low) & (hertz < high)].sum(1) * hertz[1]
        found[name] = np.array([np.median(sums[truth == stage]) for stage in range(5)])
    return found


@pytest.mark.parametrize("label", ["EEG Fpz-Cz", "EEG Pz-Oz"])
def test_rhythms_are_ordered_by_stage(label):
    w, n1, n2, n3, rem = range(5)
    power = bands(label)
    assert power["delta"].argmax() == n3
    assert power["delta"][n2] > power["delta"][n1]
    assert power["sigma"][1:].argmax() == n2 - 1  # in wake, alpha reaches into this band
    sleep = power["alpha"][[n1, rem]].max()
    assert power["alpha"][w] > sleep
    assert power["theta"][n3] > power["theta"][n2] > power["theta"][rem] > power["theta"][n1]


def test_amplitudes_are_those_of_a_sleep_eeg():
    nights = [short(subject) for subject in range(6)]
    epochs = np.concatenate([per_epoch(night, "EEG Fpz-Cz") for night in nights])
    truth = np.concatenate([night.truth for night in nights])
    rms = [float(np.median(epochs[truth == stage].std(axis=1))) for stage in range(5)]
    assert all(5.0 < value < 60.0 for value in rms), rms
    assert rms[3] > 1.5 * rms[2] > 1.5 * rms[4]


def test_eyes_move_in_wake_and_rem_more_than_in_deep_sleep():
    nights = [short(subject) for subject in range(6)]
    epochs = np.concatenate([per_epoch(night, "EOG horizontal") for night in nights])
    truth = np.concatenate([night.truth for night in nights])
    fast = np.abs(np.diff(epochs, axis=1)).max(axis=1)
    assert np.median(fast[truth == 0]) > 1.5 * np.median(fast[truth == 3])
    assert np.median(fast[truth == 4]) > 1.2 * np.median(fast[truth == 2])


@pytest.mark.parametrize("label", ["EMG submental", "EMG chin"])
def test_muscle_tone_falls_from_wake_to_rem(label):
    tone: list[list[float]] = [[] for _ in range(5)]
    for subject in range(6):  # ranks within a subject: levels differ between them
        night = short(subject)
        epochs = per_epoch(night, label)
        level = epochs.mean(axis=1) if label == "EMG submental" else epochs.std(axis=1)
        level /= np.median(level)
        for stage in range(5):
            tone[stage] += level[night.truth == stage].tolist()
    medians = [float(np.median(values)) for values in tone]
    assert medians == sorted(medians, reverse=True)


def test_subjects_differ_and_temperature_and_breath_are_plausible():
    powers = [float(np.median(per_epoch(short(s), "EEG Fpz-Cz").std(axis=1))) for s in range(6)]
    assert np.std(np.log(powers)) > 0.1
    temperature = short(0).recording.signal("Temp rectal").samples()
    assert 35.5 < temperature.min() < temperature.max() < 38.5
