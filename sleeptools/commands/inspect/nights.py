"""One night of a folder, or one file of a folder without nights: its facts for a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from sleeptools import formats, registry, store
from sleeptools.commands.inspect.files import (
    Problem,
    fitting_preset,
    hypnogram_facts,
    read_content,
    recording_facts,
)
from sleeptools.datasets import RecordingFiles
from sleeptools.datasets.simulation import true_stages
from sleeptools.errors import DataError, MissingInputError, SleeptoolsError
from sleeptools.preprocessing import presets
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import GENERATOR_SCORER, Hypnogram
from sleeptools.recording.recording import Recording, ignored_channels, read_recording

Facts = dict[str, Any]
Described = tuple[Facts, SleeptoolsError | None]
"""The facts of a night, and the error because of which it cannot be used."""


def describe_night(
    data_set: str, root: Path, source: RecordingFiles, preset: presets.Preset | None
) -> Described:
    """Read a night as its data set does, and describe it.

    What its signals are is said also where the scoring is refused.

    Parameters
    ----------
    data_set
        Name of the data set.
    root
        Folder of the data set.
    source
        The night's files.
    preset
        The preset to whose montage the signals are mapped; the data set's own, or the first one
        that fits, if left out.
    """
    module = registry.load("datasets", data_set)
    own = presets.load(data_set) if data_set in presets.names() else None
    facts = empty_facts(source.id) | {
        "subject": source.subject,
        "night": source.night,
        "files": [_relative(f, root) for f in source.files],
    }
    try:
        recording = true_stages.read_recording(module.read, root, source)
    except (DataError, MissingInputError) as e:
        if source.problem and not e.hint:
            e.hint = f"expected {module.PATTERN}"
        facts |= _signals_alone(source, preset or own)
        return unreadable(facts, e), e
    return _recording(facts, recording, recording.hypnogram, preset or own), None


def describe_recording(
    path: Path, preset: presets.Preset | None, ignore_channels: Sequence[str]
) -> Described:
    """Describe a recording that `convert` wrote."""
    facts = empty_facts(path.stem) | {"files": [path.name]}
    try:
        store.check_listed(path)
        recording = read_recording(path).without(ignore_channels)
    except (DataError, MissingInputError) as e:
        return unreadable(facts, e), e
    facts |= {"subject": recording.subject, "night": recording.night}
    return _recording(facts, recording, recording.hypnogram, preset), None


def describe_file(
    path: Path,
    root: Path,
    preset: presets.Preset | None,
    settings: formats.ReadSettings,
    ignore_channels: Sequence[str],
) -> Described:
    """Describe a file that belongs to no data set: signals, a scoring, or both."""
    name = _relative(path, root)
    facts = empty_facts(name) | {"files": [name]}
    try:
        content = read_content(path, settings, ignore_channels)
    except (DataError, MissingInputError) as e:
        return unreadable(facts, e), e
    doubts = [Problem.from_error(content.doubt)] if content.doubt else []
    if content.recording is None:
        assert content.hypnogram is not None
        return _with_problems(facts | _scoring_alone(content.hypnogram), doubts), None
    facts = _recording(facts, content.recording, content.hypnogram, preset, doubts)
    return facts | {"readable": content.refused is None}, content.refused


def empty_facts(name: str) -> Facts:
    """Return the facts of a night of which nothing is known yet."""
    return {
        "recording": name,
        "subject": "",
        "night": None,
        "files": [],
        "start": None,
        "seconds": 0.0,
        "spans": {"signals": "", "scoring": ""},
        "signals": [],
        "montage": {},
        "epochs": 0,
        "epoch_seconds": None,
        "stages": {},
        "scorers": [],
        "simulated": False,
        "notes": "",
        "ignored_channels": [],
        "problems": [],
        "readable": True,
    }


def unreadable(facts: Facts, error: SleeptoolsError) -> Facts:
    """Return the facts of a night that cannot be used, with the error because of which."""
    return _with_problems(facts, [Problem.from_error(error)]) | {"readable": False}


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _with_problems(facts: Facts, problems: Sequence[Problem]) -> Facts:
    return facts | {"problems": [*facts["problems"], *(asdict(p) for p in problems)]}


def _recording(
    facts: Facts,
    recording: Recording,
    hypnogram: Hypnogram | None,
    preset: presets.Preset | None,
    doubts: Sequence[Problem] = (),
) -> Facts:
    preset = preset or fitting_preset(recording)
    signal_facts, problems = recording_facts(recording, hypnogram, preset)
    scoring, signals = placing.spans(recording, None if recording.hypnogram else hypnogram)
    scorers = [h.scorer for h in recording.scorings if h.scorer != GENERATOR_SCORER]
    facts |= {name: signal_facts[name] for name in facts if name in signal_facts}
    facts |= {
        "spans": {"signals": signals, "scoring": scoring},
        "stages": hypnogram.counts() if hypnogram else {},
        "scorers": scorers or ([hypnogram.scorer] if hypnogram else []),
        "ignored_channels": ignored_channels(recording.facts),
    }
    return _with_problems(facts, [*doubts, *problems])


def _signals_alone(source: RecordingFiles, preset: presets.Preset | None) -> Facts:
    """Describe the signals of a night that cannot be read as a whole; nothing if they cannot be."""
    try:
        recording = formats.read(source.files[0], ignore_channels=source.ignore_channels)
    except (SleeptoolsError, OSError):
        return {}
    facts = _recording(empty_facts(source.id), recording, None, preset)
    kept = ("start", "seconds", "spans", "signals", "montage", "epochs", "simulated", "notes")
    return {name: facts[name] for name in (*kept, "ignored_channels")}


def _scoring_alone(hypnogram: Hypnogram) -> Facts:
    return hypnogram_facts(hypnogram) | {
        "spans": {"signals": "", "scoring": _scoring_span(hypnogram)},
        "scorers": [hypnogram.scorer],
    }


def _scoring_span(hypnogram: Hypnogram) -> str:
    """Write the times that a scoring covers by itself; s from its start without a clock time."""
    begin, end = hypnogram.annotated_span()
    ends = (begin - hypnogram.onset, end - hypnogram.onset)
    match hypnogram.begin:
        case datetime():
            first = hypnogram.begin
        case time():
            first = datetime.combine(datetime(2000, 1, 1), hypnogram.begin)
        case _:
            return f"{begin:.10g}-{end:.10g} s"
    return "-".join(f"{first + timedelta(seconds=t):%H:%M}" for t in ends)
