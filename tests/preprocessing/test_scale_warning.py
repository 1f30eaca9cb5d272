"""A warning where a scale is taken from less than two hours of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleeptools.preprocessing import epoching, presets
from sleeptools.recording.recording import Recording, Signal

SCALES = ({"do": "z-score"}, {"do": "robust-scale"})
OTHERS = ({"do": "z-score", "over": "epoch"}, {"do": "clip", "limit": 9.0})


def warnings_of(hours: float, step: dict[str, Any], folder: Path) -> list[str]:
    values = {"name": "x", "data_set": "edf", "montage": ["EEG C4-M1"], "sample_rate": 10.0}
    preset = presets.resolve({**values, "processing": [step]}, source="test")
    samples = np.random.default_rng(0).normal(0, 20, round(hours * 36_000)).astype(np.float32)
    signal = Signal("EEG C4-M1", 10.0, "uV", "eeg", len(samples), lambda: samples)
    recording = Recording("x", "x", 1, {signal.label: signal})
    onsets = np.arange(0.0, 600.0, 30.0)
    return epoching.cut_epochs(preset, recording, [signal], onsets, folder).warnings


@pytest.mark.parametrize("step", SCALES, ids=str)
def test_a_scale_over_less_than_two_hours(step: dict[str, Any], tmp_path: Path) -> None:
    (warning,) = warnings_of(0.5, step, tmp_path)
    assert warning.startswith("EEG C4-M1: scaled over 30 min, less than 2 h")
    assert not warnings_of(2.0, step, tmp_path)
    assert not warnings_of(2.0 - 1 / 36_000, step, tmp_path)  # a sample short


@pytest.mark.parametrize("step", OTHERS, ids=str)
def test_no_scale_over_the_recording(step: dict[str, Any], tmp_path: Path) -> None:
    assert not warnings_of(0.5, step, tmp_path)
