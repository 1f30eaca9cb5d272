"""Section on the signals: example waveforms and power spectra, before and after preprocessing.

A run holds no signals; they come from the epochs that it was trained on, and from the recordings
that these were made of, where their folders are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.preprocessing.epochs import EpochFile, EpochSet
from sleeptools.recording.recording import (
    RECORDINGS_KIND,
    Recording,
    Samples,
    Signal,
    read_recording,
)
from sleeptools.report.blocks import Block, Figure, Text
from sleeptools.report.page import Page
from sleeptools.report.plots.signals import Trace, plot_spectra, plot_waveforms

SECONDS: Final = 10.0
"""Longest stretch of an epoch that is drawn, s."""
EPOCHS: Final = 60
"""Largest number of epochs of a stage that a spectrum is the mean of."""
CHANNELS: Final = 4
"""Largest number of channels that are drawn."""
HIGHEST: Final = {"human": 35.0, "mouse": 50.0}  # Hz
WINDOW: Final = 4.0  # s of a periodogram; shorter where the epoch is
FLOOR: Final = 1e-6  # uV^2 / Hz, -60 dB: the smallest density that is shown
SLOW: Final = 5.0  # Hz
ENVELOPE: Final = 1e-4
"""Largest share of a signal's power above `SLOW` for it to be an envelope, which no oscillation has
left: a muscle signal that was rectified and smoothed, as of Sleep-EDF's cassettes."""
Pieces = dict[str, dict[str, list[tuple[float, Samples]]]]
"""Stage to channel to sample rate in Hz and samples, a pair per epoch."""
Choice = tuple[EpochFile, int, str]
"""File, index of the epoch in it, and stage."""


def signals_section(page: Page) -> Iterator[Block]:
    """Draw an epoch of every stage, and the power spectra."""
    data = page.epochs
    if data is None:
        return
    choices = list(_choose(data))
    after = _processed(data, choices)
    before = _recorded(page, data, choices)
    channels = list(data.montage[:CHANNELS])
    raw = data.manifest.get("preset", {}).get("processing", []) == []
    for pieces, side, unit in (
        (before, "before", "µV"),
        (after, "after", "µV" if raw else "processed"),
    ):
        if pieces:
            drawn = (c for c in channels if any(c in by_channel for by_channel in pieces.values()))
            yield _waveforms(data, pieces, side, dict.fromkeys(drawn, unit), choices)
    highest = min(HIGHEST["mouse" if "NREM" in data.names else "human"], data.sample_rate / 2)
    stages = [s for s in data.names if s in after]
    envelopes = [c for c in channels if _is_envelope(before, c) or _is_envelope(after, c)]
    oscillating = [c for c in channels if c not in envelopes]
    if oscillating:
        unit = "dB re 1 µV²/Hz" if raw else "dB re 1/Hz, of the processed signal"
        dotted, solid = _spectra(before if raw else {}, oscillating), _spectra(after, oscillating)
        plot = plot_spectra(dotted, solid, oscillating, stages, highest, unit)
        caption = (
            f"Mean power density of up to {EPOCHS} epochs per stage, spread over all recordings, "
            f"by Welch's method (Hann window, half overlapping), in {unit}"
        )
        caption += "; dotted, the recordings before preprocessing." if before and raw else "."
        yield Figure("spectra", plot, "Power spectra per stage", caption)
    if before and not raw and oscillating:
        unit = "dB re 1 µV²/Hz"
        plot = plot_spectra({}, _spectra(before, oscillating), oscillating, stages, highest, unit)
        caption = f"The same of the recordings before preprocessing, in {unit}."
        yield Figure("spectra-before", plot, "Power spectra before preprocessing", caption)
    if envelopes:
        listed = ", ".join(envelopes)
        yield Text(f"Without a spectrum: {listed}, an envelope, which has no oscillation to show.")
    if len(data.montage) > CHANNELS:
        yield Text(f"Drawn are the first {CHANNELS} of {len(data.montage)} channels.")


