"""Scoring one recording from Python: `sleeptools.score`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sleeptools.commands.score import open_model
from sleeptools.commands.score.lights import lights_of
from sleeptools.commands.score.options import ScoreOptions
from sleeptools.commands.score.paths import model_at
from sleeptools.commands.score.scoring import Scoring, score_file, score_recording
from sleeptools.recording.recording import Recording


def score_one(
    recording: Recording | Path | str, model: Path | str, options: ScoreOptions | None = None
) -> Scoring:
    """Score one recording with a trained model.

    Parameters
    ----------
    recording
        A recording, or the path of one.
    model
        What the command line takes: a model folder, a fold's or a run's `final`, or "default".
    options
        As for the command; `only` has no meaning here.

    Returns
    -------
    scoring
        `hypnogram`, `hypnodensity`, `confidence`, `quality`, `warnings`, `statistics()`; a notebook
        shows its hypnogram.

    Raises
    ------
    MissingInputError, DataError
        If the model or the recording is not there, is damaged, or they do not fit each other.
    """
    options = options or ScoreOptions()
    engine, preset = open_model(model_at(model), options)
    folder = Path(tempfile.gettempdir())
    if not isinstance(recording, Recording):
        return score_file(engine, preset, Path(recording), folder, options)
    lights = lights_of(recording, options.lights_off, options.lights_on)
    return score_recording(engine, preset, recording, folder, options, lights)
