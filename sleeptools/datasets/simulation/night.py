"""Simulating one human night: true stages, the signals that follow from them, and a scoring.

The scorer deviates from the true stages as human scorers do. A subject depends on (seed, subject)
only and a night on (seed, subject, night), so any night can be simulated alone, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import numpy as np

from sleeptools.datasets import SimulatedChannel, sleep_edf
from sleeptools.datasets.simulation import (
    architecture,
    body,
    eeg,
    randomisation,
    scorer,
    traits,
    waves,
)
from sleeptools.datasets.simulation.calibration import Calibration, calibrated
from sleeptools.datasets.simulation.traits import Traits
from sleeptools.datasets.simulation.waves import Floats
from sleeptools.recording import montage, simulators
from sleeptools.recording.hypnogram import Event, Hypnogram, Stages
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.recording.signals import resampling

EXTRAS: Final = (
    SimulatedChannel("EEG C4-M1", "EEG C4-M1", 100.0, -192.0, 192.0),
    SimulatedChannel("EMG chin", "EMG chin", 100.0, -100.0, 100.0),
)
"""Signals that other scoring software needs besides those of the cassette."""
SLOW_RATE: Final = 1.0  # Hz
SLOW: Final = ("breath", "EMG envelope", "temperature", "marker")

EYES_CHANGE: Final = 0.3  # chance per epoch that the eyes may open or close
STOCK: Final = 20  # epochs of each stage that a fast night repeats

_SUBJECT, _NIGHT, _SCORER = 1, 2, 3  # purposes of random streams; further scorers from 4 on
_UNKNOWN = 1000  # what a randomised night draws


@dataclass(frozen=True)
class SimulatedNight:
    """A simulated night: the recording with its scoring, and the true stages.

    Parameters
    ----------
    recording
        Signals at their own rates and the scorer's hypnogram, no longer than the signals.
    events
        The first scorer's annotations, (onset s, duration s, text) with Rechtschaffen & Kales
        texts; the last one, "Sleep stage ?", outlasts the signals.
    truth
        (epochs,) int8 index into the stage names: the stages that generated the signals.
    """

    recording: Recording
    events: list[Event]
    truth: Stages

    def true_hypnogram(self) -> Hypnogram:
        """Return the true stages on the epochs of the recording's hypnogram."""
        assert self.recording.hypnogram is not None
        return replace(self.recording.hypnogram, stages=self.truth, reasons=np.empty(0, np.int8))


def simulate_night(  # noqa: PLR0913 - all that decides a night
    subject: int,
    night: int,
    *,
    hours: float | None = None,
    seed: int = 0,
    channels: Sequence[SimulatedChannel] = sleep_edf.CASSETTE_CHANNELS,
    scorers: int = 1,
    calibration: Calibration | None = None,
    randomise: bool = False,
    fast: bool = False,
) -> SimulatedNight:
    """Simulate one night.

    Parameters
    ----------
    subject
        Number of the subject, 0 or more.
    night
        Number of the subject's night, from 1.
    hours
        Length of the recording, h; about 22 h if left out.
    seed
        Seed of the whole simulated data set, 0 or more.
    channels
        The signals to record; those of Sleep-Cassette if left out.
    scorers
        Number of scorers, each with errors of their own.
    calibration
        Levels and spreads of the EEG; those that ship with the package if left out.
    randomise
        Whether to draw what is not known of a recording, for training sets (`randomisation`); the
        stages and their scorings are the same without it.
    fast
        Whether to simulate only some epochs of each stage, and repeat them over the night in drawn
        order; the stages and their scorings are the same without it.
    """
    calibration = calibration or calibrated()
    person = traits.draw_traits(_stream(seed, subject, 0, _SUBJECT), calibration)
    rng = _stream(seed, subject, night, _NIGHT)
    codes = architecture.simulate_codes(
        rng, architecture.recording_epochs(rng, hours), person.habits
    )
    scorings = [
        scorer.score(_stream(seed, subject, night, _SCORER + i), codes) for i in range(scorers)
    ]
    moving = scorings[0].codes == scorer.MOVEMENT_CODE
    unknown = _stream(seed, subject, night, _UNKNOWN)
    drawn = randomisation.draw(unknown) if randomise else None
    if drawn:
        person = drawn.of_person(person)
    places = drawn.places if drawn else eeg.PLACES
    simulate = partial(
        _sources,
        rng,
        person=person,
        calibration=calibration,
        channels=channels,
        places=places,
    )
    sources = _repeated(rng, codes, moving, simulate) if fast else simulate(codes, moving)
    if drawn:
        drawn.rereference(unknown, sources)
    record = partial(drawn.recorder.record, unknown) if drawn else _as_it_is
    recording = Recording(
        id=f"SC4{subject:02d}{night}",
        subject=f"SC4{subject:02d}",
        night=night,
        signals={c.label: _signal(c, sources[c.source], record) for c in channels},
        hypnogram=scorings[0].hypnogram(),
        start=_start(codes, subject, night),
        facts={
            **simulators.made_by(simulators.SIMULATOR, randomised=randomise, fast=fast),
            "age": person.age,
            "sex": "F" if person.female else "M",
        },
        other_hypnograms=tuple(s.hypnogram() for s in scorings[1:]),
    )
    return SimulatedNight(recording, scorings[0].events(), architecture.HUMAN_OF_CODE[codes])


def _stream(seed: int, subject: int, night: int, purpose: int) -> np.random.Generator:
    """Start a random stream; always of four words, because trailing zeros do not count."""
    return np.random.default_rng([seed, subject, night, purpose])


