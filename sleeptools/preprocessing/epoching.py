"""Cutting signals into epochs: one channel by itself, and all channels of a preset's montage.

An epoch begins at the first sample not before its onset, so that at a rate like 511.95964 Hz, with
512 samples for every second, epochs keep to the time however long the recording is: some of them
share a sample with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing.presets import Preset
from sleeptools.preprocessing.steps import run_steps
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.recording.signals import quality
from sleeptools.recording.signals.quality import Onsets

MOST_SAMPLES = 20_000  # of a channel, to judge its amplitude by


@dataclass(frozen=True)
class CutEpochs:
    """The epochs of a montage, and what was wrong with them.

    Parameters
    ----------
    values
        (epochs, channels, samples) float32.
    reasons
        Why each epoch that was asked for has no signal, one of `quality.EXCLUDING`, or "".
    kept
        (all epochs that were asked for,) whether `values` has it.
    counts
        Number of those epochs by channel and by kind of `quality.KINDS`.
    warnings
        One text for each channel whose amplitudes are implausible.
    """

    values: npt.NDArray[np.float32]
    reasons: list[str]
    kept: quality.Mask
    counts: dict[str, dict[str, int]]
    warnings: list[str]

    @cached_property
    def left_out(self) -> dict[str, int]:
        """Number of epochs that were left out, by each of `quality.EXCLUDING`."""
        absent = [r for r, kept in zip(self.reasons, self.kept, strict=True) if not kept]
        return {kind: absent.count(kind) for kind in quality.EXCLUDING}


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
    preset: Preset, recording: Recording, signals: Sequence[Signal], onsets: Onsets, folder: Path
) -> CutEpochs:
    """Process the channels of a montage and cut them into epochs.

    Parameters
    ----------
    preset
        Says which steps are applied, the sample rate of the epochs, and whether epochs without a
        signal are left out. Those that touch an interruption of the recording always are.
    recording
        The recording, for its interruptions, and its id in messages.
    signals
        One for each channel of the montage, as `montage.pick` returns them.
    onsets
        (epochs,) s from the start of the recording; all within `scorable_seconds`.
    folder
        Where an unnamed temporary file holds the epochs, so that they need not fit in memory.

    Raises
    ------
    DataError
        If a value is not finite and the preset keeps it, or a step leaves another number of samples
        per epoch.
    """
    out = store.scratch(folder, (len(onsets), len(signals), preset.samples), np.float32)
    excludes = preset.quality == "exclude"
    warnings = []
    masks = []
    for i, signal in enumerate(signals):  # one at a time: memory for one whole channel
        stored = signal.read()
        judged = quality.judge(signal, stored, onsets, preset.epoch_seconds)
        samples = signal.decode(stored)
        bridges = excludes and stored.dtype.kind == "f"
        del stored
        if judged[quality.NOT_FINITE].any() and not excludes:
            raise DataError(
                f"{recording.id}: signal {signal.label!r} is not finite", code="SIG-FINITE"
            )
        samples = quality.bridged(samples) if bridges else samples
        if doubt := _doubt(signal, samples, onsets, judged):
            warnings.append(f"{signal.label}: {doubt}")
        out[:, i] = _channel_epochs(preset, recording.id, signal, samples, onsets)
        if not np.isfinite(out[:, i]).all():
            raise DataError(
                f"{recording.id}: signal {signal.label!r} is not finite", code="SIG-FINITE"
            )
        masks.append(judged | {quality.MAINS: quality.mains(out[:, i], preset.sample_rate)})
    gap = quality.touch(getattr(recording, "gaps", ()), onsets, preset.epoch_seconds)
    reasons = quality.reasons(masks, gap)
    kept = ~gap & np.array([not (excludes and reason) for reason in reasons], bool)
    counts = {s.label: quality.counts(m) for s, m in zip(signals, masks, strict=True)}
    counts = {label: kinds for label, kinds in counts.items() if kinds}
    return CutEpochs(_compact(out, kept), reasons, kept, counts, warnings)


def amplitude_doubt(signal: Signal, epoch_seconds: float) -> str:
    """Describe an implausible amplitude of a whole signal; "" if it is plausible."""
    stored = signal.read()
    onsets = quality.whole_epochs(signal, epoch_seconds)
    judged = quality.judge(signal, stored, onsets, epoch_seconds)
    return _doubt(signal, signal.decode(stored), onsets, judged)


def _doubt(signal: Signal, samples: Samples, onsets: Onsets, judged: quality.Masks) -> str:
    """Describe an implausible amplitude of the epochs that have a signal."""
    bad = np.any([judged[kind] for kind in quality.EXCLUDING if kind in judged], axis=0)
    heard = quality.with_signal(samples, signal.sample_rate, onsets, bad, MOST_SAMPLES)
    return montage.suspicion(heard, signal.modality)


def _compact(epochs: npt.NDArray[np.float32], kept: quality.Mask) -> npt.NDArray[np.float32]:
    """Move the kept epochs to the front, in place: they need not fit in memory."""
    numbers = np.flatnonzero(kept)
    if len(numbers) < len(epochs):
        for target, number in enumerate(numbers.tolist()):
            epochs[target] = epochs[number]
    return epochs[: len(numbers)]


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
            code="SIG-SAMPLES",
        )
    return epochs


def _cut_at(preset: Preset, onsets: Onsets, samples: Samples, rate: float) -> Samples:
    return cut_signal(samples, rate, onsets, preset.samples_at(rate))
