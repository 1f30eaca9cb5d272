"""Scoring one recording: from its file to stages, probabilities and what is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sleeptools import store
from sleeptools.commands.score import sleep_table
from sleeptools.commands.score.expected_agreement import CARD
from sleeptools.commands.score.lights import Lights, lights_of
from sleeptools.commands.score.montage import ChosenMontage, choose_montage
from sleeptools.commands.score.options import ScoreOptions
from sleeptools.datasets.shared.edf_settings import read_named, settings_of
from sleeptools.errors import DataError
from sleeptools.inference import leads
from sleeptools.inference.engine import Engine
from sleeptools.inference.missing import dispensable
from sleeptools.inference.recordings import hypnodensity, hypnogram_from
from sleeptools.native import Floats
from sleeptools.preprocessing.presets import Preset
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import IGNORED, Recording, ignored_channels
from sleeptools.recording.signals import quality
from sleeptools.recording.stages import MOUSE, MOUSE_STAGES, SPECIES, UNSCORED, is_of_mice
from sleeptools.runs.parent import tuned_on_real

OPTIONAL = "optional"
"""Fact of a model: channels that it can do without."""
LEAST_VARIED = 1800.0
"""Seconds of sleep in which there are stages."""
SIMULATED_TRAINING = (
    "the model has learnt from simulated nights only and was never tested on a real one: its "
    "stages of this real recording may be wrong throughout"
)

SIMULATED_PARENT = (
    "the model began with one of simulated nights and was fine-tuned on real ones: its stages of "
    "recordings unlike these may be wrong throughout"
)


@dataclass(frozen=True)
class Scoring:
    """A scored recording.

    Parameters
    ----------
    name
        Name of its files.
    recording
        The recording.
    hypnogram
        A stage for every whole epoch from the first sample on.
    hypnodensity
        (epochs, stages) float32 probabilities; NaN where an epoch was left out.
    left_out
        (epochs,) why an epoch was left out, or "".
    quality
        Number of epochs by channel and by kind of fault.
    lights
        When the lights went off and on.
    montage
        What each channel of the model is made of.
    warnings
        Texts, for people.
    leads
        Channels from each of which a model of any lead has scored; empty for another model.
    """

    name: str
    recording: Recording = field(repr=False)
    hypnogram: Hypnogram = field(repr=False)
    hypnodensity: Floats = field(repr=False)
    left_out: list[str] = field(repr=False)
    quality: Mapping[str, Mapping[str, int]]
    lights: Lights
    montage: ChosenMontage
    warnings: tuple[str, ...]
    leads: tuple[str, ...] = ()

    @property
    def confidence(self) -> Floats:
        """(epochs,) probability of each epoch's stage; NaN where it has none."""
        best = self.hypnodensity.max(1)
        return np.where(self.hypnogram.stages == UNSCORED, np.float32(np.nan), best)

    def statistics(self) -> dict[str, float]:
        """Return the night's sleep statistics, as `sleep_table.statistics`."""
        return sleep_table.statistics(self.hypnogram, self.lights.off, self.lights.on)

    def _repr_html_(self) -> str:
        """Show the night in a notebook: hypnogram over hypnodensity."""
        from sleeptools.report.hypnogram_figure import plot

        return plot(self.hypnogram, self.hypnodensity, self.name)._repr_html_()

    def row(self) -> dict[str, Any]:
        """Describe the night for the manifest."""
        return {
            "recording": self.name,
            "epochs": len(self.hypnodensity),
            "counts": {name: n for name, n in self.hypnogram.counts().items() if n},
            "confidence": _mean(self.confidence),
            "warnings": list(self.warnings),
            "quality": {name: dict(kinds) for name, kinds in self.quality.items()},
            "unscored": {k: n for k in quality.EXCLUDING if (n := self.left_out.count(k))},
            "simulated": bool(self.recording.facts.get("simulated")),
            "spans": placing.span_text(self.recording),
            IGNORED: ignored_channels(self.recording.facts),
            "channels": self.montage.made_of,
            "substitutes": self.montage.substitutes,
            "leads": list(self.leads),
            "sleep": sleep_table.sleep_row(self.hypnogram, self.lights),
            "bins": sleep_table.bin_rows(self.hypnogram),
        }


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 4) if len(known) else None


def score_file(
    engine: Engine, preset: Preset, path: Path, folder: Path, options: ScoreOptions
) -> Scoring:
    """Score the recording in a file.

    Parameters
    ----------
    folder
        Where the epochs lie meanwhile, in a file without a name.

    Raises
    ------
    DataError
        If the file is damaged, or lacks a channel of the montage.
    """
    store.check_listed(path)
    settings = settings_of(path)
    recording = read_named(path, ignore_channels=options.ignore_channels)
    check_species(engine, recording.id, [settings.stage_names])
    options = options.called(settings.names)
    when = lights_of(recording, options.lights_off, options.lights_on, path)
    return replace(
        score_recording(engine, preset, recording, folder, options, when), name=path.stem
    )


