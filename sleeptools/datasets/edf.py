"""Your own data: a folder of EDF, EDF+ or BDF files with a hypnogram beside each recording.

A file `edf.toml` in the folder says what the files are called and what is in them (docs/edf.md).
Hypnograms may have any format that `formats.read_hypnogram` knows, epochs of 1 to 60 s and any list
of stages, of people or of animals.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from sleeptools import formats, store
from sleeptools.datasets import PlannedRecording, RecordingFiles, SimulatedChannel, check_plan
from sleeptools.datasets.shared.edf_settings import (
    SETTINGS,
    EdfSettings,
    Key,
    load_settings,
    match_names,
    renamed,
    settings_of,
)
from sleeptools.datasets.shared.subjects import TABLE
from sleeptools.errors import DataError, MissingInputError, UndecidedError, quoted
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording import placing, simulators, stages
from sleeptools.recording.hypnogram import Event, Hypnogram
from sleeptools.recording.recording import Recording

CITATION: Final = "Your own data: cite, and use under the licence of, where they come from."
HOW_TO_GET: Final = f"""\
These are your own files: EDF, EDF+ or BDF, a hypnogram beside each.
1. Put a small {SETTINGS} into their folder; docs/edf.md explains it, and how to have it drafted.
2. 'sleeptools simulate edf raw' writes a folder with one to look at."""
PATTERN: Final = f"the files that {SETTINGS} names"
TEMPLATE: Final = r'signals = "{subject}_{night}.edf"\nhypnograms = "{subject}_{night}.csv"\n'
SIGNAL_ENDINGS: Final = (".edf", ".bdf", ".rec")
SCORING_ENDINGS: Final = (".csv", ".tsv", ".txt", ".xml", ".annot", ".eannot", ".hyp", ".ids")
LONGEST_ID: Final = 64  # letters: it becomes a file name
FREE_NAMES: Final = True
# --- finding --------------------------------------------------------------------------------------


def find(root: Path, settings: Path | None = None) -> list[RecordingFiles]:
    """Find every recording that the settings name, sorted.

    Parameters
    ----------
    root
        Folder of files.
    settings
        File of settings, `root`/edf.toml if left out.

    Raises
    ------
    MissingInputError
        If there is no such folder, or no settings; the hint shows how to begin.
    DataError
        If the settings are invalid, or no file is named as they say.
    """
    path = settings or store.need(root, "folder") / SETTINGS
    if not path.is_file():
        raise MissingInputError(
            f"{path}: no such file; it says what the files of {root} are called",
            hint=f"begin with: printf '{_template(root)}' > {quoted(path)}; or see what "
            f"'sleeptools inspect {quoted(root)} `draft`' drafts from its files; all settings: "
            "docs/edf.md",
            code="SET-CONFIG",
        )
    patterns = load_settings(path)
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    names = [name for name in files if name != TABLE]
    hypnograms = [match_names(pattern, names, path) for pattern in patterns.hypnograms]
    scored = {
        name
        for pattern, groups in zip(patterns.hypnograms, hypnograms, strict=True)
        if pattern != patterns.signals  # else the hypnogram is in the file of the signals
        for files in groups.values()
        for name in files
    }
    signals = match_names(patterns.signals, (n for n in names if n not in scored), path)
    if not signals:
        raise DataError(
            f"{root}: no file is named {patterns.signals!r}",
            hint=f"signals in {path.name} names them; there are: {', '.join(names[:6])}",
            code="SET-EMPTY",
        )
    nights = Counter(subject for subject, _ in signals)
    return [
        _source(root, key, signals[key], hypnograms, path, nights[key[0]])
        for key in sorted(signals)
    ]


def _template(root: Path) -> str:
    """Write the shortest settings that name the files of a folder; `TEMPLATE` if it has none."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != TABLE)
    scorings = [p for p in files if p.suffix.lower() in SCORING_ENDINGS]
    signals = [p for p in files if p.suffix.lower() in SIGNAL_ENDINGS]
    if not signals:
        return TEMPLATE
    has_nights = all(re.fullmatch(r".+_\d{1,6}", path.stem) for path in signals)
    stem = "{subject}_{night}" if has_nights else "{subject}"
    folder = "" if all(path.parent == root for path in signals) else "**/"
    template = rf'signals = "{folder}{stem}{signals[0].suffix}"\n'
    pair = next((p for p in scorings if p.stem == signals[0].stem), None)
    return template + (rf'hypnograms = "{folder}{stem}{pair.suffix}"\n' if pair else "")


