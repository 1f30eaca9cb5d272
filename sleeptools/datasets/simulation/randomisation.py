"""Randomised nights: what is not known of a recording, drawn anew for every night.

For training sets: a model that has met many leads, recorders and levels leans on none of them
(domain randomisation; Tobin et al. 2017, IROS:23). Stages and scorings are those of the same night
without it. Sizes are wider than the spread between real nights of one laboratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sleeptools.datasets.simulation import body, eeg
from sleeptools.datasets.simulation.calibration import RHYTHMS
from sleeptools.datasets.simulation.eeg import Place
from sleeptools.datasets.simulation.traits import Traits
from sleeptools.datasets.simulation.waves import Floats, Signal32
from sleeptools.recording.recording import Samples
from sleeptools.recording.signals import filters

# Standard deviations of the logarithm of a factor.
GAIN: Final = 0.35  # of all EEG; real nights of one person differ by 1.6 to 3.4 dB, 0.2 to 0.4
RHYTHM: Final = 0.30  # of one rhythm; real nights differ by 2 to 3.5 dB in most bands
NOISE: Final = 0.7  # white noise of the electrodes: impedances of 1 to 5 kOhm, and worse
EVENTS: Final = 0.5  # number of spindles and K-complexes; sigma shares of real people: 2.1 dB
EYES: Final = 0.5  # size in the EOG: rms of real wake from 19 to 122 uV within 300 s
MUSCLE: Final = 0.4  # tone; real people in wake differ by 2.8 dB
ATONIA: Final = 0.4  # tone of REM, which people without full atonia keep
LEAD_EYES: Final = 0.4  # leakage into one lead, whose place in a cap is right to some 1 cm
LEAD_MUSCLE: Final = 0.5  # the same of the scalp's muscle: 30-50 Hz in real wake differs by 3.5 dB
MOST: Final = 2.0  # standard deviations; nothing is drawn from further out

SLOPE: Final = 0.4  # at most, of the 1/f exponent, which is 0.6 to 2.9 in real stages and leads
PLACES: Final = ("EEG Fpz-Cz", "EEG C4-M1", "EEG Pz-Oz")  # a lead is moved to between these
EEG_FLIPPED: Final = 0.15  # chance; some write EEG with negative up
EOG_FLIPPED: Final = 0.5  # either eye may be the first electrode
LINKED: Final = 0.3  # chance of linked mastoids, which add the heart's field
HEART: Final = 0.03  # at most, of an R wave of 0.8 mV: 24 uV
HIGH_PASS_HZ: Final = (0.1, 1.0)  # AASM: 0.3; polygraphs 0.1 to 1
LOW_PASS_HZ: Final = (25.0, 49.0)  # AASM: 35
MAINS_HZ: Final = (50.0, 60.0)
NOTCHED: Final = 0.3  # chance of a notch at the mains frequency
NOTCH_HZ: Final = 4.0  # its width
NOTCH_LEAVES: Final = 0.02  # of the hum
FOLDED: Final = 0.2  # chance of a recorder without a filter against aliasing, as old ones
ALIAS_LEAVES: Final = 0.01  # of hum above half the sample rate, with such a filter

# Of an electrode: median, and standard deviation of the logarithm.
WHITE_UV: Final = (0.4, 0.7)  # amplifier and skin; AASM asks for impedances below 5 kOhm
HUM_UV: Final = (1.0, 1.0)
DRIFT_UV: Final = (8.0, 0.7)  # sweat and breathing, below 0.5 Hz; 100 uV is a bad night
DRIFT_S: Final = 4.0  # time constant
POPS_PER_HOUR: Final = (0.5, 1.0)
POP_UV: Final = (120.0, 0.5)
POP_S: Final = (0.1, 0.6)  # decay


@dataclass(frozen=True)
class Recorder:
    """An amplifier with its filters, and the mains around it.

    Parameters
    ----------
    high_pass_hz, low_pass_hz
        Corners of its filters, Hz.
    order
        Filter order of both, 1 or 2.
    mains_hz, notched
        Mains frequency, Hz, and whether a notch filter removes it.
    alias
        Share of hum beyond half the sample rate that is recorded, folded.
    white_uv, hum_uv, drift_uv
        Root mean square of a usual electrode's noise, hum and drift, uV.
    pops_per_hour
        Pops of a usual electrode.
    """

    high_pass_hz: float
    low_pass_hz: float
    order: int
    mains_hz: float
    notched: bool
    alias: float
    white_uv: float
    hum_uv: float
    drift_uv: float
    pops_per_hour: float

    def record(
        self, rng: np.random.Generator, source: str, values: Samples, rate: float
    ) -> Samples:
        """Record a source: (samples,) float32, uV; other signals than EEG, EOG and EMG as they are.

        Parameters
        ----------
        rng
            Random generator.
        source
            Name of the source, such as "EEG Fpz-Cz" or "EOG horizontal".
        values
            (samples,) uV, at `rate`.
        rate
            Sample rate of the recording, Hz.
        """
        if source[:3] not in {"EEG", "EOG", "EMG"} or rate <= 2 * self.low_pass_hz:
            return values
        white, hum, drift, pops = _factor(rng, 0.5, 4)
        recorded = values + np.float32(self.white_uv * white) * rng.standard_normal(
            len(values), dtype=np.float32
        )
        if source[:3] != "EMG":
            recorded += _drift(rng, len(values), rate) * np.float32(self.drift_uv * drift)
            _add_pops(rng, recorded, self.pops_per_hour * pops, rate)
            recorded = filters.causal(recorded, self._sections(rate))
        recorded += np.float32(self.hum_uv * hum * self._passes(rate)) * _hum(
            rng, len(values), self.mains_hz / rate
        )
        return recorded

    def _sections(self, rate: float) -> filters.Sections:
        """Return the filters; a notch only where the rate can hold it."""
        sections = [
            filters.butterworth("highpass", (self.high_pass_hz,), self.order, rate),
            filters.butterworth("lowpass", (self.low_pass_hz,), self.order, rate),
        ]
        if self.notched and self.mains_hz < rate / 2:
            sections.append(filters.notch(self.mains_hz, NOTCH_HZ, rate))
        return np.concatenate(sections)

    def _passes(self, rate: float) -> float:
        """Return the share of the hum that the filters leave."""
        share = 1.0 / np.sqrt(1.0 + (self.mains_hz / self.low_pass_hz) ** (2 * self.order))
        share *= NOTCH_LEAVES if self.notched else 1.0
        return float(share * (self.alias if self.mains_hz >= rate / 2 else 1.0))


@dataclass(frozen=True)
class Randomisation:
    """What is drawn for one night: factors around 1 on what its subject and the simulator have.

    Parameters
    ----------
    gain
        On all EEG.
    rhythms
        (7,) on each rhythm of `calibration.RHYTHMS`.
    slope
        Added to the exponent of the background's power spectrum.
    noise
        On the electrodes' noise in the EEG.
    spindles, k_complexes, blinks, eyes, muscle, atonia
        On the traits of these names.
    places
        What each EEG lead sees, by name.
    eeg_sign, eog_sign
        Polarity, 1 or -1.
    heart
        Share of the ECG that the reference adds to EEG and EOG.
    recorder
        What records the signals.
    """

    gain: float
    rhythms: Floats
    slope: float
    noise: float
    spindles: float
    k_complexes: float
    blinks: float
    eyes: float
    muscle: float
    atonia: float
    places: Mapping[str, Place]
    eeg_sign: int
    eog_sign: int
    heart: float
    recorder: Recorder

    def of_person(self, traits: Traits) -> Traits:
        """Return a person's traits as this night has them; how they sleep stays."""
        return replace(
            traits,
            levels_uv=self.gain * traits.levels_uv * self.rhythms,
            overall=self.gain * traits.overall,
            slope=float(np.clip(traits.slope + self.slope, 0.6, 3.4)),
            noise_uv=self.noise * traits.noise_uv,
            spindles=self.spindles * traits.spindles,
            k_complexes=self.k_complexes * traits.k_complexes,
            blinks=self.blinks * traits.blinks,
            eyes=self.eyes * traits.eyes,
            muscle=self.muscle * traits.muscle,
            atonia=self.atonia * traits.atonia,
        )

    def rereference(self, rng: np.random.Generator, sources: dict[str, Signal32]) -> None:
        """Give EEG and EOG their polarity and the heart in their reference, in place."""
        heart = sources.get("ECG")
        for name in [name for name in sources if name.startswith(("EEG", "EOG"))]:
            if self.heart and heart is None:
                heart = body.simulate_heart(rng, len(sources[name]))
            if self.heart and heart is not None:
                sources[name] += np.float32(self.heart) * heart
            sources[name] *= self.eeg_sign if name.startswith("EEG") else self.eog_sign


