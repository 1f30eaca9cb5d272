"""Simulating one recording of a mouse: true stages, EEG and EMG at a data set's rate, a scoring.

As for human nights (`simulation.night`), the scorer deviates from the true stages, and any
recording can be simulated alone, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from sleeptools.datasets import SimulatedChannel
from sleeptools.datasets.simulation import randomisation
from sleeptools.datasets.simulation.mouse import architecture, scorer, signals, traits
from sleeptools.datasets.simulation.night import SimulatedNight
from sleeptools.recording import montage, simulators
from sleeptools.recording.recording import Recording, Samples, Signal

HOURS: Final = 24.0
LIGHTS_ON: Final = datetime(2020, 6, 1, 7)

LOW_PASS_HZ: Final = (60.0, 100.0)  # of randomised recordings, as of mouse amplifiers

_ANIMAL, _RECORDING, _SCORER, _UNKNOWN = 11, 12, 13, 1000  # purposes of random streams


def simulate_night(
    animal: int,
    night: int,
    *,
    channels: Sequence[SimulatedChannel],
    epoch_seconds: float,
    hours: float | None = None,
    seed: int = 0,
    randomise: bool = False,
) -> SimulatedNight:
    """Simulate one recording, which begins when the light goes on.

    Parameters
    ----------
    animal
        Number of the mouse, 0 or more.
    night
        Number of its recording, from 1.
    channels
        The signals to record, with the sources "EEG" and "EMG", all at one sample rate.
    epoch_seconds
        Length of a scored epoch, s; a whole number.
    hours
        Length of the recording, h; 24 if left out.
    seed
        Seed of the whole simulated data set, 0 or more.
    randomise
        Whether to draw what is not known of a recording, for training sets (`randomisation`); the
        stages and their scoring are the same without it.
    """
    assert epoch_seconds == int(epoch_seconds)
    mouse = traits.draw_traits(np.random.default_rng([seed, animal, 0, _ANIMAL]))
    rng = np.random.default_rng([seed, animal, night, _RECORDING])
    seconds = int((hours or HOURS) * 3600)
    codes = architecture.simulate_codes(rng, seconds, mouse.habits)
    artefacts = scorer.draw_artefacts(rng, codes)
    rate = channels[0].sample_rate
    unknown = np.random.default_rng([seed, animal, night, _UNKNOWN])
    drawn = randomisation.draw(unknown, low_pass_hz=LOW_PASS_HZ) if randomise else None
    if drawn:
        mouse = traits.randomised(mouse, drawn)
    samples = _sources(rng, codes, artefacts, mouse, rate)
    if drawn:
        samples["EEG"] *= drawn.eeg_sign
        record = drawn.recorder.record
        samples = {name: record(unknown, name, s, rate) for name, s in samples.items()}
    judge = np.random.default_rng([seed, animal, night, _SCORER])
    hypnogram = scorer.score(judge, codes, artefacts, int(epoch_seconds))
    id_ = f"mouse-{animal:02d}-{night}"
    recording = Recording(
        id_,
        f"mouse-{animal:02d}",
        night,
        {c.label: _signal(c, samples[c.source]) for c in channels},
        hypnogram,
        LIGHTS_ON + timedelta(days=7 * animal + night - 1),
        simulators.made_by(simulators.SIMULATOR, randomised=randomise),
    )
    truth = architecture.majority(codes, int(epoch_seconds))
    return SimulatedNight(recording, hypnogram.events(), truth)


def _sources(
    rng: np.random.Generator,
    codes: architecture.Codes,
    artefacts: list[signals.Span],
    mouse: traits.MouseTraits,
    rate: float,
) -> dict[str, Samples]:
    """Simulate EEG and EMG, (samples,) float32 each, uV."""
    framing = signals.framing_of(rate)
    samples = math.floor(len(codes) * rate)
    frames = -(-samples // framing.hop) + 1
    weights = signals.stage_weights(codes, frames, framing)
    active = signals.activity(rng, frames)
    sources = {
        "EEG": signals.simulate_eeg(rng, weights, active, mouse, framing)[:samples],
        "EMG": signals.simulate_emg(rng, weights, active, mouse, framing)[:samples],
    }
    signals.add_artefacts(rng, sources, artefacts, rate)
    return sources


def _signal(channel: SimulatedChannel, values: Samples) -> Signal:
    """Wrap samples, clipped to the recorder's range."""
    clipped = np.clip(values, channel.low, channel.high, out=values)
    return Signal(
        channel.label,
        channel.sample_rate,
        channel.unit,
        montage.modality(channel.label),
        len(clipped),
        lambda: clipped,
    )