Moving = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""Whether the person moves, per epoch."""


def _repeated(
    rng: np.random.Generator,
    codes: architecture.Codes,
    moving: Moving,
    simulate: Callable[[architecture.Codes, Moving], dict[str, Samples]],
) -> dict[str, Samples]:
    """Simulate `STOCK` epochs of each stage, with and without movement, and make a night of them.

    Epochs are joined as they are; the first and the last of a stage's are left out, because an
    epoch resembles its neighbours.
    """
    kinds, kind = np.unique(2 * codes + moving, return_inverse=True)
    stock = np.repeat(kinds, STOCK)
    sources = simulate(stock // 2, stock % 2 == 1)
    epochs = STOCK * kind + rng.integers(1, STOCK - 1, len(codes))
    return {n: v.reshape(len(stock), -1)[epochs].reshape(-1) for n, v in sources.items()}


def _sources(
    rng: np.random.Generator,
    codes: architecture.Codes,
    moving: Moving,
    person: Traits,
    calibration: Calibration,
    channels: Sequence[SimulatedChannel],
    places: Mapping[str, eeg.Place],
) -> dict[str, Samples]:
    """Simulate the sources of `channels`, by name: at 100 Hz, those of `SLOW` at 1 Hz."""
    names = [c.source for c in channels]
    weights = eeg.stage_weights(codes)
    eyes_open = _eyes_open(rng, codes)
    eyes_open[moving] = 1.0
    amplitude = eeg.amplitudes(rng, weights, eyes_open, person, calibration)
    places = {lead: place for lead, place in places.items() if lead in names}
    sources, common = eeg.simulate_eeg(rng, weights, amplitude, person, places=places)
    eog, movements, blinks = body.simulate_eyes(rng, weights, eyes_open, amplitude, common, person)
    for lead, place in places.items():
        blink_gain, movement_gain = np.float32(place.blinks), np.float32(place.movements)
        sources[lead] += blink_gain * blinks + movement_gain * movements
    tone = body.simulate_tone(rng, weights, eyes_open, person)
    tone[np.repeat(moving, body.SECONDS)] *= 4.0
    sources["EOG horizontal"] = eog
    sources["breath"] = body.simulate_breath(rng, weights)
    sources["EMG envelope"] = body.envelope(tone, person)
    sources["temperature"] = body.simulate_temperature(rng, codes)
    sources["marker"] = body.simulate_marker(rng, len(tone))
    if "EMG chin" in names:
        sources["EMG chin"] = body.simulate_chin(rng, tone)
    if "EMG leg" in names:
        sources["EMG leg"] = body.simulate_chin(rng, 0.5 * tone)
    if "EOG right" in names:  # the eyes turn together: one nears its electrode, the other leaves
        sources["EOG left"] = eog.copy()
        sources["EOG right"] = eog - 2 * movements
    if "ECG" in names:
        sources["ECG"] = body.simulate_heart(rng, len(eog))
    _shake(rng, sources, moving)
    return sources


def _eyes_open(rng: np.random.Generator, codes: architecture.Codes) -> Floats:
    """Draw runs of epochs with open eyes: (epochs,) 0 or 1; mostly open by day."""
    asleep = np.flatnonzero(codes)
    closed = np.full(len(codes), traits.EYES_CLOSED_DAY)
    if len(asleep):
        closed[max(0, asleep[0] - 10) : asleep[-1] + 10] = traits.EYES_CLOSED_ASLEEP
    run = np.cumsum(rng.random(len(codes)) < EYES_CHANGE)
    return np.asarray(rng.random(run[-1] + 1)[run] >= closed, np.float64)


def _shake(
    rng: np.random.Generator,
    sources: dict[str, Samples],
    moving: Moving,
) -> None:
    """Add movement artefacts to EEG and EOG, in place."""
    from scipy import ndimage

    for epoch in np.flatnonzero(moving).tolist():
        samples = slice(epoch * waves.EPOCH, (epoch + 1) * waves.EPOCH)
        sway = ndimage.gaussian_filter1d(rng.standard_normal(waves.EPOCH), 12.0)
        artefact = (150.0 * sway / sway.std() * np.hanning(waves.EPOCH)).astype(np.float32)
        for name, signal in sources.items():
            if name.startswith(("EEG", "EOG")):
                signal[samples] += artefact * np.float32(rng.uniform(0.5, 1.5))


def _as_it_is(source: str, values: Samples, rate: float) -> Samples:
    """Record a source (its name, samples and rate) without a randomised recorder."""
    del source, rate
    return values


def _signal(
    channel: SimulatedChannel, values: Samples, record: Callable[[str, Samples, float], Samples]
) -> Signal:
    """Resample a source to a channel's rate, record it and clip it to the recorder's range."""
    rate = SLOW_RATE if channel.source in SLOW else float(waves.RATE)
    samples = resampling.resample(values, rate, channel.sample_rate)
    samples = record(channel.source, samples, channel.sample_rate)
    clipped = np.clip(samples, channel.low, channel.high)
    modality = montage.modality(channel.label)
    return Signal(
        channel.label, channel.sample_rate, channel.unit, modality, len(clipped), lambda: clipped
    )


def _start(codes: architecture.Codes, subject: int, night: int) -> datetime:
    """Return the start of the recording, such that sleep begins at about 23:00."""
    asleep = np.flatnonzero(codes)
    onset = int(asleep[0]) if len(asleep) else 0
    day = datetime(1989, 1, 2) + timedelta(days=7 * subject + night)
    began = day + timedelta(hours=23) - timedelta(seconds=onset * scorer.EPOCH_SECONDS)
    return began.replace(second=0)
