"""The simulated mouse against what is known of real ones: stages, spectra, muscle tone, scorers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.signal import welch
from sklearn.metrics import cohen_kappa_score

from sleeptools.datasets import SimulatedChannel, kjaerby, slumbernet
from sleeptools.datasets.simulation import mouse
from sleeptools.datasets.simulation.mouse import architecture, scorer
from sleeptools.datasets.simulation.mouse.architecture import NREM, REM, WAKE
from sleeptools.datasets.simulation.mouse.traits import draw_traits
from sleeptools.datasets.simulation.night import SimulatedNight

DAYS = 30
HALF = architecture.LIGHT_SECONDS


@cache
def days() -> np.ndarray:
    """(days, seconds) of as many mice."""
    codes = []
    for seed in range(DAYS):
        rng = np.random.default_rng([seed, 7])
        codes.append(architecture.simulate_codes(rng, 2 * HALF, draw_traits(rng).habits))
    return np.stack(codes)


@cache
def made(animal: int, rate: float = slumbernet.SAMPLE_RATE, seconds: float = 4) -> SimulatedNight:
    channels = tuple(SimulatedChannel(n, n, rate, -2000, 2000) for n in ("EEG", "EMG"))
    return mouse.simulate_night(
        animal, 1, channels=channels, epoch_seconds=seconds, hours=3.0, seed=5
    )


def bouts(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.r_[0, np.flatnonzero(np.diff(codes)) + 1]
    return codes[starts], np.diff(np.r_[starts, len(codes)])


def band_power(night: SimulatedNight, stage: int, low: float, high: float) -> float:
    eeg = night.recording.signal("EEG").samples().reshape(len(night.truth), -1)
    f, p = welch(eeg[night.truth == stage], 256, nperseg=512)
    inside = (f >= low) & (f < high)
    return float(np.median(p, 0)[inside].sum() * (f[1] - f[0]))


def test_shares_over_a_day_and_by_light() -> None:
    whole = [(days() == s).mean() for s in range(3)]
    assert 0.45 <= whole[WAKE] <= 0.50
    assert 0.42 <= whole[NREM] <= 0.47
    assert 0.055 <= whole[REM] <= 0.08
    light, dark = days()[:, :HALF], days()[:, HALF:]
    assert (light == WAKE).mean() == pytest.approx(0.34, abs=0.04)
    assert (dark == WAKE).mean() == pytest.approx(0.64, abs=0.06)
    assert (light == REM).mean() > 1.8 * (dark == REM).mean()


def test_rem_comes_out_of_nrem_only() -> None:
    for codes in days():
        before = codes[np.flatnonzero(np.diff(codes) != 0)]
        after = codes[np.flatnonzero(np.diff(codes) != 0) + 1]
        assert set(before[after == REM].tolist()) == {NREM}


def test_sleep_is_broken_into_bouts_of_minutes() -> None:
    stages, lengths = zip(*map(bouts, days()), strict=True)
    stage, length = np.concatenate(stages), np.concatenate(lengths)
    assert 90 <= length[stage == NREM].mean() <= 180
    assert 60 <= length[stage == REM].mean() <= 95  # as scored, those published: about 64
    assert 60 <= (stage == REM).sum() / DAYS <= 130
    assert np.median(length[stage == WAKE]) < 20
    assert length[stage == WAKE].max() > 3600


def test_half_an_hour_shows_every_stage() -> None:
    shown = [
        len(set(architecture.simulate_codes(np.random.default_rng(s), 1800, mouse_habits())))
        for s in range(100)
    ]
    assert np.mean(np.array(shown) == 3) > 0.95


def mouse_habits() -> architecture.MouseHabits:
    return architecture.MouseHabits()


def test_delta_in_nrem_theta_in_rem_low_voltage_in_wake() -> None:
    for animal in range(4):
        night = made(animal)
        delta, theta = ([band_power(night, s, *b) for s in range(3)] for b in ((1, 4), (6, 9)))
        assert delta[NREM] > 4 * max(delta[WAKE], delta[REM])
        assert theta[REM] > 2 * delta[REM]
        assert theta[WAKE] / delta[WAKE] < theta[REM] / delta[REM]
        total = [band_power(night, s, 0.5, 100) for s in range(3)]
        assert total[NREM] > 2 * total[WAKE]


def test_muscle_tone_falls_from_wake_to_rem_with_twitches() -> None:
    for animal in range(4):
        night = made(animal)
        emg = night.recording.signal("EMG").samples().reshape(len(night.truth), -1)
        rms = emg.reshape(len(emg), -1, 64).std(2)  # by quarters of a second
        wake, nrem, rem = (np.median(rms[night.truth == s]) for s in range(3))
        assert wake > 2.5 * nrem > 2.5 * rem
        tops = [np.mean(rms[night.truth == s] > 2 * m) for s, m in ((NREM, nrem), (REM, rem))]
        assert tops[1] > 2 * tops[0]


def test_the_scorer_agrees_as_two_scorers_do() -> None:
    for seconds, low, high in ((1, 0.90, 0.96), (4, 0.90, 0.97)):
        kappas = []
        for i, codes in enumerate(days()[:10]):
            rng = np.random.default_rng(i)
            found = scorer.score(rng, codes, scorer.draw_artefacts(rng, codes), seconds)
            truth = architecture.majority(codes, seconds)
            scored = found.stages >= 0
            kappas.append(cohen_kappa_score(truth[scored], found.stages[scored]))
            assert 0 < found.counts()["movement"] < 0.03 * len(found)
        assert low < np.mean(kappas) < high


def test_artefacts_lie_where_they_are_scored() -> None:
    night = made(1)
    assert night.recording.hypnogram is not None
    eeg = night.recording.signal("EEG").samples().reshape(len(night.truth), -1)
    spoilt = night.recording.hypnogram.reasons == 2
    wake = (night.recording.hypnogram.stages == WAKE) & ~spoilt
    assert spoilt.sum() >= 5
    assert np.median(np.ptp(eeg[spoilt], 1)) > 3 * np.median(np.ptp(eeg[wake], 1))


def test_majority_counts_seconds() -> None:
    codes = np.array([0, 1, 1, 1, 2, 2, 0, 2, 1, 1, 1], np.int8)
    assert architecture.majority(codes, 4).tolist() == [1, 2]
    assert architecture.majority(codes, 1).tolist() == codes.tolist()


def test_signals_do_not_drift_from_the_stages_at_a_broken_rate() -> None:
    """At the end of 12 h, 3.4 s lie between a second of 511.95964 samples and one of 512."""
    rate, hours = kjaerby.SAMPLE_RATE, 12
    channels = tuple(SimulatedChannel(n, n, rate, -2000, 2000) for n in ("EEG", "EMG"))
    night = mouse.simulate_night(2, 1, channels=channels, epoch_seconds=1, hours=hours, seed=1)
    emg = night.recording.signal("EMG").samples()
    assert len(emg) == int(hours * 3600 * rate)
    tail = np.arange(hours * 3600 - 7200, hours * 3600 - 1)
    first = np.ceil(tail * rate).astype(int)
    tone = np.log(emg[first[:, None] + np.arange(511)].std(1))
    asleep = -(night.truth[tail] > 0).astype(float)
    lags = np.arange(-4, 5)
    fit = [np.corrcoef(tone[8:-8], np.roll(asleep, lag)[8:-8])[0, 1] for lag in lags]
    assert lags[int(np.argmax(fit))] == 0


def test_the_same_again_another_mouse_and_another_recording() -> None:
    channels = (
        SimulatedChannel("EEG", "EEG", 64.0, -2000, 2000),
        SimulatedChannel("EMG", "EMG", 64.0, -2000, 2000),
    )

    def eeg(animal: int, night: int, seed: int = 0) -> np.ndarray:
        one = mouse.simulate_night(
            animal, night, channels=channels, epoch_seconds=4, hours=0.5, seed=seed
        )
        return one.recording.signal("EEG").samples()

    np.testing.assert_array_equal(eeg(1, 1), eeg(1, 1))
    assert len({eeg(*k).tobytes() for k in ((1, 1), (1, 2), (2, 1), (1, 1, 1))}) == 4
    assert np.isfinite(eeg(1, 1)).all()
    assert np.abs(eeg(1, 1)).max() <= 2000


def test_blocks_of_frames_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    from sleeptools.datasets.simulation import waves

    framing = waves.Framing(64.0, 64)
    power = np.ones((50, 1))
    shapes = waves.band(0.5, 32, framing)[None]
    whole = waves.noise(np.random.default_rng(0), power, shapes, framing)
    monkeypatch.setattr(waves, "BLOCK", 7)
    np.testing.assert_allclose(
        waves.noise(np.random.default_rng(0), power, shapes, framing), whole, atol=1e-6
    )
    long = waves.noise(np.random.default_rng(1), np.full((3000, 1), 9.0), shapes, framing)
    assert long.std() == pytest.approx(3, rel=0.02)
