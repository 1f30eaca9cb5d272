"""Cutting signals into epochs: one channel by itself, and all channels of a preset's montage.

An epoch begins at the first sample not before its onset, so that at a rate like 511.95964 Hz, with
512 samples for every second, epochs keep to the time however long the recording is: some of them
share a sample with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing.presets import Preset
from sleeptools.preprocessing.steps import run_steps
from sleeptools.recording import montage
from sleeptools.recording.recording import Samples, Signal

Onsets = npt.NDArray[np.float64]


def cut_signal(samples: Samples, rate: float, onsets: Onsets, size: int) -> Samples:
    """Cut one channel into epochs.

    Parameters
    ----------
    samples
        (n,) float32.
    rate
        Sample rate, Hz.
    onsets
        (epochs,) s from the start of the channel.
    size
        Number of samples per epoch.

    Returns
    -------
    epochs
        (epochs, size) float32.
    """
    first = np.ceil(onsets * rate - 1e-6).astype(np.int64)
    assert len(first) == 0 or first[-1] + size <= len(samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    return np.ascontiguousarray(windows[first])


def covered_seconds(count: int, rate: float, size: int, epoch_seconds: float) -> float:
    """Return the time up to which one channel can be cut into whole epochs, s from its start.

    Parameters
    ----------
    count
        Number of samples of the channel.
    rate
        Sample rate, Hz.
    size
        Number of samples per epoch.
    epoch_seconds
        Length of an epoch, s.
    """
    return (count - size) / rate + epoch_seconds


def scorable_seconds(preset: Preset, signals: Sequence[Signal]) -> float:
    """Return the time up to which all channels can be cut into whole epochs, s from the start.

    A channel must reach that far both at its own sample rate and at the preset's.
    """
    rates = [(s, rate) for s in signals for rate in (s.sample_rate, preset.rate_of(s.sample_rate))]
    return min(
        covered_seconds(
            round(signal.size * rate / signal.sample_rate),
            rate,
            preset.samples_at(rate),
            preset.epoch_seconds,
        )
        for signal, rate in rates
    )


def cut_epochs(
    preset: Preset, recording: str, signals: Sequence[Signal], onsets: Onsets, folder: Path
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Process the channels of a montage and cut them into epochs.

    Parameters
    ----------
    preset
        Says which steps are applied, and the sample rate of the epochs.
    recording
        Id of the recording, for messages.
    signals
        One for each channel of the montage, as `montage.pick` returns them.
    onsets
        (epochs,) s from the start of the recording; all within `scorable_seconds`.
    folder
        Where an unnamed temporary file holds the epochs, so that they need not fit in memory.

    Returns
    -------
    epochs
        (epochs, channels, samples) float32.
    warnings
        One text for each channel whose amplitudes are implausible.

    Raises
    ------
    DataError
        If a value is not finite, or a step leaves another number of samples per epoch.
    """
    out = store.scratch(folder, (len(onsets), len(signals), preset.samples), np.float32)
    warnings = []
    for i, signal in enumerate(signals):  # one at a time: memory for one whole channel
        samples = signal.samples()
        if doubt := montage.suspicion(samples, signal.modality):
            warnings.append(f"{signal.label}: {doubt}")
        out[:, i] = _channel_epochs(preset, recording, signal, samples, onsets)
        if not np.isfinite(out[:, i]).all():
            raise DataError(f"{recording}: signal {signal.label!r} is not finite")
    return out, warnings


def _channel_epochs(
    preset: Preset, recording: str, signal: Signal, samples: Samples, onsets: Onsets
) -> Samples:
    """Run a preset's steps on one channel: (epochs, samples) float32."""
    epochs = run_steps(
        preset.steps(signal.label, signal.modality),
        samples,
        signal.sample_rate,
        preset.rate_of(signal.sample_rate),
        partial(_cut_at, preset, onsets),
    )
    if epochs.shape[-1] != preset.samples:
        raise DataError(
            f"{recording}: epochs of {signal.label!r} at {signal.sample_rate:g} Hz become "
            f"{epochs.shape[-1]} samples; expected {preset.samples}",
            hint="resample over the recording, not over each epoch",
        )
    return epochs


def _cut_at(preset: Preset, onsets: Onsets, samples: Samples, rate: float) -> Samples:
    return cut_signal(samples, rate, onsets, preset.samples_at(rate))
