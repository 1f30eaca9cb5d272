"""Whether the numbers in a folder of scores follow from each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import formats, store
from sleeptools.commands.score.folder import SCORES_VERSION, read_scores
from sleeptools.commands.score.lights import Lights
from sleeptools.commands.score.sleep_table import sleep_row
from sleeptools.formats import hypnodensity
from sleeptools.recording.stages import UNSCORED

LIGHTS_FACTS: Final = {"lights_off_s": "number?", "lights_on_s": "number?"}
TOLERANCE: Final = 1e-9
"""Largest relative difference of a number computed again."""


def score_differences(folder: Path) -> list[str]:
    """Compare the stages of each night with its probabilities, and its statistics with its stages.

    Returns
    -------
    problems
        A line for each that does not follow.
    """
    facts, hypnograms = read_scores(folder, oldest=SCORES_VERSION)
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
    counts = {name: count for name, count in hypnogram.counts().items() if count}
    for name, value in (("epochs", len(hypnogram)), ("counts", counts)):
        if row.get(name) != value:
            yield f"{path}: {name} is {value}; manifest.json has {row.get(name)}"
    stored = row["sleep"]
    store.check_facts(stored, path, LIGHTS_FACTS, place="sleep")
    lights = Lights(stored.get("lights_off_s"), stored.get("lights_on_s"))
    for column, value in sleep_row(hypnogram, lights).items():
        if isinstance(value, float) and not _is_close(value, stored.get(column)):
            yield f"{path}: {column} is {value:g}; manifest.json has {stored.get(column)}"


def _is_close(value: float, stored: object) -> bool:
    return isinstance(stored, int | float) and math.isclose(value, stored, rel_tol=TOLERANCE)
