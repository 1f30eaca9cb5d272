"""Whether the numbers in a folder of scores follow from each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import formats
from sleeptools.commands.score.folder import read_scores
from sleeptools.commands.score.lights import Lights
from sleeptools.commands.score.sleep_table import sleep_row
from sleeptools.formats import hypnodensity
from sleeptools.recording.stages import UNSCORED

TOLERANCE: Final = 1e-9
"""Largest relative difference of a number computed again."""


def score_differences(folder: Path) -> list[str]:
    """Compare the stages of each night with its probabilities, and its statistics with its stages.

    Returns
    -------
    problems
        A line for each that does not follow.
    """
    facts, hypnograms = read_scores(folder)
    rows = facts["recordings"]
    return [text for name, path in hypnograms.items() for text in _of_night(path, rows[name])]


def _of_night(path: Path, row: dict[str, Any]) -> Iterator[str]:
    hypnogram = formats.read_hypnogram(path)
    if path.suffix == ".csv":
        density = hypnodensity.read_density(path)
        scored = hypnogram.stages != UNSCORED
        wrong = np.flatnonzero(density[scored].argmax(1) != hypnogram.stages[scored])
        if len(wrong):
            epoch = int(np.flatnonzero(scored)[wrong[0]])
            yield f"{path}: {len(wrong)} stages are not the likeliest, the first of epoch {epoch}"
    stored = row["sleep"]
    lights = Lights(stored["lights_off_s"], stored["lights_on_s"])
    for column, value in sleep_row(hypnogram, lights).items():
        if (
            isinstance(value, float)
            and not np.isclose(value, stored.get(column) or np.nan, rtol=TOLERANCE, atol=0)
            and value != stored.get(column)
        ):
            yield f"{path}: {column} is {value:g}; manifest.json has {stored.get(column)}"