def endings(root: Path, settings: Path | None = None) -> set[str]:
    """Return the endings of the files that the settings name, in lower case."""
    patterns = load_settings(settings or root / SETTINGS)
    named = (patterns.signals, *patterns.hypnograms)
    return {end for p in named if (end := PurePosixPath(p).suffix.lower()) and "{" not in end}


def _source(
    root: Path,
    key: Key,
    signals: list[str],
    hypnograms: Sequence[dict[Key, list[str]]],
    path: Path,
    nights: int,
) -> RecordingFiles:
    subject, night = key
    id_ = _safe(f"{subject}-{night}" if night else subject)
    scored = [groups.get(key) or groups.get((subject, ""), []) for groups in hypnograms]
    problem = ""
    if len(signals) > 1:
        problem = f"{len(signals)} files are its signals: {', '.join(signals)}"
    elif any(len(files) != 1 for files in scored):
        number, files = next((i, f) for i, f in enumerate(scored, start=1) if len(f) != 1)
        problem = f"scorer {number} has {len(files)} hypnograms; expected one"
    elif nights > 1 and any(key not in groups for groups in hypnograms):
        number = next(i for i, groups in enumerate(hypnograms, start=1) if key not in groups)
        problem = (
            f"{scored[number - 1][0]} is the only hypnogram of scorer {number} for {nights} nights "
            f"of {subject}: its name must say which night it is of"
        )
    elif len(id_) > LONGEST_ID:
        problem = f"its name has more than {LONGEST_ID} letters"
    names = [signals[0], *(files[0] for files in scored if files)]
    problem = f"{id_}: {problem}" if problem else ""
    return RecordingFiles(
        id_, subject, int(night or 1), (*(root / n for n in names), path), problem
    )