def draw(
    rng: np.random.Generator, *, low_pass_hz: tuple[float, float] = LOW_PASS_HZ
) -> Randomisation:
    """Draw what is not known of a recording; `low_pass_hz` is the range of that corner."""
    return Randomisation(
        gain=_one(rng, GAIN),
        rhythms=_factor(rng, RHYTHM, len(RHYTHMS)),
        slope=float(rng.uniform(-SLOPE, SLOPE)),
        noise=_one(rng, NOISE),
        spindles=_one(rng, EVENTS),
        k_complexes=_one(rng, EVENTS),
        blinks=_one(rng, EYES),
        eyes=_one(rng, EYES),
        muscle=_one(rng, MUSCLE),
        atonia=_one(rng, ATONIA),
        places=_draw_places(rng),
        eeg_sign=-1 if rng.random() < EEG_FLIPPED else 1,
        eog_sign=-1 if rng.random() < EOG_FLIPPED else 1,
        heart=float(rng.uniform(0.0, HEART)) if rng.random() < LINKED else 0.0,
        recorder=_draw_recorder(rng, low_pass_hz),
    )


def _factor(rng: np.random.Generator, spread: float, size: int | None = None) -> Floats:
    """Draw factors around 1, of a truncated log-normal distribution."""
    factor: Floats = np.exp(spread * np.clip(np.asarray(rng.standard_normal(size)), -MOST, MOST))
    return factor


