"""Epochs cut out of a recording's signals as a preset says, scored or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing.presets import Preset
from sleeptools.preprocessing.steps import run_steps
from sleeptools.recording import montage
from sleeptools.recording.recording import Samples, Signal


def scorable_seconds(preset: Preset, chosen: Sequence[Signal]) -> float:
    """Say up to when whole epochs can be cut out of signals, before or after resampling, s."""
    rates = [(s, rate) for s in chosen for rate in (s.sample_rate, preset.rate_of(s.sample_rate))]
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
    preset: Preset,
    id_: str,
    chosen: Sequence[Signal],
    onset: npt.NDArray[np.float64],
    folder: Path,
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Cut epochs out of the signals of a montage, processed.

    Parameters
    ----------
    preset
        What is done to them.
    id_
        Names the recording in a message.
    chosen
        One for each channel, as `montage.pick` gives them.
    onset
        (epochs,) s from the start of the recording; all within `scorable_seconds`.
    folder
        Where the epochs lie meanwhile, in a file without a name.

    Returns
    -------
    epochs
        (epochs, channels, samples) float32.
    warnings
        Amplitudes that cannot be right.

    Raises
    ------
    DataError
        If a value is not finite, or a step leaves another number of samples.
    """
    out = store.scratch(folder, (len(onset), len(chosen), preset.samples), np.float32)
    warnings = []

    def pieces(channel: Samples, rate: float) -> Samples:
        return cut_signal(channel, rate, onset, preset.samples_at(rate))

    for i, signal in enumerate(chosen):  # one at a time: memory for one whole channel
        samples = signal.samples()
        if doubt := montage.suspicion(samples, signal.modality):
            warnings.append(f"{signal.label}: {doubt}")
        steps = preset.steps(signal.label, signal.modality)
        to = preset.rate_of(signal.sample_rate)
        made = run_steps(steps, samples, signal.sample_rate, to, pieces)
        if made.shape[-1] != preset.samples:
            raise DataError(
                f"{id_}: epochs of {signal.label!r} at {signal.sample_rate:g} Hz become "
                f"{made.shape[-1]} samples; expected {preset.samples}",
                hint="resample over the recording, not over each epoch",
            )
        out[:, i] = made
        if not np.isfinite(out[:, i]).all():
            raise DataError(f"{id_}: signal {signal.label!r} is not finite")
    return out, warnings


def cut_signal(
    samples: Samples, rate: float, onsets: npt.NDArray[np.float64], size: int
) -> Samples:
    """Cut epochs out of a channel.

    An epoch begins at the first sample not before its onset, so that at a rate like 511.95964 Hz,
    with 512 samples for every second, epochs keep to the time however long the recording is: some
    of them share a sample with the next.

    Parameters
    ----------
    samples
        (n,) float32.
    rate
        Hz.
    onsets
        (epochs,) s from the start of the channel.
    size
        Samples of an epoch.

    Returns
    -------
    epochs
        (epochs, size) float32.
    """
    first = np.ceil(onsets * rate - 1e-6).astype(np.int64)
    assert len(first) == 0 or first[-1] + size <= len(samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    return np.ascontiguousarray(windows[first])


def covered_seconds(count: int, rate: float, size: int, seconds: float) -> float:
    """Say up to when whole epochs can be cut out of a channel: s from its start.

    Parameters
    ----------
    count
        Samples of the channel.
    rate
        Hz.
    size, seconds
        Of an epoch.
    """
    return (count - size) / rate + seconds
