"""Randomised nights: only the signals differ, within what a sleep EEG can be, and more than before.

That nothing is drawn without it is asserted by a randomisation that changes nothing.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import welch

from sleeptools import store
from sleeptools.commands import simulate
from sleeptools.datasets import SimulatedChannel
from sleeptools.datasets.simulation import eeg, mouse, randomisation, realism
from sleeptools.datasets.simulation.calibration import RHYTHMS
from sleeptools.datasets.simulation.night import EXTRAS, SimulatedNight, simulate_night
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS
from sleeptools.errors import OutputError

CHANNELS = (*CASSETTE_CHANNELS, *EXTRAS)
LEADS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EEG C4-M1")
N2 = 2


@cache
def night(subject: int, *, randomise: bool, night: int = 1) -> SimulatedNight:
    return simulate_night(
        subject, night, hours=3.0, seed=21, channels=CHANNELS, randomise=randomise
    )


@cache
def drawn(seed: int = 0) -> randomisation.Randomisation:
    return randomisation.draw(np.random.default_rng(seed))


def samples(night: SimulatedNight) -> dict[str, np.ndarray]:
    return {label: s.samples() for label, s in night.recording.signals.items()}


def test_only_signals_differ_and_the_same_again():
    plain, other = (samples(night(0, randomise=r)) for r in (False, True))
    again = simulate_night(0, 1, hours=3.0, seed=21, channels=CHANNELS, randomise=True)
    for label, values in samples(again).items():
        np.testing.assert_array_equal(values, other[label])
        assert not np.array_equal(values, plain[label]), label
        assert np.isfinite(values).all()
    for subject in range(3):
        plain_night, randomised = (night(subject, randomise=r) for r in (False, True))
        np.testing.assert_array_equal(plain_night.truth, randomised.truth)
        assert plain_night.events == randomised.events
        facts = {"randomised": True, **plain_night.recording.facts}
        assert randomised.recording.facts == facts


def test_every_subject_and_night_draws_anew():
    streams = [(0, 1, 1), (0, 2, 1), (0, 1, 2), (1, 1, 1)]
    found = [
        samples(simulate_night(s, n, hours=0.5, seed=seed, randomise=True))["EEG Fpz-Cz"]
        for seed, s, n in streams
    ]
    assert len({values.tobytes() for values in found}) == len(streams)
    assert drawn(0).gain != drawn(1).gain


def test_a_randomisation_of_nothing_changes_no_sample(monkeypatch: pytest.MonkeyPatch):
    """The way through the randomised simulator is exact: factors of 1 and a recorder of no use."""
    ones = {f.name: 1.0 for f in fields(randomisation.Randomisation)}
    recorder = replace(drawn().recorder, low_pass_hz=1000.0)  # records no signal of 100 Hz
    neutral = randomisation.Randomisation(
        **ones
        | {
            "rhythms": np.ones(len(RHYTHMS)),
            "slope": 0.0,
            "places": eeg.PLACES,
            "eeg_sign": 1,
            "eog_sign": 1,
            "heart": 0.0,
            "recorder": recorder,
        }
    )
    monkeypatch.setattr(randomisation, "draw", lambda rng: neutral)
    found = simulate_night(0, 1, hours=3.0, seed=21, channels=CHANNELS, randomise=True)
    for label, values in samples(found).items():
        np.testing.assert_array_equal(values, samples(night(0, randomise=False))[label])


def test_amplitudes_stay_those_of_a_sleep_eeg():
    for subject in range(6):
        found = night(subject, randomise=True)
        for lead in LEADS:
            epochs = found.recording.signal(lead).samples().reshape(len(found.truth), -1)
            assert 4.0 < np.median(epochs[found.truth == N2].std(1)) < 150.0
        eog = found.recording.signal("EOG horizontal").samples()
        assert 5.0 < eog.std() < 200.0


def test_nights_differ_more_than_without():
    between = []
    for randomise in (False, True):
        nights = [night(s, randomise=randomise) for s in range(16)]
        levels, stages = zip(*(realism.night_levels(n.recording) for n in nights), strict=True)
        n2 = [
            np.median(realism.bands_only(x[s == N2]), 0)
            for x, s in zip(levels, stages, strict=True)
        ]
        between.append(np.std(n2, 0, ddof=1).mean())
    assert between[1] > 1.4 * between[0]  # dB
    assert between[1] < 10.0


def test_draws_stay_in_their_ranges():
    low, high = np.exp(-2 * randomisation.GAIN), np.exp(2 * randomisation.GAIN)
    for seed in range(200):
        found = drawn(seed)
        assert low <= found.gain <= high
        assert abs(found.slope) <= randomisation.SLOPE
        assert 0.1 <= found.recorder.high_pass_hz <= 1.0
        assert 25.0 <= found.recorder.low_pass_hz <= 49.0
        assert 0.0 <= found.heart <= randomisation.HEART
        for place in found.places.values():
            assert sum(place[:3]) == pytest.approx(1.0)
            assert min(place) >= 0.0
    frontal = [drawn(s).places["EEG Fpz-Cz"].frontal for s in range(200)]
    assert min(frontal) < 0.2  # at times a lead from elsewhere
    assert max(frontal) > 0.9
    assert {drawn(s).eog_sign for s in range(20)} == {-1, 1}


def recorded(rate: float, **changes: float | bool) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and power of a silent source, as a recorder writes it."""
    silent = {"white_uv": 0.01, "hum_uv": 0.0, "drift_uv": 0.0, "pops_per_hour": 0.0}
    silent |= {"low_pass_hz": 40.0, "notched": False}
    recorder = replace(drawn().recorder, **silent | changes)
    zero = np.zeros(int(600 * rate), np.float32)
    values = recorder.record(np.random.default_rng(0), "EEG C4-M1", zero, rate)
    hertz, power = welch(values, rate, nperseg=int(10 * rate))
    return hertz, power


