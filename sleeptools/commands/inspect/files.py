"""What one file holds: signals with rates, units, quality and mapping to a montage; stages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from sleeptools import formats
from sleeptools.errors import (
    AnnotationsOnlyError,
    DataError,
    NoStagesError,
    SleeptoolsError,
)
from sleeptools.formats import edf
from sleeptools.preprocessing import epoching, presets
from sleeptools.recording import montage
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import RECORDING_KIND, Recording, Signal
from sleeptools.recording.signals import quality

EPOCH_SECONDS = 30.0
DEFAULT_PRESET = "sleep-edf"
POOR_CURE = "`quality=exclude` leaves such epochs out"
GAP_CURE = "preprocess leaves such epochs out, and score leaves them unscored"
UNIT_CURE = "compare it with the recorder; scale in edf.toml multiplies"
CHANNEL_CURE = "any_of of a preset, or [channels] of edf.toml, names the signal to take"


class FaultyFileError(DataError):
    """A fault of a file that can be described all the same."""


@dataclass(frozen=True)
class Problem:
    """Something that stands in the way of using a recording, and what can be done about it.

    Parameters
    ----------
    text
        What is wrong.
    cure
        What to do; empty where nothing can be proposed.
    code
        Stable code of the fault, if it has one.
    """

    text: str
    cure: str = ""
    code: str = ""

    @classmethod
    def from_error(cls, error: SleeptoolsError) -> Problem:
        """Take message, hint and code of an error."""
        return cls(str(error), error.hint or "", error.code)

    def __str__(self) -> str:
        return f"{self.text} ({self.cure})" if self.cure else self.text


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Parameters
    ----------
    format
        Name of the file's format.
    recording, hypnogram
        The signals and the stages, None where it has none.
    doubt
        Why signals that can be read have no stages: those of the file cannot be read, or its
        annotations are no stages.
    """

    format: str
    recording: Recording | None
    hypnogram: Hypnogram | None
    doubt: DataError | None = None

    @property
    def refused(self) -> FaultyFileError | None:
        """The error of stages that cannot be read beside signals that can."""
        if self.doubt is None or isinstance(self.doubt, NoStagesError):
            return None
        return FaultyFileError(str(self.doubt), hint=self.doubt.hint, code=self.doubt.code)


def inspect(
    path: Path,
    preset: presets.Preset | None = None,
    *,
    ignore_channels: Sequence[str] = (),
    **settings: Unpack[formats.ReadSettings],
) -> dict[str, Any]:
    """Describe a file: a recording, a hypnogram, or both in one.

    Parameters
    ----------
    path
        A file of a known format.
    preset
        The preset to whose montage the signals are mapped; if left out, the first one of the
        package all of whose channels are found, or else Sleep-EDF's if one of its channels is.
    ignore_channels
        Labels of signals to leave out, as far as the file has them.
    settings
        As `formats.read_hypnogram` takes them.

    Returns
    -------
    facts
        JSON-serialisable, with the keys `path`, `format`, `kind`, `start`, `seconds`, `notes`,
        `simulated`, `signals` (a list; `quality` counts the epochs of a signal that are flat,
        railed, and so on, before any filter), `montage` (the signals from which each channel is
        derived, or None), `gaps` (begin and end of each interruption, s), `problems` (missing
        channels, implausible amplitudes, epochs that touch a gap or have no signal, annotations
        that are no stages), `epochs` (number of whole epochs), `epoch_seconds` and `stages`
        (epochs per stage and per reason for being unscored).

    Raises
    ------
    DataError
        If the file is damaged or its format is unknown. Stages that cannot be read beside signals
        that can are a problem among the facts.
    """
    return describe(path, read_content(path, settings, ignore_channels), preset)


def describe(path: Path, content: FileContent, preset: presets.Preset | None) -> dict[str, Any]:
    """Return the facts of `inspect` about a file that has been read."""
    facts: dict[str, Any] = {
        "path": str(path),
        "format": content.format,
        "kind": "hypnogram",
        "start": None,
        "seconds": 0.0,
        "notes": "",
        "simulated": False,
        "signals": [],
        "montage": {},
        "gaps": (),
        "problems": [],
        "epochs": 0,
        "epoch_seconds": EPOCH_SECONDS,
        "stages": {},
    }
    recording, hypnogram = content.recording, content.hypnogram
    if hypnogram is not None:
        facts |= hypnogram_facts(hypnogram)
    problems: list[Problem] = []
    if recording is not None:
        preset = preset or fitting_preset(recording) or _resembled_preset(recording)
        signal_facts, problems = recording_facts(recording, hypnogram, preset)
        facts |= signal_facts
    facts["problems"] = [p.text for p in problems]
    if content.doubt is not None:
        facts["problems"].append(str(Problem.from_error(content.doubt)))
    return facts


def fitting_preset(recording: Recording) -> presets.Preset | None:
    """Find the first preset whose channels all exist, and whose sample rate the EEG reaches."""
    for name in (DEFAULT_PRESET, *presets.names()):
        preset = presets.load(name)
        with contextlib.suppress(DataError):
            first, *_ = montage.pick(recording, preset.montage, preset.assume_unit)
            if preset.rate_of(first.sample_rate) <= first.sample_rate:
                return preset
    return None


