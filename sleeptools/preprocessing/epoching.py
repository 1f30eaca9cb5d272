"""Cutting signals into epochs: one channel by itself, and all channels of a preset's montage.

An epoch begins at the first sample not before its onset, so that at a rate like 511.95964 Hz, with
512 samples for every second, epochs keep to the time however long the recording is: some of them
share a sample with the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing.presets import Preset
from sleeptools.preprocessing.steps import run_steps
from sleeptools.recording import montage, timeline
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.recording.signals import quality
from sleeptools.recording.timeline import Onsets

MOST_SAMPLES = 20_000  # of a channel, to judge its amplitude by
LEAST_RATE = 0.9  # of the epochs' rate, that an EEG is to be recorded at
LEAST_SCALED = 7200.0  # s of a recording, from which a scale is that of a night
IN_GAP = -1
"""Instead of the number of a stretch, of epochs that touch an interruption."""


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
        Texts about channels whose amplitudes are implausible, or scaled over a short recording.
    """

    values: store.Scratch
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
        (epochs, size) float32; a view where epochs lie side by side.
    """
    first = timeline.sample_numbers(onsets, rate)
    assert len(first) == 0 or first[-1] + size <= len(samples)
    if len(first) and (np.diff(first) == size).all():  # side by side, as most are
        return samples[first[0] : first[-1] + size].reshape(-1, size)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    return np.ascontiguousarray(windows[first])


def scorable_seconds(preset: Preset, signals: Sequence[Signal]) -> float:
    """Return the time up to which all channels can be cut into whole epochs, s from the start.

    A channel must reach that far both at its own sample rate and at the preset's.
    """
    return min(
        float(signal.stretches.begins[-1])
        + (int(counts[-1]) - preset.samples_at(rate)) / rate
        + preset.epoch_seconds
        for signal, rate, counts in _rates(preset, signals)
    )


def _rates(
    preset: Preset, signals: Sequence[Signal]
) -> Iterator[tuple[Signal, float, timeline.Counts]]:
    """Yield each signal at its own rate and at the preset's, with the samples of its stretches."""
    for signal in signals:
        for rate in (signal.sample_rate, preset.rate_of(signal.sample_rate)):
            counts = np.rint(signal.stretches.sizes * rate / signal.sample_rate)
            yield signal, rate, counts.astype(np.int64)


