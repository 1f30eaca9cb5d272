"""A trained model on one recording: the hypnodensity of its epochs, and the hypnogram from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools.errors import DataError
from sleeptools.inference import yasa_network
from sleeptools.inference.engine import Engine
from sleeptools.inference.leads import LEADS
from sleeptools.inference.yasa_network import YasaNetwork
from sleeptools.native import Floats
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epoching import CutEpochs
from sleeptools.recording import montage, placing
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording
from sleeptools.recording.stages import UNSCORED

LEAST_SECONDS: Final = "least_seconds"
"""Fact of a model that compares epochs with the night around them: how much of it, s."""
LEAST_PROBABILITY: Final = 1e-6


def hypnodensity(
    engine: Engine,
    preset: presets.Preset,
    recording: Recording,
    folder: Path,
    *,
    begin: float = 0.0,
) -> tuple[Floats, CutEpochs]:
    """Score every whole epoch of a recording, from its first sample on.

    Under a preset that excludes epochs without a signal, these have no probability, and no other
    epoch is judged by them. A model of any lead scores each channel of the montage by itself; of
    those that have a signal, the mean of their log-probabilities counts.

    Parameters
    ----------
    folder
        Where the epochs lie meanwhile, in a file without a name.
    begin
        Start of the first epoch, s from the start of the recording.

    Returns
    -------
    density
        (epochs, stages) float32; NaN for an epoch that was left out.
    cut
        What the epochs were made from: `kept` and `reasons` say which were left out and why.

    Raises
    ------
    DataError
        If a channel of the montage is not there, no epoch is whole, or a model that compares epochs
        with the night around them gets too few.
    """
    if isinstance(engine.network, YasaNetwork):
        return _by_yasa(engine.network, preset, recording, folder)
    if LEADS not in engine.facts:
        return _hypnodensity(engine, preset, recording, folder, begin)
    alone = [preset.model_copy(update={"montage": (lead,)}) for lead in preset.montage]
    scored = [_hypnodensity(engine, lead, recording, folder, begin) for lead in alone]
    return scored[0] if len(scored) == 1 else _joined(scored)


def _hypnodensity(
    engine: Engine, preset: presets.Preset, recording: Recording, folder: Path, begin: float
) -> tuple[Floats, CutEpochs]:
    chosen = montage.pick(recording, preset.montage, preset.assume_unit)
    seconds = preset.epoch_seconds
    count = int((epoching.scorable_seconds(preset, chosen) - begin + 1e-6) // seconds)
    if count < 1:
        raise DataError(
            f"{recording.id}: lasts {recording.seconds:.0f} s, less than an epoch of {seconds:g} s",
            code="REC-SHORT",
        )
    _check_night(engine, recording, count * seconds)
    onset = begin + np.arange(count, dtype=np.float64) * seconds
    cut = epoching.cut_epochs(preset, recording, chosen, onset, folder)
    if cut.kept.all():
        return engine.hypnodensity(cut.values), cut
    density = np.full((count, len(engine.stages)), np.nan, np.float32)
    if cut.kept.any():
        density[cut.kept] = engine.hypnodensity(cut.values, onset[cut.kept])
    return density, cut


def _by_yasa(
    network: YasaNetwork, preset: presets.Preset, recording: Recording, folder: Path
) -> tuple[Floats, CutEpochs]:
    """Score a recording by YASA, at the rate of its EEG; the epochs are cut to judge them only."""
    signals, notes = yasa_network.usable(
        montage.pick(recording, preset.montage, preset.assume_unit)
    )
    rate = signals[0].sample_rate
    preset = preset.model_copy(update={"sample_rate": rate, "montage": preset.montage[:1]})
    density = network.score(recording, signals)
    onset = np.arange(len(density), dtype=np.float64) * preset.epoch_seconds
    cut = epoching.cut_epochs(preset, recording, signals[:1], onset, folder)
    return density, replace(cut, warnings=[*notes, *cut.warnings])


def _check_night(engine: Engine, recording: Recording, seconds: float) -> None:
    """Refuse less than the piece of a night that a model compares each epoch with."""
    least = engine.facts.get(LEAST_SECONDS, 0.0)
    if seconds < least:
        raise DataError(
            f"{recording.id}: lasts {seconds // 6 / 10:g} min; the model compares every "
            f"epoch with the night around it, and takes {least / 3600:g} h at least",
            hint="give the whole night",
            code="REC-NIGHT",
        )


def _joined(scored: Sequence[tuple[Floats, CutEpochs]]) -> tuple[Floats, CutEpochs]:
    """Join what a model says of several leads: the geometric mean of those that have a signal."""
    count = min(len(density) for density, _ in scored)
    densities = np.stack([density[:count] for density, _ in scored])  # (leads, epochs, stages)
    logs = np.log(densities + LEAST_PROBABILITY)
    with np.errstate(invalid="ignore"):  # of an epoch that no lead has
        joined = np.exp(np.nansum(logs, axis=0) / np.isfinite(logs).sum(0))
    joined /= joined.sum(1, keepdims=True)
    cuts = [cut for _, cut in scored]
    kept = np.any([cut.kept[:count] for cut in cuts], axis=0)
    return joined.astype(np.float32), replace(
        cuts[0],
        kept=kept,
        reasons=["" if k else r for k, r in zip(kept, cuts[0].reasons, strict=False)],
        counts={label: kinds for cut in cuts for label, kinds in cut.counts.items()},
        warnings=[warning for cut in cuts for warning in cut.warnings],
    )


def hypnogram_from(
    engine: Engine, preset: presets.Preset, recording: Recording, density: Floats
) -> Hypnogram:
    """Take the most probable stage of every epoch; none where there is no probability.

    Stages of a simulated recording have the scorer "simulated"; those of a real one the model, with
    the leads if it takes any lead.
    """
    scored = np.isfinite(density).all(1)
    best = np.where(scored, np.nan_to_num(density).argmax(1), UNSCORED).astype(np.int8)
    scorer = f"sleeptools {engine.facts['model']}"
    if LEADS in engine.facts:
        scorer += f" of {' and '.join(c.name.removeprefix('EEG ') for c in preset.montage)}"
    simulated = recording.facts.get("simulated")
    return Hypnogram(
        best,
        engine.stages,
        float(engine.facts["epoch_seconds"]),
        scorer="simulated" if simulated else scorer,
        begin=placing.start_of(recording),
    )