def score_recording(
    engine: Engine,
    preset: Preset,
    recording: Recording,
    folder: Path,
    options: ScoreOptions,
    lights: Lights,
) -> Scoring:
    """Score a recording; as `score_file`.

    Parameters
    ----------
    lights
        When the lights went off and on.
    """
    names = [scoring.names for scoring in recording.scorings]
    if recording.facts.get(SPECIES) == MOUSE:
        names.append(MOUSE_STAGES)
    check_species(engine, recording.id, names)
    if not options.channels:
        by_order = options.match_channels_by_order
        preset = leads.choose(engine.facts, preset, recording, by_order=by_order)
    chosen = choose_montage(
        recording,
        preset.montage,
        options.channels,
        by_order=options.match_channels_by_order,
        dispensable=dispensable(engine.facts),
        optional=engine.facts.get(OPTIONAL, ()),
    )
    lacking = [c.name for c in preset.montage if c.name not in chosen.made_of]
    preset = preset.model_copy(update={"montage": chosen.channels})
    density, cut = hypnodensity(engine, preset, recording, folder)
    hypnogram = hypnogram_from(engine, preset, recording, density)
    notes = [str(recording.facts["notes"])] if recording.facts.get("notes") else []
    for name, how in chosen.substitutes.items():
        notes.insert(0, f"{chosen.made_of[name]} serves as {name} ({how}): the model never saw it")
    if lacking:
        notes.insert(0, f"scored without {', '.join(lacking)}: no such signal")
    if absent := engine.facts.get("without"):
        notes.insert(0, f"scored without {', '.join(absent)}: zeros stand in, as in training")
    if engine.facts.get("simulated") and not recording.facts.get("simulated"):
        origin = SIMULATED_PARENT if tuned_on_real(engine.facts) else SIMULATED_TRAINING
        notes.insert(0, engine.facts.get(CARD, {}).get("summary", origin))
    return Scoring(
        recording.id,
        recording,
        hypnogram,
        density,
        ["" if kept else why for why, kept in zip(cut.reasons, cut.kept.tolist(), strict=True)],
        cut.counts,
        lights,
        chosen,
        (*notes, *monotony(hypnogram), *cut.warnings),
        leads=tuple(chosen.made_of) if leads.LEADS in engine.facts else (),
    )


def check_species(engine: Engine, name: str, stage_lists: Sequence[Sequence[str]]) -> None:
    """Refuse a recording of a mouse where the model is for people, or the reverse.

    Parameters
    ----------
    name
        Name of the recording, for messages.
    stage_lists
        Stages of its scorings, by what it holds or what describes it; an empty one tells nothing.

    Raises
    ------
    DataError
        If one of them is of the other species.
    """
    for listed in filter(None, stage_lists):
        if is_of_mice(listed) != is_of_mice(engine.stages):
            whose, for_whom = ("a mouse", "people") if is_of_mice(listed) else ("a person", "mice")
            raise DataError(
                f"{name}: is of {whose} ({', '.join(listed)}), and the model for "
                f"{for_whom} ({', '.join(engine.stages)})",
                hint="score it by a model that was trained on recordings of the same kind",
                code="MODEL-FIT",
            )


def monotony(hypnogram: Hypnogram) -> list[str]:
    """Warn of half an hour or more that is one stage of sleep throughout."""
    scored = hypnogram.stages[hypnogram.stages >= 0]
    seconds = len(scored) * hypnogram.epoch_seconds
    if seconds < LEAST_VARIED or (scored != scored[0]).any() or scored[0] == 0:
        return []
    stage = hypnogram.names[scored[0]]
    return [f"all {len(scored)} epochs are {stage}: see whether channels and rates are the model's"]


def summary(row: dict[str, Any], said: str = "") -> str:
    """Write a night's row as one line for people, without the warning `said` of all nights."""
    stages = ", ".join(f"{name} {n}" for name, n in row["counts"].items())
    notes = [f"{row['epochs']} epochs: {stages}", row["spans"]]
    others = {name: source for name, source in row["channels"].items() if source != name}
    if others:
        notes.append(", ".join(f"{name} = {source}" for name, source in others.items()))
    if row["leads"]:
        notes.append(f"scored from {' and '.join(row['leads'])}")
    if row["unscored"]:
        why = ", ".join(f"{n} {kind}" for kind, n in row["unscored"].items())
        notes.append(f"left unscored, without a signal: {why}")
    if row["quality"]:
        notes.append(f"signal quality: {quality.counts_text(row['quality'])}")
    warnings = [w for w in row["warnings"] if w != said]
    return "; ".join([*filter(None, notes), *(f"warning: {w}" for w in warnings)])