def _stretch_of(preset: Preset, signals: Sequence[Signal], onsets: Onsets) -> timeline.Counts:
    """Return in which stretch of the recording each epoch lies, whole: (epochs,); or IN_GAP."""
    stretches = signals[0].stretches
    number = stretches.holding(onsets)
    whole = np.ones(len(onsets), bool)
    for _, rate, counts in _rates(preset, signals):
        first = timeline.sample_numbers(onsets - stretches.begins[number], rate)
        whole &= first + preset.samples_at(rate) <= counts[number]
    return np.where(whole, number, IN_GAP)


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
        The recording, for its id in messages.
    signals
        One for each channel of the montage, as `montage.pick` returns them.
    onsets
        (epochs,) s from the start of the recording, ascending; all within `scorable_seconds`.
    folder
        Where an unnamed temporary file holds the epochs, so that they need not fit in memory.

    Raises
    ------
    DataError
        If a value is not finite and the preset keeps it, or a step leaves another number of samples
        per epoch.
    """
    stretch = _stretch_of(preset, signals, onsets)
    recorded = stretch != IN_GAP
    reasons = np.where(recorded, "", quality.GAP).astype(object)
    onsets, stretch = onsets[recorded], stretch[recorded]
    values = store.Scratch(folder, (len(onsets), len(signals), preset.samples))
    excludes = preset.quality == "exclude"
    doubtful: dict[str, list[str]] = {}  # what is wrong, and with which channels
    masks = []
    for i, signal in enumerate(signals):
        judged, doubt = _judge_channel(signal, onsets, preset.epoch_seconds)
        if judged[quality.NOT_FINITE].any() and not excludes:
            raise DataError(
                f"{recording.id}: signal {signal.label!r} is not finite", code="SIG-FINITE"
            )
        doubts = [doubt, _rate_doubt(preset, signal), _scale_doubt(preset, signal)]
        for text in filter(None, doubts):
            doubtful.setdefault(text, []).append(signal.label)
        epochs = _channel_epochs(preset, recording.id, signal, onsets, stretch)
        values.put(i, epochs)
        masks.append(judged | {quality.MAINS: quality.mains(epochs, preset.sample_rate)})
        del epochs  # the next channel finds its memory free
    reasons[recorded] = quality.reasons(masks)
    kept = recorded & ((reasons == "") | (not excludes))
    counts = {s.label: quality.counts(m) for s, m in zip(signals, masks, strict=True)}
    counts = {label: kinds for label, kinds in counts.items() if kinds}
    values.keep(kept[recorded])
    warnings = [f"{', '.join(labels)}: {text}" for text, labels in doubtful.items()]
    return CutEpochs(values, reasons.tolist(), kept, counts, warnings)


def _rate_doubt(preset: Preset, signal: Signal) -> str:
    """Describe an EEG that was recorded at a much lower rate than that of the epochs; "" if not.

    Half of the band that a network has learnt from is then empty, which it takes for a stage.
    """
    if signal.modality != "eeg" or signal.sample_rate >= LEAST_RATE * preset.sample_rate:
        return ""
    return (
        f"recorded at {signal.sample_rate:g} Hz, resampled to {preset.sample_rate:g} Hz: nothing "
        f"above {signal.sample_rate / 2:g} Hz is in it, and a model that learnt from faster "
        "recordings may stage it wrongly throughout"
    )


def _scale_doubt(preset: Preset, signal: Signal) -> str:
    """Describe a scale that is not that of a night; "" if no step takes one, or the signal is long.

    An hour of wake, scaled by itself, looks to a model like a night that it does not know.
    """
    seconds = signal.size / signal.sample_rate
    steps = preset.steps(signal.label, signal.modality)
    is_long = seconds > LEAST_SCALED - 1  # a file may lack its last samples
    if is_long or not any(step.scales_recording for step in steps):
        return ""
    return (
        f"scaled over {seconds / 60:.3g} min, less than {LEAST_SCALED / 3600:g} h: not the scale "
        "of a night, and a model that learnt from nights may stage it wrongly"
    )


def amplitude_doubt(signal: Signal, epoch_seconds: float) -> str:
    """Describe an implausible amplitude of a whole signal; "" if it is plausible."""
    return _judge_channel(signal, quality.whole_epochs(signal, epoch_seconds), epoch_seconds)[1]


def _judge_channel(
    signal: Signal, onsets: Onsets, epoch_seconds: float
) -> tuple[quality.Masks, str]:
    """Judge the epochs of a channel, and the amplitude of those that have a signal."""
    stored = signal.read()
    judged = quality.judge(signal, stored, onsets, epoch_seconds)
    bad = np.any([judged[kind] for kind in quality.EXCLUDING if kind in judged], axis=0)
    heard = quality.with_signal(signal, stored, onsets, bad, MOST_SAMPLES)
    return judged, montage.suspicion(signal.decode(heard), signal.modality)


def _channel_epochs(
    preset: Preset, recording: str, signal: Signal, onsets: Onsets, stretch: timeline.Counts
) -> Samples:
    """Run a preset's steps on one channel: (epochs, samples) float32.

    Stretches in which no epoch lies are passed over. The signal is read once more for it, so that
    nothing here holds what the steps replace.
    """
    if not len(onsets):
        return np.empty((0, preset.samples), np.float32)
    numbers, first = np.unique(stretch, return_index=True)
    since = np.split(onsets - signal.stretches.begins[stretch], first[1:])
    epochs = run_steps(
        preset.steps(signal.label, signal.modality),
        _stretches(signal, numbers, bridge=preset.quality == "exclude"),
        signal.sample_rate,
        preset.rate_of(signal.sample_rate),
        partial(_cut_at, preset, since),
    )
    if epochs.shape[-1] != preset.samples:
        raise DataError(
            f"{recording}: epochs of {signal.label!r} at {signal.sample_rate:g} Hz become "
            f"{epochs.shape[-1]} samples; expected {preset.samples}",
            hint="resample over the recording, not over each epoch",
            code="SIG-SAMPLES",
        )
    if not np.isfinite([epochs.min(), epochs.max()]).all():
        raise DataError(f"{recording}: signal {signal.label!r} is not finite", code="SIG-FINITE")
    return epochs


def _stretches(signal: Signal, numbers: timeline.Counts, *, bridge: bool) -> list[Samples]:
    """Read some stretches of a signal; with `bridge`, values that are not finite are bridged."""
    pieces = np.split(signal.samples(), signal.stretches.firsts[1:])
    bridges = bridge and np.dtype(signal.dtype).kind == "f"
    return [quality.bridged(pieces[n]) if bridges else pieces[n] for n in numbers]


def _cut_at(
    preset: Preset, onsets: Sequence[Onsets], stretches: Sequence[Samples], rate: float
) -> Samples:
    """Cut stretches into epochs, with the onsets of each from its own begin, s."""
    size = preset.samples_at(rate)
    epochs = [cut_signal(s, rate, o, size) for s, o in zip(stretches, onsets, strict=True)]
    return epochs[0] if len(epochs) == 1 else np.concatenate(epochs)
