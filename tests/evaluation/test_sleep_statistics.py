"""Sleep statistics by hand, on the time line of the recording, and their agreement."""

import numpy as np
import pytest

from sleeptools.evaluation import bland_altman, sleep_statistics
from sleeptools.evaluation.sleep_statistics import Clock, measure_night
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES

W, N1, N2, N3, REM = range(5)
#           0  1  2  3   4   5  6   7   8    9
NIGHT = [W, W, N1, N2, N2, W, N3, REM, N2, W]


def numbers(stages, onset=None, **lights):
    onset = np.arange(len(stages)) * 30.0 if onset is None else np.asarray(onset, float)
    return measure_night(np.array(stages, np.int8), onset, HUMAN_STAGES, Clock(30.0, **lights))


def test_a_night_by_hand():
    statistics = numbers(NIGHT, lights_off=0.0, lights_on=300.0)
    expected = {
        "tib": 5,
        "spt": 3.5,
        "tst": 3,
        "se": 0.6,
        "sme": 3 / 3.5,
        "sol": 1,
        "waso": 0.5,
        "rem_latency_from_sleep_onset": 2.5,
        "rem_latency_from_lights_off": 3.5,
        "transitions": 7,
    }
    assert {name: statistics[name, None] for name in expected} == pytest.approx(expected)
    assert [statistics["minutes", s] for s in HUMAN_STAGES] == [2, 0.5, 1.5, 0.5, 0.5]
    assert [statistics["share", s] for s in HUMAN_STAGES[1:]] == pytest.approx(
        [1 / 6, 1 / 2, 1 / 6, 1 / 6]
    )
    assert ("share", "W") not in statistics
    assert (
        {name for name, _ in statistics}
        <= set(sleep_statistics.UNITS)
        == set(sleep_statistics.DEFINITIONS)
    )


def test_without_lights_nothing_is_guessed():
    statistics = numbers(NIGHT)
    for name in ("tib", "se", "sol", "rem_latency_from_lights_off"):
        assert np.isnan(statistics[name, None])
    assert statistics["tst", None] == 3
    assert statistics["rem_latency_from_sleep_onset", None] == 2.5


def test_trimming_does_not_become_the_sleep_latency():
    """Sixty epochs of wake before sleep are kept; the lights went off 5 min before sleep."""
    stages = [W] * 60 + [N2] * 10
    onset = 36000 + 30.0 * np.arange(70)
    asleep = onset[60]
    assert numbers(stages, onset, lights_off=asleep - 300)["sol", None] == 5
    assert np.isnan(numbers(stages, onset)["sol", None])


def test_a_latency_through_epochs_that_nobody_predicted_is_undefined():
    stages, onset = [W] * 10 + [N2] * 5, 3600 + 30.0 * np.arange(15)
    assert np.isnan(numbers(stages, onset, lights_off=1800.0)["sol", None])
    assert numbers(stages, onset, lights_off=3590.0)["sol", None] == pytest.approx(5 + 1 / 6)


def test_a_nap_before_lights_off_is_not_the_night():
    stages = [N2] * 4 + [W] * 6 + [N1] * 2
    statistics = numbers(stages, lights_off=150.0)
    assert statistics["tst", None] == 1
    assert statistics["sol", None] == 2.5
    assert statistics["minutes", "N2"] == 0


def test_a_gap_is_neither_sleep_nor_wake():
    onset = np.array([0, 30, 60, 300, 330, 360.0])  # seven epochs are unscored
    statistics = numbers([N2, N2, W, REM, N2, N2], onset, lights_off=0.0)
    assert statistics["waso", None] == 0.5
    assert statistics["spt", None] == 6.5
    assert statistics["transitions", None] == 2  # W to REM lies over the gap


