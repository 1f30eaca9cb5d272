"""`inspect`: describe recordings and hypnograms: rates, units, channel mapping, stages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from sleeptools import datasets, formats, registry
from sleeptools.errors import (
    AnnotationsOnlyError,
    DataError,
    MissingInputError,
    NoStagesError,
    SleeptoolsError,
)
from sleeptools.formats import edf
from sleeptools.preprocessing import epoching, presets
from sleeptools.recording import montage
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import RECORDING_KIND, Recording, Signal, read_recording
from sleeptools.recording.signals import quality

EPOCH_SECONDS = 30.0
DEFAULT_PRESET = "sleep-edf"
ENDINGS = (
    ".edf",
    ".bdf",
    ".rec",
    ".safetensors",
    ".annot",
    ".eannot",
    ".ids",
    ".hyp",
    ".mat",
    "hz.txt",
    "sco.txt",
)


class StagesRefusedError(DataError):
    """Stages that cannot be read in a file whose signals can be."""


def inspect(
    path: Path,
    preset: presets.Preset | None = None,
    **settings: Unpack[formats.ReadSettings],
) -> dict[str, Any]:
    """Describe a file: a recording, a hypnogram, or both in one.

    Parameters
    ----------
    path
        A file of a known format.
    preset
        The preset to whose montage the signals are mapped; if left out, the first one of the
        package all of whose channels are found, or else Sleep-EDF's.
    settings
        As `formats.read_hypnogram` takes them.

    Returns
    -------
    facts
        JSON-serialisable, with the keys `path`, `format`, `kind`, `start`, `seconds`, `notes`,
        `simulated`, `signals` (a list; `quality` counts the epochs of a signal that are flat,
        railed, and so on, before any filter), `montage` (the signals from which each channel is
        derived, or None), `problems` (missing channels, implausible amplitudes, epochs without a
        signal, annotations that are no stages), `epochs` (number of whole epochs),
        `epoch_seconds` and `stages` (epochs per stage
        and per reason for being unscored).

    Raises
    ------
    DataError
        If the file is damaged or its format is unknown. Stages that cannot be read beside signals
        that can are a problem among the facts.
    """
    return _describe(path, preset, settings)[0]


def _describe(
    path: Path, preset: presets.Preset | None, settings: formats.ReadSettings
) -> tuple[dict[str, Any], StagesRefusedError | None]:
    """Return the facts of `inspect`, and why stages beside readable signals cannot be read."""
    facts: dict[str, Any] = {
        "path": str(path),
        "format": "",
        "kind": "hypnogram",
        "start": None,
        "seconds": 0.0,
        "notes": "",
        "simulated": False,
        "signals": [],
        "montage": {},
        "problems": [],
        "epochs": 0,
        "epoch_seconds": EPOCH_SECONDS,
        "stages": {},
    }
    scored = partial(formats.read_hypnogram, path, **settings)
    facts["format"], recording, hypnogram, doubt = _read(path, scored)
    if hypnogram is not None:
        facts["notes"] = "; ".join(hypnogram.notes)
        length = hypnogram.epoch_seconds
        facts |= {"seconds": len(hypnogram) * length, "epochs": len(hypnogram)}
        facts |= {"epoch_seconds": length, "stages": hypnogram.counts()}
        facts["simulated"] = hypnogram.scorer == "simulated"
        facts["start"] = hypnogram.begin.isoformat() if hypnogram.begin else None
    if recording is not None:
        facts |= _recording_facts(recording, hypnogram, preset or _fitting_preset(recording))
    if doubt is not None:
        facts["problems"].append(f"{doubt} ({doubt.hint})" if doubt.hint else str(doubt))
    if doubt is None or isinstance(doubt, NoStagesError):
        return facts, None
    return facts, StagesRefusedError(str(doubt), hint=doubt.hint, code=doubt.code)


def inspect_all(
    paths: Sequence[Path],
    preset: str | None = None,
    *,
    log: Callable[[str], None],
    **settings: Unpack[formats.ReadSettings],
) -> tuple[list[dict[str, Any]], list[SleeptoolsError]]:
    """Describe files, and all files in folders; a file that cannot be read does not stop the rest.

    Parameters
    ----------
    paths
        Files and folders.
    preset
        Name or TOML file of the preset for `inspect`.
    settings
        As `formats.read_hypnogram` takes them.
    log
        Called with a line for each data set that a folder holds, and for each error.

    Returns
    -------
    descriptions
        The facts of `inspect` for every file that can be read.
    errors
        The error of every file of which signals or stages cannot be read; if there is only one
        file and nothing of it can be read, its error is raised.
    """
    montage_preset = presets.load(preset) if preset else None
    for folder in (path for path in paths if path.is_dir()):
        for text in data_sets(folder):
            log(f"{folder}: {text}")
    files = files_to_inspect(paths)
    descriptions: list[dict[str, Any]] = []
    errors: list[SleeptoolsError] = []
    for path in files:
        try:
            facts, refused = _describe(path, montage_preset, settings)
            descriptions.append(facts)
            if refused is not None:
                errors.append(refused)
                if len(files) > 1:
                    log(f"error: {refused}")
        except SleeptoolsError as e:
            if len(files) == 1:
                raise
            errors.append(e)
            log(f"error: {e}")
    return descriptions, errors


def _fitting_preset(recording: Recording) -> presets.Preset:
    """Find the first preset whose channels all exist, and whose sample rate the EEG reaches."""
    for name in (DEFAULT_PRESET, *presets.names()):
        preset = presets.load(name)
        with contextlib.suppress(DataError):
            first, *_ = montage.pick(recording, preset.montage, preset.assume_unit)
            if preset.rate_of(first.sample_rate) <= first.sample_rate:
                return preset
    return presets.load(DEFAULT_PRESET)


def _read(
    path: Path, scored: Callable[[], Hypnogram]
) -> tuple[str, Recording | None, Hypnogram | None, DataError | None]:
    """Read a recording of this package, or a file of any known format.

    Returns
    -------
    format, recording, hypnogram
        What the file is and holds.
    doubt
        Why signals that can be read have no stages: those of the file cannot be read, or its
        annotations are no stages.
    """
    if path.suffix == ".safetensors":
        ours = read_recording(path)
        return RECORDING_KIND, ours, ours.hypnogram, None
    name = formats.find(path).__name__.rsplit(".", 1)[-1]
    try:
        recording = formats.read(path)
    except AnnotationsOnlyError:
        return name, None, scored(), None
    try:
        return name, recording, scored(), None
    except NoStagesError as e:
        annotated = name == "edf" and edf.read_annotations(path, ignore_bad_annotations=True)
        return name, recording, None, e if annotated else None
    except DataError as e:
        return name, recording, None, e


def data_sets(folder: Path) -> list[str]:
    """List the data sets whose file names a folder has, with their recordings and subjects."""
    lines = []
    for name in registry.names("datasets"):
        module = registry.load("datasets", name)
        try:
            sources = datasets.find_recordings(module, folder, ignore_unmatched=True)
        except SleeptoolsError:
            continue
        people = len({s.subject for s in sources})
        lines.append(
            f"{name}: {len(sources)} recording{'s' * (len(sources) != 1)} of "
            f"{people} subject{'s' * (people != 1)}"
        )
        lines += [f"{name}: {s.problem}" for s in sources if s.problem]
        lines += [
            f"{name}: {p.relative_to(folder)} belongs to no recording"
            for p in datasets.unmatched_files(module, folder, sources)
        ]
    return lines


def files_to_inspect(paths: Sequence[Path]) -> list[Path]:
    """Replace every folder among the paths by the files below it that have a known ending.

    Raises
    ------
    MissingInputError
        If a folder has no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.name.lower().endswith(ENDINGS))
        if not inside:
            raise MissingInputError(
                f"{path}: holds no file to inspect",
                hint=f"known: {', '.join(sorted(ENDINGS))}",
                code="FILE-NONE",
            )
        files += inside
    return files