def _resembled_preset(recording: Recording) -> presets.Preset | None:
    """Return Sleep-EDF's preset if at least one of its channels is there."""
    preset = presets.load(DEFAULT_PRESET)
    for channel in preset.montage:
        with contextlib.suppress(DataError):
            montage.match(recording, channel)
            return preset
    return None


def read_content(
    path: Path, settings: formats.ReadSettings, ignore_channels: Sequence[str] = ()
) -> FileContent:
    """Read a recording of this package, or a file of any known format.

    Raises
    ------
    DataError
        If the file is damaged or its format is unknown.
    """
    if path.suffix == ".safetensors":
        ours = formats.read_any(path, ignore_channels=ignore_channels)
        return FileContent(RECORDING_KIND, ours, ours.hypnogram)
    name = formats.find(path).__name__.rsplit(".", 1)[-1]
    scored = partial(formats.read_hypnogram, path, **settings)
    try:
        recording = formats.read(path, ignore_channels=ignore_channels)
    except AnnotationsOnlyError:
        return FileContent(name, None, scored())
    try:
        return FileContent(name, recording, scored())
    except NoStagesError as e:
        annotated = name == "edf" and edf.read_annotations(path, ignore_bad_annotations=True)
        return FileContent(name, recording, None, e if annotated else None)
    except DataError as e:
        return FileContent(name, recording, None, e)


def hypnogram_facts(hypnogram: Hypnogram) -> dict[str, Any]:
    """Describe a scoring by itself."""
    return {
        "start": hypnogram.begin.isoformat() if hypnogram.begin else None,
        "seconds": len(hypnogram) * hypnogram.epoch_seconds,
        "epochs": len(hypnogram),
        "epoch_seconds": hypnogram.epoch_seconds,
        "stages": hypnogram.counts(),
        "simulated": hypnogram.scorer == "simulated",
        "notes": "; ".join(hypnogram.notes),
    }


def recording_facts(
    recording: Recording, hypnogram: Hypnogram | None, preset: presets.Preset | None
) -> tuple[dict[str, Any], list[Problem]]:
    """Describe signals with the quality of each, and what is wrong with them.

    Parameters
    ----------
    hypnogram
        The scoring, whose grid the epochs lie on.
    preset
        The preset to whose montage the signals are mapped; None for no mapping.
    """
    length = preset.epoch_seconds if preset else EPOCH_SECONDS
    length = hypnogram.epoch_seconds if hypnogram else length
    onset = hypnogram.onset if hypnogram else 0.0
    signals = [_signal_facts(s, length, onset) for s in recording.signals.values()]
    channels, problems = _mapping(recording, preset) if preset else ({}, [])
    epochs = int(recording.seconds // length)
    if gaps := quality.count_in_gaps(recording.signals.values(), length, onset):
        problems.append(Problem(f"{gaps} of {epochs} epochs touch a gap", GAP_CURE))
    notes = [str(recording.facts.get("notes", "")), *(hypnogram.notes if hypnogram else ())]
    facts = {
        "kind": "recording",
        "start": recording.start.isoformat() if recording.start else None,
        "seconds": recording.seconds,
        "notes": "; ".join(n for n in notes if n),
        "simulated": bool(recording.facts.get("simulated", False)),
        "signals": signals,
        "montage": channels,
        "gaps": recording.gaps,
        "epochs": epochs,
        "epoch_seconds": length,
    }
    return facts, problems + _poor_signals(signals, epochs)


def _poor_signals(signals: Sequence[dict[str, Any]], epochs: int) -> list[Problem]:
    """Say in how many epochs each signal was not there."""
    return [
        Problem(f"{s['label']}: {n} of {epochs} epochs {kind}", POOR_CURE)
        for s in signals
        for kind, n in s["quality"].items()
        if n and kind in quality.EXCLUDING
    ]


def _mapping(
    recording: Recording, preset: presets.Preset
) -> tuple[dict[str, str | None], list[Problem]]:
    channels: dict[str, str | None] = {}
    problems = []
    for channel in preset.montage:
        try:
            (signal,) = montage.pick(recording, [channel], preset.assume_unit)
            channels[channel.name] = str(montage.match(recording, channel))
            if doubt := epoching.amplitude_doubt(signal, preset.epoch_seconds):
                problems.append(Problem(f"{channel.name}: {doubt}", UNIT_CURE))
        except DataError as e:
            channels[channel.name] = None
            problems.append(Problem(str(e), CHANNEL_CURE, e.code))
    return channels, problems


def _signal_facts(signal: Signal, epoch_seconds: float, onset: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "label": signal.label,
        "sample_rate": signal.sample_rate,
        "unit": signal.unit,
        "modality": signal.modality,
        "samples": signal.size,
        "minimum": None,
        "maximum": None,
        "quality": dict.fromkeys(quality.KINDS, 0),
    }
    if math.isfinite(signal.gain) and signal.size:
        stored = signal.read()
        masks = quality.judge_whole(signal, stored, epoch_seconds, onset)
        facts["quality"] |= quality.counts(masks)
        ends = signal.decode(stored[[stored.argmin(), stored.argmax()]])
        facts |= {"minimum": float(ends.min()), "maximum": float(ends.max())}
    return facts
