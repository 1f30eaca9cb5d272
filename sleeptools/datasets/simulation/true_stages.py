"""The stages that made a simulated recording's signals, as a further scorer: GENERATOR/ID.json.

The simulated scorer errs as people do, so that no model can be expected to agree with the scoring
better than these stages do: the ceiling of every result on simulated data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import store
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording

KIND: Final = "sleeptools-generator"
VERSION: Final = 1
NAME: Final = "generator"
"""Of the folder beside the simulated files, and of the scorer."""


def path(root: Path, recording: str) -> Path:
    """Say where a recording's generating stages lie in a simulated folder."""
    return root / NAME / f"{recording}.json"


def write(root: Path, recording: str, made: Hypnogram) -> Path:
    """Write the stages that made a recording, on the grid of its scoring."""
    file = path(root, recording)
    facts = {
        "format": KIND,
        "version": VERSION,
        "names": made.names,
        "epoch_seconds": made.epoch_seconds,
        "onset": made.onset,
        "stages": made.stages.tolist(),
    }
    store.write_json(file, facts)
    return file


def reading(read: Callable[[Any], Recording], root: Path, source: Any) -> Recording:
    """Read a data set's recording, and with it the generating stages that lie below `root`."""
    return attach(read(source), root)


def attach(recording: Recording, root: Path) -> Recording:
    """Add the generating stages as the last scorer, where they are there and fit the scoring.

    Raises
    ------
    DataError
        If the file is damaged, or of a newer version.
    """
    file, scoring = path(root, recording.id), recording.hypnogram
    if scoring is None or not recording.facts.get("simulated") or not file.is_file():
        return recording
    found = store.read_json(file)
    store.check_format(found, file, KIND, VERSION)
    names, seconds = tuple(found["names"]), float(found["epoch_seconds"])
    if (names, seconds) != (scoring.names, scoring.epoch_seconds):
        return recording
    made = Hypnogram(np.array(found["stages"], np.int8), names, seconds, found["onset"])
    made = replace(made.clipped(recording.seconds), scorer=NAME)
    return replace(recording, other_hypnograms=(*recording.other_hypnograms, made))