def _recording_facts(
    recording: Recording, hypnogram: Hypnogram | None, preset: presets.Preset
) -> dict[str, Any]:
    length = hypnogram.epoch_seconds if hypnogram else preset.epoch_seconds
    onset = hypnogram.onset if hypnogram else 0.0
    signals = [_signal_facts(s, length, onset) for s in recording.signals.values()]
    channels, problems = _mapping(recording, preset)
    notes = [str(recording.facts.get("notes", "")), *(hypnogram.notes if hypnogram else ())]
    return {
        "kind": "recording",
        "start": recording.start.isoformat() if recording.start else None,
        "seconds": recording.seconds,
        "notes": "; ".join(n for n in notes if n),
        "simulated": bool(recording.facts.get("simulated", False)),
        "signals": signals,
        "montage": channels,
        "problems": problems + _poor_signals(signals, int(recording.seconds // length)),
        "epochs": int(recording.seconds // length),
        "epoch_seconds": length,
    }


def _poor_signals(signals: Sequence[dict[str, Any]], epochs: int) -> list[str]:
    """Say in how many epochs each signal was not there."""
    return [
        f"{s['label']}: {n} of {epochs} epochs {kind}"
        for s in signals
        for kind, n in s["quality"].items()
        if n and kind in quality.EXCLUDING
    ]


def _mapping(
    recording: Recording, preset: presets.Preset
) -> tuple[dict[str, str | None], list[str]]:
    channels: dict[str, str | None] = {}
    problems = []
    for channel in preset.montage:
        try:
            (signal,) = montage.pick(recording, [channel], preset.assume_unit)
            channels[channel.name] = str(montage.match(recording, channel))
            if doubt := epoching.amplitude_doubt(signal, preset.epoch_seconds):
                problems.append(f"{channel.name}: {doubt}")
        except DataError as e:
            channels[channel.name] = None
            problems.append(str(e))
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
        values = signal.decode(stored)
        facts |= {"minimum": float(values.min()), "maximum": float(values.max())}
    return facts
