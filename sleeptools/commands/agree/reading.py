"""Reading a scoring to be compared: its stages, and how sure they are where its file says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import formats
from sleeptools.commands.agree.options import AgreeOptions
from sleeptools.commands.agree.recording_beside import recording_beside
from sleeptools.datasets import isruc
from sleeptools.errors import DataError, SleeptoolsError, UndecidedError
from sleeptools.evaluation.consensus import Values
from sleeptools.formats import ReadSettings, hypnodensity
from sleeptools.recording import stage_groups
from sleeptools.recording.hypnogram import Hypnogram, add_seconds
from sleeptools.recording.label_schemes import Scheme
from sleeptools.recording.recording import read_recording
from sleeptools.recording.simulators import SIMULATED
from sleeptools.recording.stages import UNSCORED

LIGHT_AND_DEEP: Final = {
    form.format(name.lower()): name for name in ("Light", "Deep") for form in ("{}", "{} sleep")
}
RECORDING: Final = ".safetensors"
WORKBOOK: Final = ".xlsx"
LACKING: Final = {
    "HYP-SCHEME": ("scheme",),
    "HYP-TEXT": ("scheme",),
    "HYP-EPOCH": ("epoch_seconds",),
    "HYP-GRID": ("epoch_seconds",),
    "HYP-SCORER": ("scorer",),
    "HYP-DURATION": ("epoch_from_onsets",),
    "EDF-TAL": ("ignore_bad_annotations",),
}
"""Settings that mend an error, by its code: each is used only for the files that need it."""


@dataclass(frozen=True)
class ScoringFile:
    """Where the stages of a night are.

    Parameters
    ----------
    path
        The file; of this package's recordings, the one with the signals.
    scorer
        Whose stages of it, where it has those of several.
    is_simulated
        Whether the folder that it is in says that the night was simulated.
    """

    path: Path
    scorer: str = ""
    is_simulated: bool = False


@dataclass(frozen=True)
class ReadScoring:
    """A scoring as it was read.

    Parameters
    ----------
    hypnogram
        Stages.
    probabilities
        (epochs, stages), NaN where not known; None if the file has none.
    is_from_start
        Whether its onset is known to count from the start of the recording.
    is_simulated
        Whether the file says of its signals that they are simulated.
    """

    hypnogram: Hypnogram
    probabilities: Values | None = None
    is_from_start: bool = False
    is_simulated: bool = False


def scorers_in(path: Path, scoring: str, options: AgreeOptions) -> list[str]:
    """List the scorers whose stages a file has; [""] if it does not name several.

    Raises
    ------
    SleeptoolsError
        If it cannot be read.
    """
    if path.suffix.lower() == RECORDING:
        scorings = read_recording(path).scorings
        if not scorings:
            raise DataError(f"{path}: has no hypnogram", code="HYP-NONE")
        return _scorer_names(scorings) if len(scorings) > 1 else [""]
    try:
        read_scoring(ScoringFile(path), scoring, options)
    except UndecidedError as e:
        if e.code != "HYP-SCORER":
            raise
        return list(e.texts)
    return [""]


def _scorer_names(scorings: tuple[Hypnogram, ...]) -> list[str]:
    named = [h.scorer for h in scorings]
    unique = all(named) and len({*named}) == len(named)
    return named if unique else [f"scorer {k}" for k in range(1, len(named) + 1)]


def read_scoring(source: ScoringFile, scoring: str, options: AgreeOptions) -> ReadScoring:
    """Read a scoring; settings are used only where the file needs them.

    Parameters
    ----------
    scoring
        Name of the scoring, by which its scheme is chosen.

    Raises
    ------
    SleeptoolsError
        If the file cannot be read so.
    """
    path = source.path
    if path.suffix.lower() == RECORDING:
        return ReadScoring(_of_recording(source), is_from_start=True)
    if path.suffix.lower() == WORKBOOK:
        return ReadScoring(isruc.read_workbook(path))
    if isruc.scorer_of(path):
        settings: ReadSettings = {"scheme": isruc.SCHEME, "epoch_seconds": isruc.EPOCH_SECONDS}
        return ReadScoring(formats.read_hypnogram(path, **settings))
    given, beside = _given(source, scoring, options), recording_beside(path)
    used = {} if beside is None else {k: v for k, v in beside.reading().items() if k not in given}
    hypnogram = _read_with(path, given, used)
    if beside is not None:
        hypnogram = beside.placed(hypnogram)
    facts = _facts_of_signals(path)
    is_placed = beside is not None and beside.signals is not None
    is_from_start = facts is not None or is_placed or formats.find(path) is hypnodensity
    return ReadScoring(
        hypnogram,
        _probabilities(path, hypnogram),
        is_from_start,
        bool(facts and facts.get(SIMULATED)),
    )


def _facts_of_signals(path: Path) -> Mapping[str, object] | None:
    """Facts of the recording in the file of a scoring; None if it has no signals."""
    module = formats.find(path)
    if not hasattr(module, "read"):
        return None
    try:
        facts: Mapping[str, object] = module.read(path).facts
    except SleeptoolsError:
        return None  # annotations alone, or signals that nobody needs here
    return facts


def has_own_stages(path: Path, scoring: str, options: AgreeOptions) -> bool:
    """Tell whether a file of signals has stages, too."""
    try:
        read_scoring(ScoringFile(path), scoring, options)
    except UndecidedError:
        return True
    except SleeptoolsError:
        return False
    return True


def _of_recording(source: ScoringFile) -> Hypnogram:
    recording = read_recording(source.path)
    scorings = recording.scorings
    number = _scorer_names(scorings).index(source.scorer) if source.scorer else 0
    if not scorings:
        raise DataError(f"{source.path}: has no hypnogram", code="HYP-NONE")
    begin = add_seconds(recording.start, scorings[number].onset)
    return replace(scorings[number], begin=begin)


def _given(source: ScoringFile, scoring: str, options: AgreeOptions) -> dict[str, Any]:
    """Gather the settings that are given."""
    settings = {
        "scheme": options.scheme_of(scoring),
        "epoch_seconds": options.epoch_seconds,
        "scorer": source.scorer or options.scorer,
        "epoch_from_onsets": options.epoch_from_onsets,
        "ignore_bad_annotations": options.ignore_bad_annotations,
    }
    return {name: value for name, value in settings.items() if value}


def _read_with(path: Path, settings: dict[str, Any], used: dict[str, Any]) -> Hypnogram:
    """Read a file with some settings, adding those that it turns out to need."""
    while True:
        try:
            hypnogram = formats.read_hypnogram(path, **used)
        except DataError as e:
            if (words := _light_and_deep(e)) and "scheme" not in used:
                used["scheme"] = Scheme(stage_groups.LIGHT_AND_DEEP, words)
                continue
            lacking = [n for n in LACKING.get(e.code, ()) if n in settings and n not in used]
            if not lacking:
                raise
            used |= {name: settings[name] for name in lacking}
            continue
        lacking = ["epoch_seconds"] * (hypnogram.timing == "none")
        lacking += ["scheme"] * hypnogram.is_of_either  # of people or of mice
        lacking = [name for name in lacking if name in settings and name not in used]
        if not lacking:
            return hypnogram
        used |= {name: settings[name] for name in lacking}


def _light_and_deep(error: DataError) -> dict[str, str]:
    """Meaning of the words that could not be read, if they are of light and deep sleep alone."""
    if not isinstance(error, UndecidedError) or error.code != "HYP-TEXT":
        return {}
    words = {text: LIGHT_AND_DEEP.get(text.strip().lower(), "") for text in error.texts}
    return words if all(words.values()) else {}


def _probabilities(path: Path, hypnogram: Hypnogram) -> Values | None:
    """(epochs, stages) probabilities; of the own stage alone, the others are 0."""
    module = formats.find(path)
    if hasattr(module, "read_density"):
        density: Values = module.read_density(path).astype(np.float64)
        return density if len(density) == len(hypnogram) else None
    if not hasattr(module, "read_confidence"):
        return None
    confidence = module.read_confidence(path, hypnogram)
    if confidence is None:
        return None
    is_scored = hypnogram.stages[:, None] == np.arange(len(hypnogram.names))
    unknown = np.isnan(confidence) | (hypnogram.stages == UNSCORED)
    return np.where(unknown[:, None], np.nan, is_scored * confidence[:, None])
