"""Simulated mice inside generous bounds around published ones, and the measures themselves.

benches/judge_mice.py judges more mice, more strictly.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sleeptools.datasets import SimulatedChannel
from sleeptools.datasets.simulation import mouse
from sleeptools.datasets.simulation.mouse import architecture, realism, scorer, signals, traits
from sleeptools.datasets.simulation.mouse.architecture import NREM, REM, WAKE

SEED, MICE, RATE = 505, 12, 128.0  # a seed neither tuned nor judged on
PUBLISHED = realism.read_published()


@cache
def scorings(epoch_seconds: int) -> dict[realism.Quantity, float]:
    days = []
    for animal in range(MICE):
        rng = np.random.default_rng([SEED, animal])
        truth = architecture.simulate_codes(rng, 86400, traits.draw_traits(rng).habits)
        artefacts = scorer.draw_artefacts(rng, truth)
        days.append(scorer.score(rng, truth, artefacts, epoch_seconds).stages)
    return realism.architecture_values(days, epoch_seconds)


@cache
def recorded() -> dict[realism.Quantity, float]:
    channels = tuple(SimulatedChannel(n, n, RATE, -4000, 4000) for n in ("EEG", "EMG"))
    rows = []
    for animal in range(2):
        night = mouse.simulate_night(animal, 1, channels=channels, epoch_seconds=4, seed=SEED)
        eeg, emg = (
            night.recording.signal(n).samples().reshape(len(night.truth), -1)
            for n in ("EEG", "EMG")
        )
        rows.append(realism.signal_values(eeg, emg, night.truth, RATE))
    return {quantity: float(np.mean([row[quantity] for row in rows])) for quantity in rows[0]}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: "-".join(p.quantity))
def test_mice_are_near_published_ones(published: realism.Published):
    of_signals = published.quantity in recorded()
    values = recorded() if of_signals else scorings(published.epoch_seconds)
    value = values[published.quantity]
    low, high = published.goal
    assert 0.7 * low <= value <= 1.4 * high
    if not published.tolerance:  # an order, or a bound
        assert low - 0.03 <= value <= high + 0.03


def test_published_shares_add_up_and_every_row_has_a_source():
    rows = {p.quantity: p for p in PUBLISHED}
    assert len(rows) == len(PUBLISHED)
    for when in ("day", "light", "dark"):
        shares = [rows["share", when, stage] for stage in ("Wake", "NREM", "REM")]
        assert sum(p.low for p in shares) <= 1.0 <= sum(p.high for p in shares)
    for p in PUBLISHED:
        assert p.low <= p.high
        assert p.source
        lower, upper = p.goal
        assert lower <= p.low
        assert upper >= p.high


def test_bouts_and_shares_are_counted():
    day = np.full(86400 // 10, NREM, np.int8)
    day[: 360 * 6] = WAKE  # 6 h of wake, then 6 h of NREM
    day[4320:] = np.tile(np.repeat([WAKE, NREM, REM], [3, 6, 3]).astype(np.int8), 360)
    day[-1] = -1
    values = realism.architecture_values([day], 10)
    assert values["share", "light", "Wake"] == pytest.approx(0.5)
    assert values["bouts", "light", "Wake"] == 1
    assert values["bout length", "light", "Wake"] == 6 * 3600
    assert values["bouts", "dark", "REM"] == 360
    assert values["bout length", "dark", "NREM"] == 60
    assert values["share", "dark", "REM"] == pytest.approx(0.25, abs=0.001)
    assert values["short bouts", "dark", "all"] == pytest.approx(2 / 3, abs=0.01)


def test_bands_and_peaks_are_found():
    t = np.arange(int(4 * RATE)) / RATE
    waves = [np.sin(2 * np.pi * hertz * t) for hertz in (9.0, 2.0, 7.0)]
    stages = np.repeat([WAKE, NREM, REM], 5)
    eeg = np.stack([waves[s] for s in stages]).astype(np.float32)
    emg = np.stack([size * waves[0] for size in np.repeat([4.0, 2.0, 1.0], 5)])
    values = realism.signal_values(eeg, emg.astype(np.float32), stages, RATE)
    assert values["delta share", "day", "NREM"] > 0.95
    assert values["alpha share", "day", "Wake"] > 0.9
    assert values["peak", "day", "REM"] == 7.0
    assert values["EMG to NREM", "day", "Wake"] == pytest.approx(2.0)
    assert not any(what == "delta to late light" for what, _, _ in values)  # a minute, not a day


def test_the_need_for_sleep_rises_in_wake_and_falls_in_nrem():
    frames = 3 * 3600
    awake, asleep = (np.eye(3)[np.full(frames, stage)] for stage in (WAKE, NREM))
    rising, falling = signals.sleep_need(awake), signals.sleep_need(asleep)
    assert len(rising) == frames
    assert rising[0] == falling[0]
    assert (np.diff(rising) >= 0).all()
    assert falling[-1] < 0.5 * falling[0]