def test_nights_without_sleep_or_epochs():
    awake = numbers([W] * 5, lights_off=0.0, lights_on=150.0)
    assert (awake["tst", None], awake["se", None]) == (0, 0)
    for name in ("sol", "waso", "spt", "sme", "rem_latency_from_sleep_onset"):
        assert np.isnan(awake[name, None])
    empty = numbers([], lights_off=0.0)
    assert empty["tst", None] == 0
    assert np.isnan(empty["share", "N2"])


def test_mice_have_minutes_and_shares_alone():
    statistics = measure_night(
        np.array([0, 1, 1, 2], np.int8), np.arange(4) * 4.0, MOUSE_STAGES, Clock(4.0)
    )
    assert {name for name, _ in statistics} == {"transitions", "minutes", "share"}
    assert statistics["share", "Wake"] == 0.25


def test_bins_count_from_the_start_of_the_recording():
    onset = np.array([0.0, 7199.0, 7200.0, 21600.0])
    bins, minutes = sleep_statistics.minutes_in_bins(np.array([0, 1, 1, 2]), onset, 3, 60.0, 2.0)
    assert bins.tolist() == [0, 1, 3]
    assert minutes.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


# --- Bland and Altman -----------------------------------------------------------------------------


def test_bias_and_limits_by_hand():
    truth = np.array([400.0, 380, 420, 350, 390, 410])
    apart = np.array([10.0, -5, 20, 0, 15, 8])
    agreement = bland_altman.bland_altman(truth, truth + apart, list("abcdef"))
    assert agreement.bias.value == pytest.approx(apart.mean())
    assert agreement.sd.value == pytest.approx(apart.std(ddof=1))
    assert agreement.upper.value == pytest.approx(apart.mean() + 1.96 * apart.std(ddof=1))
    assert agreement.lower.value == pytest.approx(apart.mean() - 1.96 * apart.std(ddof=1))
    slope = np.polyfit(truth + apart / 2, apart, 1)[0]
    assert agreement.slope.value == pytest.approx(slope)
    assert agreement.bias.low < agreement.bias.value < agreement.bias.high
    assert (agreement.nights, agreement.subjects) == (6, 6)


def test_proportional_bias_and_growing_spread_are_found_and_not_made_up():
    rng = np.random.default_rng(0)
    truth = rng.uniform(100, 500, 60)
    people = [str(i) for i in range(60)]
    plain = bland_altman.bland_altman(truth, truth + rng.normal(5, 10, 60), people)
    assert not plain.proportional
    assert not plain.heteroscedastic
    tilted = bland_altman.bland_altman(truth, 1.2 * truth + rng.normal(0, 10, 60), people)
    assert tilted.proportional
    assert tilted.slope.value == pytest.approx(0.2 / 1.1, abs=0.03)
    fan = bland_altman.bland_altman(truth, truth + rng.normal(0, 1, 60) * truth / 10, people)
    assert fan.heteroscedastic


def test_two_nights_of_a_person_are_not_two_people():
    """The same differences as nights of half as many people: the interval is wider."""
    rng = np.random.default_rng(1)
    person = np.repeat(rng.normal(0, 20, 20), 2)
    truth = rng.uniform(300, 500, 40)
    agreements = [
        bland_altman.bland_altman(truth, truth + person, [str(i // by) for i in range(40)]).bias
        for by in (1, 2)
    ]
    assert agreements[0].value == agreements[1].value
    assert agreements[1].high - agreements[1].low > 1.2 * (agreements[0].high - agreements[0].low)


def test_undefined_nights_are_left_out_and_seeds_averaged():
    truth = np.array([[100.0, 100], [np.nan, 200], [300, 300], [400, 400]])
    predicted = np.array([[110.0, 112], [200, 210], [310, 312], [np.nan, 400]])
    agreement = bland_altman.bland_altman(truth, predicted, list("abcd"))
    assert agreement.nights == 2
    assert agreement.bias.value == 11
    nothing = bland_altman.bland_altman(truth * np.nan, predicted, list("abcd"))
    assert nothing.nights == 0
    assert np.isnan(nothing.bias.value)
    assert not nothing.proportional
