"""Eight simulated nights inside generous bounds around real ones, and the measures themselves.

benches/calibrate_simulator.py judges more nights, more strictly.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import signal

from sleeptools.datasets.simulation import realism
from sleeptools.datasets.simulation.calibration import CODES, REGIONS, RHYTHMS, calibrated
from sleeptools.datasets.simulation.night import SimulatedNight, simulate_night
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS

SEED = 505  # neither fitted nor judged on
BANDS = list(realism.BANDS)
W, N1, N2, N3, REM = range(5)


@cache
def nights() -> list[SimulatedNight]:
    channels = CASSETTE_CHANNELS[:3]  # both leads and the EOG
    return [simulate_night(s, 1, hours=4.0, seed=SEED, channels=channels) for s in range(8)]


@cache
def simulated() -> dict[str, np.ndarray]:
    levels, stages = zip(*(realism.night_levels(n.recording) for n in nights()), strict=True)
    number = np.repeat(range(len(stages)), [len(s) for s in stages])
    return realism.statistics(np.concatenate(levels), np.concatenate(stages), number)


def test_levels_are_those_of_real_nights():
    error = simulated()["median"] - realism.read_spectra()["median"]
    assert np.sqrt(np.mean(error**2)) < 3.5  # a night is 3 dB off another, eight of them 1
    assert abs(error).max() < 7.0
    contrast = error - error.mean(0)  # what a night's stages have in common aside
    assert np.sqrt(np.mean(contrast**2)) < 1.8


def test_the_spectrum_falls_as_steeply_as_in_real_nights():
    real = realism.exponents(realism.read_spectra()["median"])
    ours = realism.exponents(simulated()["median"])
    assert abs(ours - real).max() < 0.7
    assert real[N3].min() - real[W].max() > 1.0  # what a single slope cannot give


def test_epochs_and_nights_differ_as_much_as_real_ones():
    real, ours = realism.read_spectra(), simulated()
    assert 0.8 < np.median(ours["within"] / real["within"]) < 1.3
    assert 0.5 < np.median(ours["between"] / real["between"]) < 2.0
    covered = np.minimum(ours["upper"], real["upper"]) - np.maximum(ours["lower"], real["lower"])
    span = np.maximum(ours["upper"], real["upper"]) - np.minimum(ours["lower"], real["lower"])
    assert np.mean(covered / span) > 0.4


def test_wake_has_muscle_and_sleep_has_none():
    gamma = simulated()["median"][..., BANDS.index("gamma")]
    assert (gamma[W] - gamma[REM] > 4.0).all()
    assert (gamma[W] - gamma[N3] > 7.0).all()


def test_the_eog_does_not_copy_the_frontal_lead():
    sos = signal.butter(4, realism.BANDS["delta"], "bandpass", fs=realism.RATE, output="sos")
    for night in nights():
        stages = night.recording.hypnogram.stages
        awake = np.repeat(stages == W, realism.SAMPLES)
        pair = [
            signal.sosfiltfilt(sos, night.recording.signal(name).samples()[: len(awake)])[awake]
            for name in ("EEG Fpz-Cz", "EOG horizontal")
        ]
        assert abs(np.corrcoef(pair)[0, 1]) < 0.25


def test_levels_of_a_known_signal():
    time = np.arange(3000) / realism.RATE
    epoch = (10 * np.sqrt(2) * np.sin(2 * np.pi * 10 * time)).astype(np.float32)
    (levels,) = realism.band_levels(epoch[None])
    names = [*BANDS, "variance", "mobility"]
    assert names[int(np.argmax(levels[:5]))] == "alpha"
    assert levels[5] == pytest.approx(20.0, abs=0.01)  # 100 uV^2
    assert levels[6] == pytest.approx(2 * np.sin(np.pi * 0.1), rel=0.01)
    noise = np.random.default_rng(0).standard_normal((40, 3000)).astype(np.float32)
    density = 10 * np.log10(1 / 50)  # uV^2/Hz of white noise of 1 uV
    assert realism.band_levels(noise)[:, :5].mean(0) == pytest.approx(density, abs=0.3)


def test_drift_is_the_variance_below_the_bands():
    time = np.arange(3000) / realism.RATE
    for hertz, above in ((0.1, 19.5), (10.0, 0.0)):
        epoch = (10 * np.sqrt(2) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        levels = np.tile(realism.band_levels(epoch[None]), (1, 2))
        drift = realism.drift(levels)
        assert drift.shape == (1, 2)
        assert ((above < drift) & (drift < above + 10.0)).all()  # dB; the variance is 20


def test_stage_1_has_arousals():
    """In real nights the 95th percentile of 30-50 Hz is 10 dB above the median."""
    tails = []
    for night in nights():
        levels, stages = realism.night_levels(night.recording)
        gamma = realism.bands_only(levels)[stages == N1][..., BANDS.index("gamma")]
        tails.append(np.subtract(*np.percentile(gamma, [95, 50], axis=0)))
    assert (np.median(tails, axis=0) > 5.0).all()


def test_statistics_leave_out_nights_that_lack_a_stage():
    stages = np.tile(np.repeat(range(5), 20), 3).astype(np.int8)
    night = np.repeat(range(3), 100)
    levels = np.repeat([0.0, 4.0, 6.0], 100)[:, None] * np.ones(14)
    of_all = realism.statistics(levels, stages, night)
    assert of_all["median"].shape == (5, 2, 5)
    assert (of_all["median"] == 4.0).all()
    assert of_all["between"] == pytest.approx(np.std([0, 4, 6], ddof=1))
    left_out = (stages == N1) & (night == 2)
    left_out[np.flatnonzero(left_out)[:9]] = False  # nine epochs of the stage are left
    kept = ~left_out
    of_two = realism.statistics(levels[kept], stages[kept], night[kept])["median"]
    assert (of_two[N1] == 2.0).all()
    assert (of_two[N2] == 4.0).all()


def test_the_constants_are_complete_and_positive():
    constants = calibrated()
    shape = (len(REGIONS), len(CODES), len(RHYTHMS))
    assert constants.levels_uv.shape == constants.epoch_spread.shape == shape
    assert constants.subject_spread.shape == constants.night_spread.shape == (2, len(RHYTHMS))
    values = (constants.levels_uv, constants.epoch_spread, constants.noise_uv)
    assert min(v.min() for v in values) > 0
    assert type(constants).from_table(constants.table()).table() == constants.table()
    delta = constants.levels_uv[:, :, RHYTHMS.index("delta")]
    assert (delta[:, CODES.index("stage 4")] > delta[:, CODES.index("stage 3")]).all()
