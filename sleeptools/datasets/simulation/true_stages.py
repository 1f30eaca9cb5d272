"""The true stages of simulated nights, which generated their signals: files generator/ID.json.

The simulated scorer errs as human scorers do, so no model can be expected to agree with the scoring
better than the true stages do: they are the ceiling of every result on simulated data. Recordings
hold them as the last scorer, named "generator".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import store
from sleeptools.recording import simulators
from sleeptools.recording.hypnogram import GENERATOR_SCORER, Hypnogram
from sleeptools.recording.recording import Recording

TRUE_STAGES_KIND: Final = "sleeptools-generator"
TRUE_STAGES_VERSION: Final = 1


def path_of(root: Path, recording: str) -> Path:
    """Return the file of a recording's true stages in a simulated folder."""
    return root / GENERATOR_SCORER / f"{recording}.json"


def write(root: Path, recording: str, true_stages: Hypnogram) -> Path:
    """Write the true stages of a recording, on the epochs of its hypnogram."""
    file = path_of(root, recording)
    facts = {
        "format": TRUE_STAGES_KIND,
        "version": TRUE_STAGES_VERSION,
        "simulator": simulators.SIMULATOR,
        "names": true_stages.names,
        "epoch_seconds": true_stages.epoch_seconds,
        "onset": true_stages.onset,
        "stages": true_stages.stages.tolist(),
    }
    store.write_json(file, facts)
    return file


def read_recording(read: Callable[[Any], Recording], root: Path, source: Any) -> Recording:
    """Read a recording by a data set's `read`, and add its true stages from below `root`."""
    return attach(read(source), root)


def attach(recording: Recording, root: Path) -> Recording:
    """Add the true stages as the last scorer, if they exist and have the hypnogram's epochs.

    Parameters
    ----------
    recording
        A recording; returned as it is unless it is simulated and scored.
    root
        Folder of the simulated raw files.

    Raises
    ------
    DataError
        If the file is damaged, or of a newer version.
    """
    file, scoring = path_of(root, recording.id), recording.hypnogram
    if scoring is None or not recording.facts.get("simulated") or not file.is_file():
        return recording
    facts = store.read_json(file)
    store.check_format(facts, file, TRUE_STAGES_KIND, TRUE_STAGES_VERSION)
    names, seconds = tuple(facts["names"]), float(facts["epoch_seconds"])
    if (names, seconds) != (scoring.names, scoring.epoch_seconds):
        return recording
    true_stages = Hypnogram(np.array(facts["stages"], np.int8), names, seconds, facts["onset"])
    true_stages = replace(true_stages.clipped(recording.seconds), scorer=GENERATOR_SCORER)
    return replace(recording, other_hypnograms=(*recording.other_hypnograms, true_stages))
