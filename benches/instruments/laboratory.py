"""Two simulated laboratories: `HOME`, the simulator as it ships, and `AWAY`, named and fixed.

AWAY has other amplifiers (a gain for each modality), other spectra in all of its people, and a
scorer with other habits: N3 is only what others call stage 4, and an N1 of a single epoch is scored
as what follows it. `AWAY` was chosen by what it takes from a model of HOME, and not changed once a
model was fine-tuned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sleeptools.commands import preprocess
from sleeptools.datasets import sleep_edf
from sleeptools.datasets.simulation.calibration import RHYTHMS, Calibration, calibrated
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.preprocessing import presets
from sleeptools.recording.hypnogram import Event
from sleeptools.recording.recording import Recording, Signal

EPOCH = 30.0  # s


@dataclass(frozen=True)
class Laboratory:
    """Gains by modality, factors of rhythms, a change of the background's slope, and habits."""

    gains: dict[str, float] = field(default_factory=dict)
    rhythms: dict[str, float] = field(default_factory=dict)
    slope: float = 0.0
    strict: bool = False

    def calibration(self) -> Calibration:
        """Levels of all its people."""
        shipped = calibrated()
        factors = np.array([self.rhythms.get(name, 1.0) for name in RHYTHMS])
        return replace(
            shipped,
            levels_uv=shipped.levels_uv * factors,
            background_slope=shipped.background_slope + self.slope,
        )

    def amplify(self, signal: Signal) -> Signal:
        """Record a signal by its amplifier of this modality."""
        gain = np.float32(self.gains.get(signal.modality, 1.0))
        return replace(signal, read=lambda: gain * signal.samples(), dtype=np.float32)

    def score(self, events: Sequence[Event]) -> list[Event]:
        """Score as its scorer does what another has scored."""
        if not self.strict:
            return list(events)
        scored = []
        following = [text for *_, text in events[1:]] + [events[-1][2]]
        for (onset, seconds, text), after in zip(events, following, strict=True):
            written = "Sleep stage 2" if text == "Sleep stage 3" else text
            if text == "Sleep stage 1" and seconds <= EPOCH and after.startswith("Sleep stage"):
                written = "Sleep stage 2" if after == "Sleep stage 3" else after
            scored.append((onset, seconds, written))
        return scored


HOME = Laboratory()
AWAY = Laboratory(
    gains={"eeg": 0.75, "eog": 1.4, "emg": 0.6},
    rhythms={"delta": 0.9, "alpha": 0.8, "beta": 1.25},
    slope=0.15,
    strict=True,
)


def night(laboratory: Laboratory, subject: int, *, hours: float, seed: int) -> tuple:
    """Simulate the first night of a subject: recording, and events as its scorer writes them."""
    simulated = simulate_night(
        subject, 1, hours=hours, seed=seed, calibration=laboratory.calibration()
    )
    recording: Recording = simulated.recording
    signals = {name: laboratory.amplify(s) for name, s in recording.signals.items()}
    return replace(recording, signals=signals), laboratory.score(simulated.events)


def write_night(
    raw: Path, laboratory: Laboratory, subject: int, *, hours: float, seed: int
) -> tuple[Path, Path]:
    """Write a night as Sleep-EDF files: paths of its signals and of its scoring."""
    raw.mkdir(parents=True, exist_ok=True)
    recording, events = night(laboratory, subject, hours=hours, seed=seed)
    return sleep_edf.write(recording, raw, events)


def make_epochs(
    folder: Path,
    laboratory: Laboratory,
    subjects: Iterable[int],
    *,
    hours: float,
    seed: int,
    preset: presets.Preset | None = None,
) -> Path:
    """Write the nights of subjects as Sleep-EDF files and preprocess them, unless that is done."""
    raw, epochs = folder / "raw", folder / "epochs"
    if not (epochs / "manifest.json").exists():
        for subject in subjects:
            write_night(raw, laboratory, subject, hours=hours, seed=seed)
        preprocess.preprocess(preset or presets.load("sleep-edf"), raw, epochs)
    return epochs
