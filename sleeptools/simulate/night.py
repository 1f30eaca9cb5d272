"""One simulated night: a recording with the labels and rates of Sleep-EDF's Sleep Cassette.

The generator draws stages, signals follow them, and a scorer writes down not quite the same.
A subject depends on (seed, subject) only and a night on (seed, subject, night), so that any night
can be made alone, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from sleeptools.hypnogram import Event, Stages
from sleeptools.recording import Recording, Samples, Signal
from sleeptools.simulate import architecture, body, eeg, scorer, traits, waves
from sleeptools.simulate.traits import Floats, Traits

# Label: rate in Hz, unit, modality, and the range that the recorder clips to.
CHANNELS: Final = {
    "EEG Fpz-Cz": (100.0, "uV", "eeg", -192.0, 192.0),
    "EEG Pz-Oz": (100.0, "uV", "eeg", -197.0, 196.0),
    "EOG horizontal": (100.0, "uV", "eog", -1009.0, 1009.0),
    "Resp oro-nasal": (1.0, "", "resp", -2048.0, 2047.0),
    "EMG submental": (1.0, "uV", "emg", -5.0, 5.0),
    "Temp rectal": (1.0, "DegC", "temp", 34.0, 40.0),
    "Event marker": (1.0, "", "event", -2047.0, 2048.0),
    "EEG C4-M1": (100.0, "uV", "eeg", -192.0, 192.0),
    "EMG chin": (100.0, "uV", "emg", -100.0, 100.0),
}
"""The last two only with `extras`."""

EYES_CHANGE: Final = 0.3  # chance per epoch of eyes that may open or close

_SUBJECT, _NIGHT, _SCORER = 1, 2, 3  # what a stream of chance is for


@dataclass(frozen=True)
class SimulatedNight:
    """A night, what was scored, and what was so.

    Parameters
    ----------
    recording
        Signals at their own rates and the scorer's hypnogram, no longer than the signals.
    events
        The scorer's annotations, (onset s, duration s, text) with Rechtschaffen & Kales texts;
        the last one, "Sleep stage ?", outlasts the signals.
    truth
        (epochs,) int8 index into `stages.HUMAN`: the stages that made the signals.
    """

    recording: Recording
    events: list[Event]
    truth: Stages


def simulate_night(
    subject: int, night: int, *, hours: float | None = None, seed: int = 0, extras: bool = False
) -> SimulatedNight:
    """Simulate one night.

    Parameters
    ----------
    subject
        Number of the subject, 0 or more.
    night
        Which of the subject's nights, from 1.
    hours
        Length of the recording; a whole one of about 22 h if left out.
    seed
        Of the whole simulated data set, 0 or more.
    extras
        Adds the signals "EEG C4-M1" and "EMG chin" at 100 Hz.
    """
    person = traits.draw_traits(_stream(seed, subject, 0, _SUBJECT))
    rng = _stream(seed, subject, night, _NIGHT)
    codes = architecture.simulate_codes(
        rng, architecture.recording_epochs(rng, hours), person.habits
    )
    scoring = scorer.score(_stream(seed, subject, night, _SCORER), codes)
    samples = _signals(rng, codes, scoring.codes == scorer.MOVEMENT_CODE, person, extras=extras)
    recording = Recording(
        id=f"SC4{subject:02d}{night}",
        subject=f"SC4{subject:02d}",
        night=night,
        signals={label: _signal(label, values) for label, values in samples.items()},
        hypnogram=scoring.hypnogram(),
        start=_start(codes, subject, night),
        facts={"simulated": True, "age": person.age, "sex": "F" if person.female else "M"},
    )
    return SimulatedNight(recording, scoring.events(), architecture.HUMAN_OF_CODE[codes])


def _stream(seed: int, subject: int, night: int, purpose: int) -> np.random.Generator:
    """Start a stream of chance; always four words, because trailing zeros do not count."""
    return np.random.default_rng([seed, subject, night, purpose])


def _signals(
    rng: np.random.Generator,
    codes: architecture.Codes,
    moving: np.ndarray[tuple[int], np.dtype[np.bool_]],
    person: Traits,
    *,
    extras: bool,
) -> dict[str, Samples]:
    """Make all signals by label, each (samples,) float32 at its own rate."""
    weights = eeg.stage_weights(codes)
    eyes_open = _eyes_open(rng, codes)
    eyes_open[moving] = 1.0
    amplitude = eeg.amplitudes(rng, weights, eyes_open, person)
    leads = eeg.LEADS if extras else eeg.LEADS[:2]
    signals, source = eeg.simulate_eeg(rng, weights, amplitude, person, leads=leads)
    eog, movements, blinks = body.simulate_eyes(rng, weights, eyes_open, amplitude, source, person)
    for lead in leads:
        of_blinks, of_movements = body.EYES_IN_EEG[lead]
        signals[lead] += np.float32(of_blinks) * blinks + np.float32(of_movements) * movements
    tone = body.simulate_tone(rng, weights, eyes_open, person)
    tone[np.repeat(moving, body.SECONDS)] *= 4.0
    signals["EOG horizontal"] = eog
    signals["Resp oro-nasal"] = body.simulate_breath(rng, weights)
    signals["EMG submental"] = body.envelope(tone, person)
    signals["Temp rectal"] = body.simulate_temperature(rng, codes)
    signals["Event marker"] = body.simulate_marker(rng, len(tone))
    if extras:
        signals["EMG chin"] = body.simulate_chin(rng, tone)
    _shake(rng, signals, moving)
    return {label: signals[label] for label in CHANNELS if label in signals}


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
    signals: dict[str, Samples],
    moving: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> None:
    """Add the artefacts of a moving body to the fast signals, in place."""
    from scipy import ndimage

    for epoch in np.flatnonzero(moving).tolist():
        part = slice(epoch * waves.EPOCH, (epoch + 1) * waves.EPOCH)
        sway = ndimage.gaussian_filter1d(rng.standard_normal(waves.EPOCH), 12.0)
        artefact = (150.0 * sway / sway.std() * np.hanning(waves.EPOCH)).astype(np.float32)
        for label, signal in signals.items():
            if CHANNELS[label][2] in ("eeg", "eog"):
                signal[part] += artefact * np.float32(rng.uniform(0.5, 1.5))


def _signal(label: str, values: Samples) -> Signal:
    """Wrap samples, clipped to the recorder's range."""
    rate, unit, modality, low, high = CHANNELS[label]
    clipped = np.clip(values, low, high, out=values)
    return Signal(label, rate, unit, modality, len(clipped), lambda: clipped)


def _start(codes: architecture.Codes, subject: int, night: int) -> datetime:
    """Say when the recording began, such that sleep begins at about eleven."""
    asleep = np.flatnonzero(codes)
    onset = int(asleep[0]) if len(asleep) else 0
    day = datetime(1989, 1, 2) + timedelta(days=7 * subject + night)
    began = day + timedelta(hours=23) - timedelta(seconds=onset * scorer.EPOCH_SECONDS)
    return began.replace(second=0)