def _choose(data: EpochSet) -> Iterator[Choice]:
    """Choose epochs of every stage, evenly over the whole set."""
    for i, name in enumerate(data.names):
        scored = np.flatnonzero(data.stages == i)
        if len(scored):
            chosen = np.linspace(0, len(scored) - 1, min(EPOCHS, len(scored))).astype(int)
            order = [len(chosen) // 2, *(k for k in range(len(chosen)) if k != len(chosen) // 2)]
            for k in order:  # the waveform of the first is drawn
                yield (*data.find_epoch(int(scored[chosen[k]])), name)


def _processed(data: EpochSet, choices: list[Choice]) -> Pieces:
    """Read the chosen epochs as the model saw them."""
    pieces: Pieces = {}
    for file, index, stage in choices:
        epoch = np.asarray(file.signals[index])
        for i, channel in enumerate(data.montage[:CHANNELS]):
            piece = (data.sample_rate, epoch[i])
            pieces.setdefault(stage, {}).setdefault(channel, []).append(piece)
    return pieces


def _recorded(page: Page, data: EpochSet, choices: list[Choice]) -> Pieces:
    """Cut the chosen epochs out of the recordings; empty where these are not given."""
    if page.recordings is None:
        return {}
    store.read_manifest(page.recordings, RECORDINGS_KIND)
    pieces: Pieces = {}
    opened: dict[str, Mapping[str, tuple[Signal, Samples]]] = {}
    for file, index, stage in sorted(choices, key=lambda choice: choice[0].recording):
        if file.recording not in opened:  # one at a time: a night of signals takes memory
            path = store.need(page.recordings / f"{file.recording}.safetensors")
            store.check_listed(path)
            opened = {file.recording: recorded_channels(read_recording(path), file, data)}
        for channel, (signal, samples) in opened[file.recording].items():
            rate = signal.sample_rate
            (start,) = signal.sample_numbers(file.onset[index : index + 1])
            piece = (rate, samples[start : start + round(data.epoch_seconds * rate)])
            pieces.setdefault(stage, {}).setdefault(channel, []).append(piece)
    return pieces


def recorded_channels(
    recording: Recording, file: EpochFile, data: EpochSet
) -> Mapping[str, tuple[Signal, Samples]]:
    """Give the signals behind the channels: one, or the difference of two, as the file says."""
    channels: dict[str, tuple[Signal, Samples]] = {}
    sources = file.facts.get("channels", {})
    for channel in data.montage[:CHANNELS]:
        source = str(sources.get(channel, channel))
        labels = [source] if source in recording.signals else source.split(" - ")
        if not all(label in recording.signals for label in labels):
            continue
        first, *references = (recording.signals[label] for label in labels)
        samples = first.samples()
        for reference in references:
            samples = samples - reference.samples()
        channels[channel] = (first, samples)
    return channels


def _waveforms(
    data: EpochSet, pieces: Pieces, side: str, units: Mapping[str, str], choices: list[Choice]
) -> Figure:
    seconds = min(SECONDS, data.epoch_seconds)
    traces: dict[str, dict[str, Trace]] = {}
    for stage in (s for s in data.names if s in pieces):
        for channel in units:
            if channel in pieces[stage]:
                rate, samples = pieces[stage][channel][_first(choices, stage, side)]
                samples = samples[: round(seconds * rate)]
                time = np.arange(len(samples)) / rate
                traces.setdefault(stage, {})[channel] = (time, samples)
    first = {stage: (file.recording, index) for file, index, stage in reversed(choices)}
    epochs = ", ".join(f"{s}: {first[s][0]} epoch {first[s][1]}" for s in traces)
    caption = (
        f"The first {seconds:g} s of an epoch of every stage, {side} preprocessing ({epochs})."
    )
    title = f"Waveforms {side} preprocessing"
    plot = plot_waveforms(traces, units, f"{title}, one epoch per stage")
    return Figure(f"waveforms-{side}", plot, title, caption)


def _first(choices: list[Choice], stage: str, side: str) -> int:
    """Index of the drawn epoch among the pieces, which go by recording before preprocessing."""
    if side == "after":
        return 0
    recordings = [file.recording for file, _, name in choices if name == stage]
    return sorted(range(len(recordings)), key=lambda i: recordings[i]).index(0)


def _is_envelope(pieces: Pieces, channel: str) -> bool:
    """Whether a channel varies and has next to no power above `SLOW`."""
    slow = power = 0.0
    for by_channel in pieces.values():
        if channel in by_channel:
            frequency, level = power_density(by_channel[channel])
            density = 10 ** (level.astype(np.float64) / 10) - FLOOR
            power += float(density.sum())
            slow += float(density[frequency <= SLOW].sum())
    return power > 0 and power - slow < ENVELOPE * power


def _spectra(pieces: Pieces, channels: list[str]) -> dict[str, dict[str, Trace]]:
    """Channel to stage to frequency and mean power density in dB."""
    spectra: dict[str, dict[str, Trace]] = {}
    for stage, by_channel in pieces.items():
        for channel in channels:
            if channel in by_channel:
                spectra.setdefault(channel, {})[stage] = power_density(by_channel[channel])
    return spectra


def power_density(epochs: Sequence[tuple[float, Samples]]) -> Trace:
    """Frequency in Hz, without 0, and mean power density of the epochs in dB (uV^2 / Hz)."""
    from scipy.signal import welch

    rate = epochs[0][0]
    length = min(len(samples) for r, samples in epochs if r == rate)
    stacked = np.stack([samples[:length] for r, samples in epochs if r == rate])
    frequency, density = welch(stacked, rate, nperseg=min(length, round(WINDOW * rate)))
    positive = frequency > 0
    level = 10 * np.log10(np.maximum(density.mean(axis=0), FLOOR))
    decibel: npt.NDArray[np.float32] = level.astype(np.float32)
    return frequency[positive], decibel[positive]
