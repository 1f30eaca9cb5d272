"""Section on the signals: example waveforms and power spectra, before and after preprocessing.

A run holds no signals; they come from the epochs that it was trained on, and from the recordings
that these were made of, where their folders are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.preprocessing.epochs import EpochFile, EpochSet
from sleeptools.recording.recording import RECORDINGS_KIND, Recording, Samples, read_recording
from sleeptools.report import plots
from sleeptools.report.blocks import Block, Figure, Text
from sleeptools.report.page import Page
from sleeptools.report.plots.signals import Trace

SHOWN: Final = 10.0
"""Seconds of an epoch drawn at most."""
MANY: Final = 60
"""Epochs of a stage that a spectrum is the mean of, at most."""
CHANNELS: Final = 4
"""Drawn at most."""
HIGHEST: Final = {"human": 35.0, "mouse": 50.0}  # Hz
WINDOW: Final = 4.0  # s of a periodogram; shorter where the epoch is
FLOOR: Final = 1e-6  # uV^2 / Hz, -60 dB: what is less is nothing
Pieces = dict[str, dict[str, list[tuple[float, Samples]]]]
"""Stage to channel to sample rate in Hz and samples, a pair per epoch."""


def signals(page: Page) -> Iterator[Block]:
    """Draw an epoch of every stage, and the power spectra."""
    data = page.epochs
    if data is None:
        yield Text(
            "A run holds no signals. With the folders of its epochs and recordings, the command "
            "draws example waveforms and power spectra here, before and after preprocessing."
        )
        return
    picked = list(_picked(data))
    after = _after(data, picked)
    before = _before(page, data, picked)
    channels = list(data.montage[:CHANNELS])
    unit = "uV" if data.manifest.get("preset", {}).get("processing", []) == [] else "processed"
    for made, when, units in (
        (before, "before", dict.fromkeys(channels, "uV")),
        (after, "after", dict.fromkeys(channels, unit)),
    ):
        if made:
            yield _waves(data, made, when, {c: units[c] for c in channels if _has(made, c)}, picked)
    highest = min(HIGHEST["mouse" if "NREM" in data.names else "human"], data.sample_rate / 2)
    stages = [s for s in data.names if s in after]
    plot = plots.spectra(_spectra(before), _spectra(after), channels, stages, highest)
    caption = (
        f"Mean power density of up to {MANY} epochs per stage, spread over all recordings, by "
        "Welch's method (Hann window, half overlapping)"
    )
    caption += "; dotted, the recordings before preprocessing." if before else "."
    yield Figure("spectra", plot, "Power spectra per stage", caption)
    if len(data.montage) > CHANNELS:
        yield Text(f"Drawn are the first {CHANNELS} of {len(data.montage)} channels.")
    if not before:
        yield Text("Given the recordings, the report also shows the signals before preprocessing.")


def _has(made: Pieces, channel: str) -> bool:
    return any(channel in of for of in made.values())


Picked = tuple[EpochFile, int, str]
"""File, place of the epoch in it, and stage."""


def _picked(data: EpochSet) -> Iterator[Picked]:
    """Choose epochs of every stage, evenly over the whole set."""
    for i, name in enumerate(data.names):
        there = np.flatnonzero(data.stages == i)
        if len(there):
            chosen = np.linspace(0, len(there) - 1, min(MANY, len(there))).astype(int)
            order = [len(chosen) // 2, *(k for k in range(len(chosen)) if k != len(chosen) // 2)]
            for k in order:  # the first is the one whose waveform is drawn
                yield (*data.find_epoch(int(there[chosen[k]])), name)


def _after(data: EpochSet, picked: list[Picked]) -> Pieces:
    made: Pieces = {}
    for file, at, stage in picked:
        epoch = np.asarray(file.signals[at])
        for i, channel in enumerate(data.montage[:CHANNELS]):
            piece = (data.sample_rate, epoch[i])
            made.setdefault(stage, {}).setdefault(channel, []).append(piece)
    return made


def _before(page: Page, data: EpochSet, picked: list[Picked]) -> Pieces:
    """Cut the same epochs out of the recordings; empty where they are not given."""
    if page.recordings is None:
        return {}
    store.read_manifest(page.recordings, RECORDINGS_KIND)
    made: Pieces = {}
    opened: dict[str, Mapping[str, tuple[float, Samples]]] = {}
    for file, at, stage in sorted(picked, key=lambda p: p[0].recording):
        if file.recording not in opened:  # one at a time: a night of signals takes memory
            path = page.recordings / f"{file.recording}.safetensors"
            opened = {file.recording: _channels(read_recording(store.need(path)), file, data)}
        for channel, (rate, samples) in opened[file.recording].items():
            start = round(float(file.onset[at]) * rate)
            piece = (rate, samples[start : start + round(data.epoch_seconds * rate)])
            made.setdefault(stage, {}).setdefault(channel, []).append(piece)
    return made


def _channels(
    recording: Recording, file: EpochFile, data: EpochSet
) -> Mapping[str, tuple[float, Samples]]:
    """Give the signals behind the channels: one, or the difference of two, as the file says."""
    made: dict[str, tuple[float, Samples]] = {}
    sources = file.facts.get("channels", {})
    for channel in data.montage[:CHANNELS]:
        source = str(sources.get(channel, channel))
        parts = [source] if source in recording.signals else source.split(" - ")
        if not all(part in recording.signals for part in parts):
            continue
        first, *rest = (recording.signals[part] for part in parts)
        samples = first.samples()
        for other in rest:
            samples = samples - other.samples()
        made[channel] = (first.sample_rate, samples)
    return made


def _waves(
    data: EpochSet, made: Pieces, when: str, units: Mapping[str, str], picked: list[Picked]
) -> Figure:
    seconds = min(SHOWN, data.epoch_seconds)
    traces: dict[str, dict[str, Trace]] = {}
    for stage in (s for s in data.names if s in made):
        for channel in units:
            if channel in made[stage]:
                rate, samples = made[stage][channel][_first(picked, stage, when)]
                samples = samples[: round(seconds * rate)]
                time = np.arange(len(samples)) / rate
                traces.setdefault(stage, {})[channel] = (time, samples)
    first = {stage: (file, at) for file, at, stage in reversed(picked)}
    which = ", ".join(f"{s}: {first[s][0].recording} epoch {first[s][1]}" for s in traces)
    caption = f"The first {seconds:g} s of an epoch of every stage, {when} preprocessing ({which})."
    plot = plots.waveforms(traces, units, f"Waveforms {when} preprocessing, one epoch per stage")
    return Figure(f"waveforms-{when}", plot, f"Waveforms {when} preprocessing", caption)


def _first(picked: list[Picked], stage: str, when: str) -> int:
    """Place of the drawn epoch among the pieces, which go by recording before preprocessing."""
    mine = [p for p in picked if p[2] == stage]
    if when == "after":
        return 0
    return sorted(range(len(mine)), key=lambda i: mine[i][0].recording).index(0)


def _spectra(made: Pieces) -> dict[str, dict[str, Trace]]:
    """Channel to stage to frequency and mean power density in dB."""
    found: dict[str, dict[str, Trace]] = {}
    for stage, of in made.items():
        for channel, pieces in of.items():
            found.setdefault(channel, {})[stage] = _density(pieces)
    return found


def _density(pieces: list[tuple[float, Samples]]) -> Trace:
    from scipy.signal import welch

    rate = pieces[0][0]
    length = min(len(s) for r, s in pieces if r == rate)
    stacked = np.stack([s[:length] for r, s in pieces if r == rate])
    frequency, density = welch(stacked, rate, nperseg=min(length, round(WINDOW * rate)))
    kept = frequency > 0
    level = 10 * np.log10(np.maximum(density.mean(axis=0), FLOOR))
    decibel: npt.NDArray[np.float32] = level.astype(np.float32)
    return frequency[kept], decibel[kept]
