"""From one recording to its epoch file: the scoring that counts, trimming, cutting, writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sleeptools.errors import DataError
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epochs import EpochFile, read_epoch_file, write_epoch_file
from sleeptools.preprocessing.trimming import select_epochs
from sleeptools.recording import montage, placing, simulators
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import (
    IGNORED,
    SUBJECT_FACTS,
    Recording,
    before_fact,
    ignored_channels,
    past_fact,
)
from sleeptools.recording.signals import quality


def write_recording_epochs(
    preset: presets.Preset, recording: Recording, path: Path, made_by: dict[str, Any]
) -> None:
    """Make the epochs of a recording as a preset says, and write them to one file.

    Parameters
    ----------
    preset
        Montage, sample rate, steps, scorer and trimming rule.
    recording
        With at least the preset's scorer.
    path
        File to write, in the format of `EpochFile`.
    made_by
        What the file is made from: the fingerprints of the inputs and the preset.

    Raises
    ------
    DataError
        If the preset's scorer is missing, a hypnogram has other stages or epochs than the preset,
        a channel of the montage is missing, no epoch is scored, or none has a signal.
    """
    scorings = _scorings(preset, recording)
    scoring = scorings.pop(preset.scorer)
    signals = montage.pick(recording, preset.montage, preset.assume_unit)
    seconds = epoching.scorable_seconds(preset, signals)
    clipped = scoring.clipped(seconds)
    past = int(recording.facts.get(past_fact(preset.scorer), 0)) + len(scoring) - len(clipped)
    hypnogram = clipped.padded(seconds)
    selected, excluded = select_epochs(hypnogram, preset.trim, past)
    excluded["before the signals"] = int(recording.facts.get(before_fact(preset.scorer), 0))
    excluded["past the signals"] = past
    if len(selected) == 0:
        raise DataError(f"{recording.id}: no scored epochs", code="HYP-UNSCORED")
    onsets = np.asarray(hypnogram.onset + selected * preset.epoch_seconds, np.float64)
    cut = epoching.cut_epochs(preset, recording, signals, onsets, path.parent)
    if preset.quality == "exclude" or any(cut.left_out.values()):
        excluded |= cut.left_out
    if not cut.kept.any():
        gaps = cut.left_out[quality.GAP]
        counts = {"recording": {quality.GAP: gaps}} if gaps else {}
        raise DataError(
            f"{recording.id}: no epoch has a signal in every channel: "
            f"{quality.counts_text(counts | cut.counts)} of {len(selected)}",
            hint="such epochs are kept with `quality=count`" if gaps < len(selected) else None,
            code="SIG-NONE",
        )
    selected, onsets = selected[cut.kept], onsets[cut.kept]
    write_epoch_file(
        path,
        signals=cut.values,
        stages=hypnogram.stages[selected],
        onset=onsets,
        hypnogram=hypnogram.stages,
        other_stages={number: scoring.stages_at(onsets) for number, scoring in scorings.items()},
        facts={
            "recording": recording.id,
            "subject": recording.subject,
            "night": recording.night,
            "hypnogram_onset": hypnogram.onset,
            "scorer": hypnogram.scorer,
            "excluded": excluded,
            "others": {number: scoring.scorer for number, scoring in scorings.items()},
            "simulated": bool(recording.facts.get("simulated", False)),
            "simulator": simulators.simulator_of(recording.facts),
            "randomised": simulators.is_randomised(recording.facts),
            "fast": simulators.is_fast(recording.facts),
            "made_by": made_by,
            **{k: recording.facts.get(k) for k in SUBJECT_FACTS},
            "channels": {c.name: str(montage.match(recording, c)) for c in preset.montage},
            "spans": placing.span_text(recording),
            IGNORED: ignored_channels(recording.facts),
            "warnings": cut.warnings,
            "quality": cut.counts,
        },
    )


def _scorings(preset: presets.Preset, recording: Recording) -> dict[int, Hypnogram]:
    """Return every scorer's hypnogram by the scorer's number, the preset's scorer among them."""
    scorings = dict(enumerate(recording.scorings, start=1))
    if preset.scorer not in scorings:
        raise DataError(
            f"{recording.id}: has no hypnogram of scorer {preset.scorer}",
            hint=f"scorers: {', '.join(map(str, scorings)) or 'none'}",
            code="HYP-SCORER",
        )
    for scoring in scorings.values():
        if scoring.names != preset.stages or scoring.epoch_seconds != preset.epoch_seconds:
            raise DataError(
                f"{recording.id}: scored in {', '.join(scoring.names)} per "
                f"{scoring.epoch_seconds:g} s; the preset wants {', '.join(preset.stages)} per "
                f"{preset.epoch_seconds:g} s",
                hint=_other_species(scoring, preset),
                code="PRE-STAGES",
            )
    return scorings


def _other_species(scoring: Hypnogram, preset: presets.Preset) -> str | None:
    """Hint for a scoring of wake and REM alone, which tells neither people nor mice."""
    if scoring.epoch_seconds != preset.epoch_seconds or not scoring.is_of_either:
        return None
    listed = ", ".join(f'"{name}"' for name in preset.stages)
    return (
        f"all that is scored is wake and REM: stages = [{listed}] in the edf.toml of the raw "
        "files, and convert them again"
    )


def read_made_by(path: Path) -> dict[str, Any]:
    """Read what an epoch file was made from; settings an older version did not write get defaults.

    Raises
    ------
    DataError
        If the file is damaged, or of a newer version.
    KeyError
        If the file does not say what it was made from.
    """
    made_by: dict[str, Any] = read_epoch_file(path).facts["made_by"]
    preset = presets.resolve(made_by["preset"], source=str(path))
    return made_by | {"preset": preset.model_dump(mode="json")}


def index_row(file: EpochFile, preset: presets.Preset) -> dict[str, Any]:
    """Describe an epoch file for the folder's index: subject, counts of stages, warnings.

    The counts of excluded epochs by reason are one value, `excluded`.
    """
    per_stage = np.bincount(file.stages, minlength=len(preset.stages))
    return {
        "recording": file.recording,
        "subject": file.subject,
        "night": file.night,
        "epochs": len(file),
        "simulated": bool(file.facts["simulated"]),
        "simulator": simulators.simulator_of(file.facts),
        "randomised": simulators.is_randomised(file.facts),
        "fast": simulators.is_fast(file.facts),
        "scorer": file.facts["scorer"],
        **{k: file.facts[k] for k in SUBJECT_FACTS},
        "excluded": file.facts["excluded"],
        "warnings": "; ".join(file.facts.get("warnings", [])),
        "quality": quality.counts_text(file.facts.get("quality", {})),
        **{name: int(n) for name, n in zip(preset.stages, per_stage, strict=True)},
    }
