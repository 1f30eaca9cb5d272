"""The comparison of an exported model with the one it came from, on a simulated night."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from sleeptools.datasets import SimulatedChannel
from sleeptools.datasets.simulation import eeg, mouse, night
from sleeptools.errors import DataError
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity
from sleeptools.native import Floats
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.presets import Preset
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording

EPOCHS: Final = 960  # 8 h of 30 s
TOLERANCE: Final = 1e-5
SEED: Final = 2026
RANGE: Final = 1000.0  # uV, within which the simulated recorder does not clip
HUMAN: Final = {"eog": "EOG horizontal", "emg": "EMG chin", "ecg": "ECG"}
MOUSE: Final = {"emg": "EMG"}
"""Simulated signal by modality; all others are an EEG."""
WAKE_OF_MICE: Final = "Wake"


class Agreement(NamedTuple):
    """How two networks scored one night.

    Parameters
    ----------
    epochs
        Number of epochs.
    difference
        Largest difference of a probability.
    """

    epochs: int
    difference: float


def compare(engine: Engine, exported: Engine, epochs: int, folder: Path) -> Agreement:
    """Score a simulated night with both.

    Parameters
    ----------
    epochs
        Length of the night, epochs.
    folder
        Where the epochs lie meanwhile, in a file without a name.

    Raises
    ------
    DataError
        If the model does not say how its signals were preprocessed, or a probability differs by
        more than `TOLERANCE`.
    """
    preset = presets.of_model(engine.facts, str(engine.files[0]))
    recording = simulated_night(preset, epochs)
    expected, density = (hypnodensity(e, preset, recording, folder)[0] for e in (engine, exported))
    difference = largest_difference(expected, density)
    if not difference <= TOLERANCE:
        reason = (
            f"a probability differs by {difference:.2g}, more than {TOLERANCE:g}"
            if difference < np.inf
            else "not the same epochs have a finite probability"
        )
        raise DataError(
            f"{exported.files[0].name}: scores a simulated night otherwise than the model, so "
            f"nothing was written: {reason}",
            hint="its weights are so large that single precision does not settle a stage: train "
            "the model longer, or with another seed",
            code="EXPORT-DIFFERS",
        )
    return Agreement(len(expected), difference)


def largest_difference(expected: Floats, density: Floats) -> float:
    """Compare two hypnodensities; infinite if not the same epochs have one."""
    if not np.array_equal(np.isnan(expected), np.isnan(density)):
        return float("inf")
    return float(np.nan_to_num(abs(expected - density)).max(initial=0.0))


def simulated_night(preset: Preset, epochs: int) -> Recording:
    """Simulate a person's or a mouse's night with the channels of a preset."""
    hours = epochs * preset.epoch_seconds / 3600
    is_mouse = preset.stages[0] == WAKE_OF_MICE
    channels = []
    for number, channel in enumerate(preset.montage):
        label = channel.candidates[0]
        modality = montage.modality(label)
        lead = eeg.LEADS[number % len(eeg.LEADS)]
        source = MOUSE.get(modality, "EEG") if is_mouse else HUMAN.get(modality, lead)
        channels.append(SimulatedChannel(label, source, preset.sample_rate, -RANGE, RANGE))
    if is_mouse:
        simulated = mouse.simulate_night(
            0, 1, channels=channels, epoch_seconds=1, hours=hours, seed=SEED
        )
    else:
        simulated = night.simulate_night(0, 1, hours=hours, seed=SEED, channels=channels)
    return simulated.recording