@pytest.mark.parametrize(
    ("rate", "mains", "seen"), [(200.0, 50.0, 50.0), (256.0, 60.0, 60.0), (100.0, 60.0, 40.0)]
)
def test_hum_lies_at_the_mains_or_folded_and_a_notch_removes_it(rate, mains, seen):
    hertz, power = recorded(rate, hum_uv=2.0, mains_hz=mains, alias=1.0)
    assert hertz[power.argmax()] == pytest.approx(seen)
    _, notched = recorded(rate, hum_uv=2.0, mains_hz=mains, alias=1.0, notched=True)
    assert notched.max() < 0.01 * power.max()
    if mains > rate / 2:
        _, filtered = recorded(rate, hum_uv=2.0, mains_hz=mains, alias=0.01)
        assert filtered.max() < 0.01 * power.max()


def test_filters_drift_and_pops():
    hertz, power = recorded(100.0, white_uv=5.0, high_pass_hz=1.0, order=2)
    middle = power[(hertz > 5) & (hertz < 20)].mean()
    assert power[(hertz > 0) & (hertz < 0.4)].mean() < 0.1 * middle
    assert power[hertz > 46].mean() < 0.5 * middle
    hertz, drifting = recorded(100.0, drift_uv=20.0, high_pass_hz=0.1)
    assert drifting[hertz < 0.5].sum() > 20 * drifting[hertz > 0.5].sum()
    popping = drawn().recorder
    popping = replace(popping, white_uv=0.0, hum_uv=0.0, drift_uv=0.0, pops_per_hour=60.0)
    values = popping.record(np.random.default_rng(1), "EEG", np.zeros(60000, np.float32), 100.0)
    assert 20.0 < abs(values).max() < 500.0
    assert np.median(abs(values)) < 1.0


def test_slow_signals_are_recorded_as_they_are():
    values = np.ones(60, np.float32)
    recorder = drawn().recorder
    assert recorder.record(np.random.default_rng(0), "EMG envelope", values, 1.0) is values
    assert recorder.record(np.random.default_rng(0), "temperature", values, 200.0) is values


def test_mice_are_randomised_too():
    channels = tuple(SimulatedChannel(n, n, 256.0, -2000, 2000) for n in ("EEG", "EMG"))
    plain, other = (
        mouse.simulate_night(
            3, 1, channels=channels, epoch_seconds=4, hours=1.0, seed=2, randomise=randomise
        )
        for randomise in (False, True)
    )
    np.testing.assert_array_equal(plain.truth, other.truth)
    assert plain.events == other.events
    assert other.recording.facts == plain.recording.facts | {"randomised": True}
    for label in ("EEG", "EMG"):
        ratio = samples(other)[label].std() / samples(plain)[label].std()
        assert 0.2 < ratio < 5.0
        assert ratio != 1.0


def test_a_folder_says_so_and_is_not_continued_otherwise(tmp_path: Path):
    plain = simulate.simulate("sleep-edf", tmp_path / "a", subjects=1, hours=0.5)
    raw = simulate.simulate("sleep-edf", tmp_path / "b", subjects=1, hours=0.5, randomise=True)
    assert tomllib.loads((raw / "simulation.toml").read_text())["randomise"] is True
    assert store.read_json(raw / "manifest.json")["randomise"] is True
    for folder, randomise in ((plain, True), (raw, False)):
        message = f"randomise: {not randomise} there, {randomise} now"
        with pytest.raises(OutputError, match=message):
            simulate.simulate("sleep-edf", folder, subjects=1, hours=0.5, randomise=randomise)
