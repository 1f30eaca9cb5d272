"""A draft of edf.toml from the files of a folder: names, channels, words, and what was guessed.

What is sure is a setting; what is a guess has a line that says what was seen; what only a person
can know is a comment with "?". The draft is the same for the same files.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sleeptools import formats, store
from sleeptools.commands.inspect.folders import files_to_inspect
from sleeptools.commands.inspect.patterns import (
    SignalsPattern,
    name_recordings,
    name_scorings,
    pair,
)
from sleeptools.commands.inspect.scorings import Survey
from sleeptools.datasets.shared.edf_settings import EdfSettings
from sleeptools.datasets.shared.subjects import TABLE, look_alike
from sleeptools.datasets.shared.unmatched import TEXTS, unmatched
from sleeptools.errors import AnnotationsOnlyError, DataError, SleeptoolsError
from sleeptools.formats import edf
from sleeptools.preprocessing import presets
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, check_ignored, ignored_channels
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, REASONS

SHOWN: Final = 3  # files in a comment
SETTING: Final = re.compile(r"`(\w+)=([^`]*)`")


def draft_settings(folder: Path, ignore_channels: Sequence[str] = ()) -> str:
    """Draft an edf.toml for a folder, as text.

    Parameters
    ----------
    folder
        Files of EDF, EDF+ or BDF, with scorings of any known format beside them.
    ignore_channels
        Labels of signals to leave out, which the draft then says.

    Returns
    -------
    text
        Valid settings of the data set `edf`, with comments on what was seen.

    Raises
    ------
    MissingInputError
        If there is no such folder, or it holds no file to inspect.
    DataError
        If it holds no EDF or BDF file with signals that can be read, or no pattern of names with a
        subject takes them.
    """
    contents = _Contents(store.need(folder, "folder"), ignore_channels)
    if not contents.recordings:
        raise DataError(
            f"{folder}: holds no EDF or BDF file with signals that can be read",
            hint="; ".join([*contents.refused.values()][:SHOWN]) or None,
            code="SET-EMPTY",
        )
    signals = name_recordings([*contents.recordings], contents.scorings)
    if signals is None:
        raise DataError(
            f"{folder}: no file with signals has a name that can tell a subject, such as "
            f"{next(iter(contents.recordings))}",
            hint="letters, digits, blanks, '.', '_' and '-' can stand for a subject: rename them",
            code="SET-DRAFT",
        )
    recordings = [contents.recordings[n] for n in signals.recordings.values()]
    check_ignored(ignore_channels, (n for r in recordings for n in ignored_channels(r.facts)))
    text = "\n".join([*_lines(contents, signals), ""])
    EdfSettings(**tomllib.loads(text))
    return text


class _Contents:
    """The files of a folder, told apart by what they hold; all paths from the folder on."""

    def __init__(self, folder: Path, ignore_channels: Sequence[str]) -> None:
        self.folder, self.ignore_channels = folder, ignore_channels
        self.recordings: dict[str, Recording] = {}
        self.scorings: list[str] = []
        self.others: list[str] = []
        self.refused: dict[str, str] = {}
        for path in files_to_inspect([folder]):
            self._add(path, path.relative_to(folder).as_posix())
        data = (*self.recordings, *self.scorings, *self.others, *self.refused)
        rest = unmatched(folder, (folder / name for name in data), TEXTS)
        self.unknown = [p.relative_to(folder).as_posix() for p in rest if p.suffix.lower() in TEXTS]

    def _add(self, path: Path, name: str) -> None:
        try:
            module = formats.find(path)
            if module is not edf:
                scored = hasattr(module, "read_hypnogram") and not hasattr(module, "read")
                (self.scorings if scored else self.others).append(name)
                return
            labels = edf.present_channels(path, self.ignore_channels)
            self.recordings[name] = edf.read(path, ignore_channels=labels)
        except AnnotationsOnlyError:
            self.scorings.append(name)
        except SleeptoolsError as e:
            self.refused[name] = f"{e} ({e.hint})" if e.hint else str(e)


def _lines(contents: _Contents, signals: SignalsPattern) -> Iterator[str]:
    yield (
        f"# edf.toml, drafted from the {_files(contents.recordings, 'with signals')} of "
        f"{_quoted(contents.folder.resolve().name)}."
    )
    yield "# Comments are what was seen; a ? in a comment stands for what only you can know."
    yield ""
    yield from _signal_lines(contents, signals)
    if contents.ignore_channels:
        yield f"ignore_channels = [{', '.join(map(_quoted, contents.ignore_channels))}]"
    scorings = [n for n in contents.scorings if n not in signals.recordings.values()]
    patterns = name_scorings(signals, scorings)
    own = _scored_themselves(contents, signals) if not patterns else []
    patterns = [signals.pattern] if own else patterns
    survey = Survey()
    nights: list[tuple[str, list[list[str]]]] = []
    pairs = [pair(p, signals, scorings) for p in patterns]
    for key, name in signals.recordings.items():
        scored = [[name]] if own else [p[key] for p in pairs]
        nights.append((name, scored))
        for files in scored:
            for file in files:
                path = contents.folder / file
                survey.look_at(path, file, contents.recordings[name])
    yield from _hypnogram_lines(contents, scorings, patterns, nights)
    yield from _reading_lines(survey)
    yield from _refused_lines(contents, survey)
    yield from _label_lines(survey)
    yield from _channel_lines([contents.recordings[n] for n in signals.recordings.values()])


def _signal_lines(contents: _Contents, signals: SignalsPattern) -> Iterator[str]:
    yield f"signals = {_quoted(signals.pattern)}"
    for (subject, night), name in list(signals.recordings.items())[:SHOWN]:
        told = f", night {night}" if night else ""
        yield f"# {_quoted(name)} is of subject {_quoted(subject)}{told}"
    nights = signals.nights
    yield (
        f"# in all {_files(signals.recordings, 'with signals')} of {len(nights)} "
        f"subject{'s' * (len(nights) != 1)}"
    )
    for names in look_alike([*nights]):
        yield (
            f"# {' and '.join(map(_quoted, names))} may be one subject: {TABLE} (columns "
            "file,subject,night) would say so"
        )
    taken = set(signals.recordings.values())
    yield from _not_taken([n for n in contents.recordings if n not in taken], "with signals")


def _hypnogram_lines(
    contents: _Contents,
    scorings: Sequence[str],
    patterns: Sequence[str],
    nights: Sequence[tuple[str, list[list[str]]]],
) -> Iterator[str]:
    yield ""
    if patterns:
        shown = [_quoted(p) for p in patterns]
        yield (
            f"hypnograms = {shown[0]}" if len(shown) == 1 else f"hypnograms = [{', '.join(shown)}]"
        )
        name, scored = next((n, s) for n, s in nights if all(s))
        yield f"# {_quoted(name)} is scored in {', '.join(_quoted(f) for fs in scored for f in fs)}"
    if len(patterns) > 1:
        yield f"# {len(patterns)} scorers: the first counts unless preprocess is told otherwise"
    if not patterns:
        yield '# hypnograms = "?"  # no scoring could be paired with the signals by its name'
    lacking = [name for name, scored in nights if patterns and not all(scored)]
    if lacking:
        yield f"# without a scoring, and so refused: {_some(lacking)}"
    taken = {f for _, scored in nights for files in scored for f in files}
    yield from _not_taken([n for n in scorings if n not in taken], "with a scoring")
    yield from _not_taken(contents.others, "of another format")
    if not patterns and contents.unknown:
        yield f"# texts of no known format (docs/hypnogram-files.md): {_some(contents.unknown)}"


def _scored_themselves(contents: _Contents, signals: SignalsPattern) -> list[str]:
    """List the files with signals whose annotations are stages, if all of them are so."""
    names = [*signals.recordings.values()]
    for name in names:
        survey = Survey()
        survey.look_at(contents.folder / name, name, contents.recordings[name])
        if survey.refused or not sum(n for s, n in survey.stages.items() if s not in REASONS):
            return []
    return names


def _not_taken(names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        yield f"# no pattern takes {_files(names, what)}: {_some(names)}"


def _reading_lines(survey: Survey) -> Iterator[str]:
    """Write what the scorings need to be read and placed."""
    if survey.lengths:
        (length, count), *further = survey.lengths.most_common()
        mark = "# " if further else ""
        yield ""
        yield (
            f"# guess: with it {_count(count, 'scoring')} of {survey.files} fit the length of "
            "their signals"
        )
        yield f"{mark}epoch_seconds = {length}"
        for other, n in further:
            yield f"# epoch_seconds = {other}  # {_count(n, 'scoring')}"
    if survey.from_onsets:
        yield ""
        yield "# guess: stages without a duration last to the next one, in"
        yield f"# {_some(survey.from_onsets)}"
        yield "epoch_from_onsets = true"
    if survey.scorers:
        yield ""
        yield f"# guess: tables name {len(survey.scorers)} scorers: {_some(survey.scorers, 20)}"
        yield f"scorer = {_quoted(survey.scorers[0])}"
    if survey.bad_annotations:
        yield ""
        yield f"# malformed annotations in {_some(survey.bad_annotations)}"
        yield "# ignore_bad_annotations = true  # ?"
    if survey.misplaced:
        yield ""
        for text in list(survey.misplaced.values())[:SHOWN]:
            yield f"# {_plain(text)}"
        yield '# align = "start"  # ? for all nights: passes over the times of day'


def _refused_lines(contents: _Contents, survey: Survey) -> Iterator[str]:
    refused = contents.refused | survey.refused
    if refused:
        yield ""
    for text in list(refused.values())[: 2 * SHOWN]:
        yield f"# cannot be read: {_plain(SETTING.sub(_setting, text))}"
    if len(refused) > 2 * SHOWN:
        yield f"# cannot be read: {len(refused) - 2 * SHOWN} more"


def _label_lines(survey: Survey) -> Iterator[str]:
    """Write what is known of the stages, and each label that needs a meaning."""
    if not survey.files:
        return
    yield ""
    known = ", ".join(f"{s} {n}" for s, n in survey.stages.items() if n)
    yield f"# epochs whose labels are known: {known or 'none'}"
    if survey.names != HUMAN_STAGES:
        yield f"stages = {_list(survey.names)}"
    elif survey.is_of_either:
        yield f"# Nothing tells people ({', '.join(HUMAN_STAGES)}) from mice; for mice:"
        yield f"# stages = {_list(MOUSE_STAGES)}  # ?"
    if not survey.words:
        return
    fitting = survey.schemes
    if len(fitting) == 1:
        yield f"# guess: the only scheme that knows {_some([*survey.words], 20)}"
        yield f"scheme = {_quoted(fitting[0])}"
    elif fitting:
        yield f"# numbers mean different stages in different programs: {', '.join(fitting)}"
        yield '# scheme = "?"  # or say below what each means'
    meanings = ", ".join(survey.names)
    if survey.is_of_either:
        meanings += f", or of mice {', '.join(MOUSE_STAGES)}"
    if len(fitting) != 1:
        yield ""
        yield "[labels]"
        yield f"# for each ? one of {meanings}; or {', '.join(REASONS[1:])};"
        yield "# then take away the # before it"
        for word, count in sorted(survey.words.items(), key=lambda item: (-item[1], item[0])):
            yield f'# {_quoted(word)} = "?"  # {_count(count, "epoch")}'


def _channel_lines(recordings: Sequence[Recording]) -> Iterator[str]:
    """Write a line for each signal: its name in montages, where it has one."""
    seen: defaultdict[str, list[Any]] = defaultdict(list)
    for recording in recordings:
        for label, signal in recording.signals.items():
            seen[label].append(signal)
    known = _montage_names()
    canonical = montage.canonical_names(seen)
    yield ""
    yield "[channels]"
    yield "# your name = the file's; a name that presets know, or any other"
    for label, signals in seen.items():
        name, signal = canonical[label], signals[0]
        rates = ", ".join(f"{r:g}" for r in sorted({s.sample_rate for s in signals}))
        unit = signal.unit or "no unit"
        facts = f"{rates} Hz, {unit}, in {len(signals)} of {len(recordings)} files"
        twice = [*canonical.values()].count(name) > 1
        if label in known and not twice:
            yield f"# {_quoted(label)} is a channel of montages: {facts}"
        elif name in known and not twice and name not in seen and len(signals) == len(recordings):
            yield f"{_quoted(name)} = {_quoted(label)}  # {facts}"
        else:
            guess = f"{signal.modality.upper()} ?" if signal.modality != "other" else "?"
            unit_text = (
                f' {{ label = {_quoted(label)}, unit = "?" }}'
                if not signal.unit and signal.modality in montage.VOLTAGE_MODALITIES
                else f" {_quoted(label)}"
            )
            yield f'# "{guess}" ={unit_text}  # {facts}'


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"


def _montage_names() -> set[str]:
    """Return the names that the channels of the package's presets are made of."""
    channels = [c for name in presets.names() for c in presets.load(name).montage]
    return {n for c in channels for n in (c.name, *c.candidates)}


def _quoted(text: str) -> str:
    """Write a text as a TOML string on one line."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Write a message as a comment: without control characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _setting(match: re.Match[str]) -> str:
    """Write a setting that a hint names as a line of edf.toml."""
    name, value = match.groups()
    return f"{name} = [{_quoted(value)}]" if name == "ignore_channels" else match[0]


def _some(names: Sequence[str], shown: int = SHOWN) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(_quoted, names[:shown])) + more


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _files(names: Sequence[str] | dict[Any, Any], what: str) -> str:
    return f"{_count(len(names), 'file')} {what}"
