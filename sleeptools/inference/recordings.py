"""A trained model on one recording: the hypnodensity of its epochs, and the hypnogram from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sleeptools.errors import DataError
from sleeptools.inference.engine import Engine
from sleeptools.native import Floats
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epoching import CutEpochs
from sleeptools.recording import montage, placing
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording
from sleeptools.recording.stages import UNSCORED


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
    epoch is judged by them.

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
        If a channel of the montage is not there, or no epoch is whole.
    """
    chosen = montage.pick(recording, preset.montage, preset.assume_unit)
    seconds = preset.epoch_seconds
    count = int((epoching.scorable_seconds(preset, chosen) - begin + 1e-6) // seconds)
    if count < 1:
        raise DataError(
            f"{recording.id}: lasts {recording.seconds:.0f} s, less than an epoch of {seconds:g} s",
            code="REC-SHORT",
        )
    onset = begin + np.arange(count, dtype=np.float64) * seconds
    cut = epoching.cut_epochs(preset, recording, chosen, onset, folder)
    if cut.kept.all():
        return engine.hypnodensity(cut.values), cut
    density = np.full((count, len(engine.stages)), np.nan, np.float32)
    if cut.kept.any():
        density[cut.kept] = engine.hypnodensity(cut.values, onset[cut.kept])
    return density, cut


def hypnogram_from(engine: Engine, recording: Recording, density: Floats) -> Hypnogram:
    """Take the most probable stage of every epoch; none where there is no probability.

    Stages of a simulated recording have the scorer "simulated"; those of a real one never, whatever
    the model has learnt from.
    """
    scored = np.isfinite(density).all(1)
    best = np.where(scored, np.nan_to_num(density).argmax(1), UNSCORED).astype(np.int8)
    simulated = recording.facts.get("simulated")
    return Hypnogram(
        best,
        engine.stages,
        float(engine.facts["epoch_seconds"]),
        scorer="simulated" if simulated else f"sleeptools {engine.facts['model']}",
        begin=placing.start_of(recording),
    )
