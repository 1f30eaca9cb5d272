"""Figures of signals: an epoch of each stage, spectra, a stretch on the stages' colours, features.

They are drawn from a set of epochs, and from the recordings behind it for what was before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools import store
from sleeptools.preprocessing.epochs import EpochFile, EpochSet
from sleeptools.recording.recording import RECORDINGS_KIND, Samples, read_recording
from sleeptools.report.blocks import Figure
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.matching import refuse, taken_twice
from sleeptools.report.items.results import figure_only, single_source
from sleeptools.report.plots.explanations import plot_embedding
from sleeptools.report.plots.signals import Trace
from sleeptools.report.plots.stage_traces import (
    TraceRow,
    plot_stage_background,
    plot_stage_spectra,
    plot_trace_grid,
)
from sleeptools.report.sections.explanations import METHODS, embed_epochs, read_explanations
from sleeptools.report.sections.signals import power_density, recorded_channels

STRETCH: Final = 120
"""Largest number of epochs of a stretch on the stages' colours."""
OF_SPECTRUM: Final = 60
"""Largest number of epochs of a stage that a spectrum is the mean of."""
NEEDS_EPOCHS: Final = "It is drawn from a folder of epochs, and none is given."
SIMULATED: Final = "SIMULATED signals."


def _single_set(request: ItemRequest) -> EpochSet | None:
    """Give the only set of epochs, or None."""
    if len(request.epochs) > 1:
        first, second = (str(data.folder) for data in request.epochs[:2])
        raise taken_twice(first, second, request.item["place"])
    return request.epochs[0] if request.epochs else None


def _first_channels(data: EpochSet, kinds: Sequence[str], item: str) -> dict[str, int]:
    """Find the first channel of each modality, by the modality's name in capitals."""
    channels = {kind: data.modalities.index(kind) for kind in kinds if kind in data.modalities}
    if missing := set(kinds) - set(channels):
        raise refuse(str(data.folder), item, f"it has no {', '.join(sorted(missing)).upper()}")
    return {kind.upper(): channels[kind] for kind in kinds}