def _safe(name: str) -> str:
    """Write a name with letters, digits, ".", "_" and "-" only: "Jürgen 2" is Jurgen_2."""
    plain = (c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    text = "".join("_" if c == " " else c for c in plain)
    return re.sub(r"[^A-Za-z0-9._-]", lambda m: f"u{ord(m[0]):x}", text)


# --- reading --------------------------------------------------------------------------------------


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnograms, cut to the length of the signals.

    Parameters
    ----------
    source
        The recording's files, from `find`.
    allow_truncated
        Read the complete data records of a file that is cut short.

    Raises
    ------
    DataError
        If a file is damaged, a channel is missing, a label is unknown, or a hypnogram covers less
        of the signals than the settings require.
    """
    if source.problem:
        raise DataError(source.problem, code="SET-PAIR")
    path, settings_path = source.files[0], source.files[-1]
    settings = load_settings(settings_path)
    ignored = dict.fromkeys(
        (*settings.ignore_channels, *edf.present_channels(path, source.ignore_channels))
    )
    stored = edf.read(path, allow_truncated=allow_truncated, ignore_channels=[*ignored])
    signals = renamed(stored, settings, path.name)
    scorings = [*read_scorings(source, stored).values()]
    recording = replace(
        stored,
        id=source.id,
        subject=source.subject,
        night=source.night,
        signals=signals,
        facts={**stored.facts, "data_set": "edf"},
    )
    return recording.scored(scorings)


def files_of(path: Path) -> RecordingFiles | None:
    """Find the files of the recording whose signals are in a file; None if no edf.toml names it.

    Raises
    ------
    DataError
        If the settings are invalid, or leave open which scoring is the recording's; one without
        a scoring has its signals alone.
    """
    settings = settings_of(path).path
    if settings is None:
        return None
    sources = (s for s in find(settings.parent) if s.files[0].resolve() == path.resolve())
    source = next(sources, None)
    if source and source.problem and len(source.files) > 2:  # noqa: PLR2004 - signals, settings
        raise DataError(source.problem, code="SET-PAIR")
    return source


def read_scorings(source: RecordingFiles, recording: Recording) -> dict[Path, Hypnogram]:
    """Read the scorings of a recording that is read already, by their files.

    Raises
    ------
    DataError
        As `read`, of the scorings.
    """
    path, *scored, settings_path = source.files
    settings = load_settings(settings_path)
    return {
        file: _scoring(file, recording, settings, number, is_own=file == path)
        for number, file in enumerate(scored, start=1)
    }


def _scoring(
    path: Path, recording: Recording, settings: EdfSettings, number: int, *, is_own: bool
) -> Hypnogram:
    """Read one scorer's hypnogram and place it in the recording."""
    try:
        hypnogram = formats.read_hypnogram(path, **settings.reading(path))
    except DataError as e:
        error = _with_lines(e, settings)
        if e.code == "HYP-EPOCH" and (length := _fitting_length(path, recording, settings)):
            error.hint = f"epoch_seconds = {length:g} in {SETTINGS}, which fits the signals"
        raise error from e
    placed = place_scoring(hypnogram, recording, settings, path.name, is_own=is_own)
    return replace(placed, scorer=placed.scorer or f"scorer {number}")


def place_scoring(
    hypnogram: Hypnogram, recording: Recording, settings: EdfSettings, source: str, *, is_own: bool
) -> Hypnogram:
    """Place a scoring in its recording by the clock, or at its start, as the settings say.

    Parameters
    ----------
    hypnogram
        The scoring as its file has it.
    recording
        The signals.
    source
        Name of the scoring's file, for messages.
    is_own
        Whether it stands in the file of the signals: then it lies where that says.

    Raises
    ------
    DataError
        As `placing.place`, and if it covers less of the signals than the settings require.
    """
    way = "start" if is_own else settings.align  # one file has one clock
    try:
        placed = placing.place(recording, hypnogram, way=way, source=source)
    except DataError as e:
        raise _with_lines(e, settings) from e
    inside = placed.clipped(recording.seconds)
    first, last = inside.annotated_span()
    covered = (last - first) / recording.seconds
    if covered < settings.least_overlap or last <= first:
        fitting = placing.fitting_lengths(recording, placed) if placed.timing != "times" else []
        raise DataError(
            f"{source}: covers {covered:.0%} of the signals, from {placed.onset:g} s on: "
            f"{placing.span_text(recording, placed)}"
            + (f"; {fitting[0]:g} s an epoch would fit" if fitting else ""),
            hint=_covering(placed, settings, fitting, covered),
            code="HYP-SPAN",
        )
    return placed


def _fitting_length(path: Path, recording: Recording, settings: EdfSettings) -> float | None:
    """Find the length of an epoch, s, with which a scoring ends as the signals do."""
    try:
        seconds = settings.model_copy(update={"epoch_seconds": 1.0})
        counted = formats.read_hypnogram(path, **seconds.reading(path))
    except DataError:
        return None
    return next(iter(placing.fitting_lengths(recording, counted)), None)


def _with_lines(error: DataError, settings: EdfSettings) -> DataError:
    """Write what an error's hint names as lines of edf.toml."""
    hint = error.hint and _as_setting(error.hint)
    if isinstance(error, UndecidedError) and error.code == "HYP-TEXT":
        hint = _label_lines(error.texts, settings)
    elif isinstance(error, UndecidedError) and error.code == "HYP-SCHEME" and settings.labels:
        hint = f"{hint}; or {_label_lines(error.texts, settings)}"
    return type(error)(str(error), hint=hint, code=error.code)


def _covering(
    hypnogram: Hypnogram, settings: EdfSettings, fitting: Sequence[float], covered: float
) -> str:
    """Write the line of edf.toml that lets a scoring cover enough of its signals."""
    if fitting:
        return f"epoch_seconds = {fitting[0]:g} in {SETTINGS}"
    enough = int(100 * covered) / 100
    cure = f"least_overlap = {enough:g} in {SETTINGS}, instead of {settings.least_overlap:g}, "
    cure += "if only a part is scored"
    if hypnogram.begin is None or settings.align == "start":
        return cure
    return f'align = "start" in {SETTINGS} passes over the times of day; {cure}'


def _label_lines(texts: Sequence[str], settings: EdfSettings) -> str:
    """Write the lines of edf.toml that give texts a meaning, which only a person can fill in."""
    lines = ", ".join(f'"{text}" = "..."' for text in dict.fromkeys(texts))
    meanings = ", ".join([*settings.names, *stages.REASONS[1:]])
    return f"below [labels] in {SETTINGS}: {lines}; for each ... one of {meanings}"


def _as_setting(hint: str) -> str:
    """Write the settings that a hint names as lines of edf.toml."""

    def line(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name == "start":
            return f'align = "start" in {SETTINGS}'
        if name not in EdfSettings.model_fields:
            return match[0]
        text = value or ("true" if name == "epoch_from_onsets" else "...")
        quoted = f'"{text}"' if name in ("scheme", "scorer") else text
        return f"{name} = {quoted} in {SETTINGS}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", line, hint)


# --- an example, simulated ------------------------------------------------------------------------

RATE: Final = 128.0
WORDS: Final = {
    "W": "awake",
    "N1": "light 1",
    "N2": "light 2",
    "N3": "deep",
    "REM": "dreaming",
    "unknown": "not scored",
    "movement": "moving",
}
CHANNELS: Final = (
    SimulatedChannel("Front", "EEG Fpz-Cz", RATE, -500.0, 500.0),
    SimulatedChannel("Back", "EEG Pz-Oz", RATE, -500.0, 500.0),
    SimulatedChannel("Eyes", "EOG horizontal", RATE, -1000.0, 1000.0),
    SimulatedChannel("Jaw", "EMG chin", RATE, -500.0, 500.0),
)
EXAMPLE: Final = {
    "signals": "{subject}/night{night}.edf",
    "hypnograms": ["{subject}/night{night}_a.edf", "{subject}/night{night}_b.edf"],
    "epoch_seconds": 30.0,
    "labels": {word: name for name, word in WORDS.items()},
    "channels": {
        "EEG Fpz-Cz": "Front",
        "EEG Pz-Oz": "Back",
        "EOG horizontal": "Eyes",
        "EMG submental": {"label": "Jaw", "modality": "emg"},
    },
}
PERSONS: Final = 600  # added to a number: persons of no other set
MAX_SUBJECTS, MAX_NIGHTS = 99, 9


def plan(subjects: int, nights: int, subset: str | None) -> list[PlannedRecording]:
    """Plan simulated nights, with the file names that a laboratory might use.

    Raises
    ------
    UsageError
        For more than 99 subjects or 9 nights, or a subset: there is none.
    """
    check_plan(subjects, MAX_SUBJECTS, nights, MAX_NIGHTS, subset)
    return [
        PlannedRecording(
            f"p{s:02d}-{n}", f"p{s:02d}", n, PERSONS + s, CHANNELS, _files(f"p{s:02d}", n), 2, 8
        )
        for s in range(1, subjects + 1)
        for n in range(1, nights + 1)
    ]


def _files(subject: str, night: int) -> tuple[str, ...]:
    stem = f"{subject}/night{night}"
    return (f"{stem}.edf", f"{stem}_a.edf", f"{stem}_b.edf", SETTINGS)


def write(recording: Recording, root: Path, events: Iterable[Event]) -> tuple[Path, ...]:
    """Write a recording, two hypnograms as EDF+ annotations, and the settings that read them.

    Parameters
    ----------
    recording
        A recording with the signals of `CHANNELS` and two hypnograms.
    root
        Folder to write.
    events
        Not used: the hypnograms are written with the labels of `WORDS`.
    """
    del events
    paths = tuple(root / name for name in _files(recording.subject, recording.night))
    note = simulators.note(recording.facts)
    heads = [
        SignalHeader(c.label, "", c.unit, c.low, c.high, -32768, 32767, "", int(RATE), 0)
        for c in CHANNELS
    ]
    edf.write(paths[0], recording, heads, record_seconds=1.0, note=note)
    for path, scoring in zip(paths[1:], recording.scorings, strict=False):
        edf.write_annotations(path, scoring.events(WORDS), recording.start, note=note)
    store.write_toml(paths[-1], EXAMPLE)
    return paths