def _one(rng: np.random.Generator, spread: float, median: float = 1.0) -> float:
    return median * float(_factor(rng, spread))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_places(rng: np.random.Generator) -> dict[str, Place]:
    """Move each lead some way to a place between `PLACES`, with leakage of its own."""
    ends = np.array([eeg.PLACES[lead] for lead in PLACES])
    places = {}
    for lead, home in eeg.PLACES.items():
        way, target = rng.random(), rng.dirichlet(np.ones(len(ends))) @ ends
        place = Place(*((1.0 - way) * np.array(home) + way * target).tolist())
        blinks, movements = _factor(rng, LEAD_EYES, 2).tolist()
        places[lead] = place._replace(
            blinks=blinks * place.blinks,
            movements=movements * place.movements,
            muscle=_one(rng, LEAD_MUSCLE),
        )
    return places


def _draw_recorder(rng: np.random.Generator, low_pass_hz: tuple[float, float]) -> Recorder:
    return Recorder(
        high_pass_hz=_log_uniform(rng, *HIGH_PASS_HZ),
        low_pass_hz=_log_uniform(rng, *low_pass_hz),
        order=int(rng.integers(1, 3)),
        mains_hz=float(rng.choice(MAINS_HZ)),
        notched=bool(rng.random() < NOTCHED),
        alias=1.0 if rng.random() < FOLDED else ALIAS_LEAVES,
        white_uv=_one(rng, WHITE_UV[1], WHITE_UV[0]),
        hum_uv=_one(rng, HUM_UV[1], HUM_UV[0]),
        drift_uv=_one(rng, DRIFT_UV[1], DRIFT_UV[0]),
        pops_per_hour=_one(rng, POPS_PER_HOUR[1], POPS_PER_HOUR[0]),
    )


def _drift(rng: np.random.Generator, samples: int, rate: float) -> Signal32:
    """Draw slow drift of unit variance: (samples,)."""
    from scipy import signal

    steps = int(samples / rate) + 2  # of a second
    keep = np.exp(-1.0 / DRIFT_S)
    slow = signal.lfilter([np.sqrt(1 - keep**2)], [1.0, -keep], rng.standard_normal(steps))
    drift = np.interp(np.arange(samples) / rate, np.arange(steps), slow)
    return np.asarray(drift, np.float32)


def _add_pops(rng: np.random.Generator, values: Samples, per_hour: float, rate: float) -> None:
    """Add pops, each a step that decays, in place."""
    for _ in range(rng.poisson(per_hour * len(values) / rate / 3600)):
        onset, size = int(rng.integers(len(values))), _one(rng, POP_UV[1], POP_UV[0])
        seconds, sign = rng.uniform(*POP_S), rng.choice((-1.0, 1.0))
        stretch = values[onset : onset + int(5 * seconds * rate)]
        stretch += (sign * size * np.exp(-np.arange(len(stretch)) / (seconds * rate))).astype(
            np.float32
        )


def _hum(rng: np.random.Generator, samples: int, cycles: float) -> Signal32:
    """Draw hum of `cycles` per sample and unit variance: (samples,); it folds by itself."""
    phase = 2 * np.pi * (rng.random() + cycles * np.arange(samples))
    return np.asarray(np.sqrt(2.0) * np.cos(phase), np.float32)