def _examples(data: EpochSet, count: int = 1) -> dict[str, list[tuple[EpochFile, int]]]:
    """Choose epochs of each stage, evenly over the set; a single one from its middle."""
    chosen: dict[str, list[tuple[EpochFile, int]]] = {}
    for number, stage in enumerate(data.names):
        scored = np.flatnonzero(data.stages == number)
        if not len(scored):
            continue
        indices = [len(scored) // 2]
        if count > 1:
            indices = np.linspace(0, len(scored) - 1, min(count, len(scored))).astype(int).tolist()
        chosen[stage] = [data.find_epoch(int(scored[i])) for i in indices]
    return chosen


def _trace(data: EpochSet, file: EpochFile, index: int, channel: int) -> Trace:
    values = np.asarray(file.signals[index][channel])
    return np.arange(len(values)) / data.sample_rate, values


def _caption(data: EpochSet, examples: Mapping[str, list[tuple[EpochFile, int]]]) -> str:
    texts = [f"{s}: {e[0][0].recording} epoch {e[0][1]}" for s, e in examples.items()]
    return f"One epoch of each stage ({', '.join(texts)}). {SIMULATED if data.simulated else ''}"


def stage_waveforms(request: ItemRequest, *, modalities: Sequence[str]) -> ItemContent:
    """Draw an epoch of each stage: signals down, stages across, one scale along a row."""
    data = _single_set(request)
    if data is None:
        return figure_only(request, NEEDS_EPOCHS)
    examples = _examples(data)
    channels = _first_channels(data, modalities, request.name)
    rows = [
        TraceRow(
            f"{name}, {_unit(data)}",
            {s: _trace(data, *e[0], channel) for s, e in examples.items()},
        )
        for name, channel in channels.items()
    ]
    title = f"Epochs of {', '.join(examples)}: {', '.join(channels)}"
    plot = plot_trace_grid(rows, list(examples), title)
    notes = ["Epochs are taken from the middle of those of a stage; the paper drew at random."]
    figure = Figure(request.name, plot, "Waveforms by stage", _caption(data, examples))
    return ItemContent(figures=[figure], notes=notes)


def _unit(data: EpochSet) -> str:
    """Give the unit of the signals: microvolts, unless they were scaled."""
    steps = [step.get("do") for step in data.manifest.get("preset", {}).get("processing", [])]
    return "SD" if "z-score" in steps else "µV"


def prepared_epochs(request: ItemRequest) -> ItemContent:
    """Draw an epoch of each stage before and after preparation, then the EMG enlarged."""
    data = _single_set(request)
    if data is None:
        return figure_only(request, NEEDS_EPOCHS)
    examples = _examples(data)
    channels = _first_channels(data, ("eeg", "emg"), request.name)
    before = _before(data, request.recordings, examples, channels)
    rows = [
        TraceRow(f"{name} before, µV", {s: _timed(*e[0]) for s, e in before[name].items()})
        for name in channels
        if before.get(name)
    ]
    after = {
        name: {s: _trace(data, *e[0], channel) for s, e in examples.items()}
        for name, channel in channels.items()
    }
    unit = _unit(data)
    rows += [TraceRow(f"{name} after, {unit}", traces) for name, traces in after.items()]
    rows.append(TraceRow(f"EMG after, {unit}", after["EMG"], narrow=True))
    plot = plot_trace_grid(rows, list(examples), "Epochs before and after preparation")
    caption = f"{_caption(data, examples)} The last row is the EMG on a narrower axis."
    figure = Figure(request.name, plot, "Signals by stage", caption)
    return ItemContent(figures=[figure], notes=_without_recordings(before))


def _without_recordings(before: Mapping[str, object]) -> list[str]:
    if any(before.values()):
        return []
    return ["Without the recordings, the signals before preparation are not there to draw."]


def _timed(rate: float, samples: Samples) -> Trace:
    return np.arange(len(samples)) / rate, np.asarray(samples, np.float32)


Cut = tuple[float, Samples]
"""Sample rate in Hz, and the samples of an epoch."""


def _before(
    data: EpochSet,
    recordings: Path | None,
    examples: Mapping[str, list[tuple[EpochFile, int]]],
    channels: Mapping[str, int],
) -> dict[str, dict[str, list[Cut]]]:
    """Cut epochs out of the recordings: by channel and stage; empty without recordings."""
    if recordings is None:
        return {}
    store.read_manifest(recordings, RECORDINGS_KIND)
    labels = {name: data.montage[channel] for name, channel in channels.items()}
    cuts: dict[str, dict[str, list[Cut]]] = {name: {} for name in channels}
    for stage, epochs in examples.items():
        for file, index in epochs:
            path = store.need(recordings / f"{file.recording}.safetensors")
            store.check_listed(path)
            sources = recorded_channels(read_recording(path), file, data)
            for name, label in labels.items():
                if label in sources:
                    signal, samples = sources[label]
                    (start,) = signal.sample_numbers(file.onset[index : index + 1])
                    stop = start + round(data.epoch_seconds * signal.sample_rate)
                    cut = (signal.sample_rate, samples[start:stop])
                    cuts[name].setdefault(stage, []).append(cut)
    return cuts


def stage_spectra(request: ItemRequest) -> ItemContent:
    """Draw the power density of the EEG in each stage, before and after preparation."""
    data = _single_set(request)
    if data is None:
        return figure_only(request, NEEDS_EPOCHS)
    channels = _first_channels(data, ("eeg",), request.name)
    examples = _examples(data, OF_SPECTRUM if request.recordings is None else 12)
    before = _before(data, request.recordings, examples, channels)
    panels: dict[str, dict[str, Trace]] = {}
    for stage, epochs in examples.items():
        cuts = before.get("EEG", {}).get(stage, [])
        panels[stage] = {"before": power_density(cuts)} if cuts else {}
        pieces = [(data.sample_rate, np.asarray(f.signals[i][channels["EEG"]])) for f, i in epochs]
        panels[stage]["after"] = power_density(pieces)
    highest = data.sample_rate / 2
    plot = plot_stage_spectra(panels, highest, f"EEG spectra in {', '.join(panels)}")
    count = max(map(len, examples.values()))
    caption = (
        f"EEG, mean power density of up to {count} epochs of a stage (Welch, Hann window); 0 dB is "
        f"1 {_unit(data)}²/Hz. {SIMULATED if data.simulated else ''}"
    )
    figure = Figure(request.name, plot, "Spectra by stage", caption)
    return ItemContent(figures=[figure], notes=_without_recordings(before))


def stretch_of_signals(request: ItemRequest, *, modalities: Sequence[str]) -> ItemContent:
    """Draw signals over a stretch of one recording, on the colours of the stages."""
    data = _single_set(request)
    if data is None:
        return figure_only(request, NEEDS_EPOCHS)
    channels = _first_channels(data, modalities, request.name)
    file, begin, end = _stretch(data)
    rate, unit = data.sample_rate, _unit(data)
    signals = np.asarray(file.signals[begin:end])
    traces = {
        f"{name}, {unit}": (np.arange(signals[:, c].size) / rate, signals[:, c].ravel())
        for name, c in channels.items()
    }
    title = f"{', '.join(channels)} of {file.recording} on the colours of the stages"
    plot = plot_stage_background(
        traces, file.stages[begin:end], data.epoch_seconds, data.names, title
    )
    caption = (
        f"{file.recording}, {end - begin} epochs of {data.epoch_seconds:g} s from "
        f"{file.onset[begin]:g} s on: the stretch of the set with the most stages and changes of "
        f"them. {SIMULATED if data.simulated else ''}"
    )
    return ItemContent(figures=[Figure(request.name, plot, "Signals and stages", caption)])


def _stretch(data: EpochSet) -> tuple[EpochFile, int, int]:
    """Find the stretch of epochs without a gap that has the most stages, then changes."""
    best: tuple[tuple[int, int], EpochFile, int, int] | None = None
    for file in data.files:
        for begin, end in _windows(file, data.epoch_seconds):
            stages = file.stages[begin:end]
            worth = (len(np.unique(stages)), int(np.count_nonzero(np.diff(stages))))
            if best is None or worth > best[0]:
                best = (worth, file, begin, end)
    assert best is not None
    return best[1:]


def _windows(file: EpochFile, seconds: float) -> Iterator[tuple[int, int]]:
    """Give windows of at most `STRETCH` epochs that follow each other, half overlapping."""
    breaks = np.flatnonzero(np.abs(np.diff(file.onset) - seconds) > seconds / 100) + 1
    bounds = [0, *breaks.tolist(), len(file)]
    for first, last in pairwise(bounds):
        for begin in range(first, max(last - STRETCH, first) + 1, STRETCH // 2):
            yield begin, min(begin + STRETCH, last)


def fused_features(request: ItemRequest) -> ItemContent:
    """Draw the features before and after the fusion in two dimensions, coloured by stage."""
    source, _ = single_source(request)
    if source is None:
        return figure_only(request, "It is drawn from what a run tells of its model.")
    explained = read_explanations(source.evaluation.run, source.protocol, source.seed)
    if not explained:
        raise refuse(
            source.name,
            request.name,
            "it has no features (explain.safetensors)",
            "train the model with features for the report, which `explain` switches on",
        )
    fold, tensors = explained[0]
    figures = []
    for method, name in METHODS.items():
        embedding = embed_epochs(tensors, method)
        if embedding.panels:
            panels = {side.capitalize(): xy for side, xy in embedding.panels.items()}
            plot = plot_embedding(panels, embedding.stage, source.stages)
            caption = (
                f"{len(embedding.stage):,} test epochs of fold {fold + 1}, reduced by {name}; the "
                f"paper does not say how it reduced. {source.origin}."
            )
            figures.append(Figure(f"{request.name}-{method}", plot, f"Features, {name}", caption))
    return ItemContent(figures=figures)
