"""Patterns of file names with {subject} and {night}, as edf.toml has them, from the names of files.

Names are taken apart at blanks, "_", "-" and "."; a night is a number beside a word for it (N1,
night 2, ses-1), or a number alone where some subject then has several nights. Every pattern is
tried on all names with the matcher of the data set `edf`; what it does not take is left over.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sleeptools.datasets.shared.edf_settings import SETTINGS, Key, match_names
from sleeptools.formats.parsing import text_files

TOKEN: Final = re.compile(r"[ _.-]+|[^ _.-]+")
NIGHT_WORDS: Final = (
    r"n|nt|night|nacht|nuit|noche|notte|ses|sess|session|visit|v|day|d|tag|psg|rec|recording|run"
)
NIGHT: Final = re.compile(
    rf"(?<![^\W_])(?P<word>(?:{NIGHT_WORDS})[ _.-]?)?(?P<night>\d{{1,6}})(?![^\W_])", re.IGNORECASE
)
ATTACHED: Final = re.compile(r"(?<=\d)(?P<word>n|d|s|night)(?P<night>\d{1,2})(?![^\W_])", re.I)
"""A night attached to the number of a subject, as in "S01N2"."""
MOST_TOKENS: Final = 10  # of a name that are looked at
SAMPLED: Final = 4  # names from which patterns are made, when none takes all


@dataclass(frozen=True)
class SignalsPattern:
    """A pattern of the files with signals.

    Parameters
    ----------
    pattern
        The pattern.
    recordings
        Name of the file by subject and night.
    has_night_word
        Whether a word beside its number says that it is a night.
    """

    pattern: str
    recordings: dict[Key, str]
    has_night_word: bool

    @property
    def nights(self) -> Counter[str]:
        """Number of nights by subject."""
        return Counter(subject for subject, _ in self.recordings)


def name_recordings(signals: Sequence[str], scorings: Sequence[str]) -> SignalsPattern | None:
    """Find the pattern that names the recordings, and best pairs them with their scorings.

    Parameters
    ----------
    signals, scorings
        Paths of the files from their folder on.

    Returns
    -------
    pattern
        The one that takes the most files, then pairs the most of them with scorings, then tells a
        night, then leaves the least to the subject; None if no pattern takes a file.
    """
    candidates: dict[str, SignalsPattern] = {}
    for name in _sample(signals):
        for pattern, word in _signals_patterns(name):
            if pattern not in candidates and (match := _recordings(pattern, signals)):
                candidates[pattern] = SignalsPattern(pattern, match, word)
    plausible = [c for c in candidates.values() if _is_plausible(c)]
    most = max((len(c.recordings) for c in plausible), default=0)
    best = [c for c in plausible if len(c.recordings) == most]
    return max(best, key=lambda c: _rank(c, scorings), default=None)


def name_scorings(signals: SignalsPattern, scorings: Sequence[str]) -> list[str]:
    """Find a pattern for each scorer: one scoring for every recording that has one.

    Returns
    -------
    patterns
        Those that give a scoring to the most recordings, in the order of their first files.
    """
    patterns: dict[tuple[str, ...], str] = {}
    tried: set[str] = set()
    for key, name in itertools.islice(signals.recordings.items(), 0, None, _step(signals)):
        for scoring in scorings:
            for pattern in _scoring_patterns(signals, key, name, scoring):
                if pattern in tried:
                    continue
                tried.add(pattern)
                files = _scored(pattern, signals, scorings)
                before = patterns.get(files)
                if files and (before is None or _order(pattern) > _order(before)):
                    patterns[files] = pattern
    most = max(map(len, patterns), default=0)
    chosen: list[str] = []
    taken: set[str] = set()
    for files in sorted(f for f in patterns if len(f) == most):
        if not taken & set(files):
            chosen.append(patterns[files])
            taken |= set(files)
    return chosen


def pair(pattern: str, signals: SignalsPattern, scorings: Iterable[str]) -> dict[Key, list[str]]:
    """Return the files that a pattern names as the scoring of each recording.

    A scoring without a night belongs to nobody where the subject has several.
    """
    groups, nights = match_names(pattern, scorings, Path(SETTINGS)), signals.nights
    return {
        key: groups.get(key) or (groups.get((key[0], ""), []) if nights[key[0]] == 1 else [])
        for key in signals.recordings
    }


def _step(signals: SignalsPattern) -> int:
    return max(1, len(signals.recordings) // SAMPLED)


def _sample(names: Sequence[str]) -> list[str]:
    """Take some names, the first and the last among them."""
    step = max(1, (len(names) - 1) // (SAMPLED - 1))
    return list(dict.fromkeys([*names[::step], *names[-1:]]))


def _signals_patterns(name: str) -> Iterator[tuple[str, bool]]:
    """Yield patterns that could name a file, and whether a word tells the night."""
    plain = text_files.composed(name)
    end = PurePosixPath(plain).suffix
    body = plain[: len(plain) - len(end)]
    if set(body) & set("{}*"):
        return
    for subject in _subjects(body):
        text = _replaced(body, subject, "{subject}")
        if text is None:
            continue
        for form in (text, *_with_prefix(text)):
            yield form + end.lower(), False
            for pattern, word in _with_night(form):
                yield pattern + end.lower(), word


def _subjects(body: str) -> list[str]:
    """List the texts of a path that could be the subject: folders, and rows of parts of a name."""
    *folders, stem = body.split("/")
    subjects = dict.fromkeys([stem, *folders])
    for text in (stem, *folders):
        tokens = TOKEN.findall(text)[:MOST_TOKENS]
        for first, last in itertools.combinations(range(len(tokens) + 1), 2):
            subjects["".join(tokens[first:last]).strip(" _.-")] = None
        for match in ATTACHED.finditer(text):
            head = text[: match.start()]
            subjects[re.split(r"[ _.-]", head)[-1]] = None
    return [s for s in subjects if s]


def _with_prefix(text: str) -> list[str]:
    """Let a pattern stand in folders of any depth, if its last part names the subject."""
    stem = text.rsplit("/", 1)[-1]
    return [f"**/{stem}"] if "/" in text and "{subject}" in stem else []


def _replaced(body: str, subject: str, placeholder: str) -> str | None:
    """Replace a text wherever it stands by itself; None where it does not."""
    expression = rf"(?<![^\W_]){re.escape(subject)}(?![^\W_])"
    text, count = re.subn(expression, placeholder, body)
    if not count and (match := re.search(rf"(?<![^\W_]){re.escape(subject)}(?=[nNdDsS]\d)", body)):
        text, count = body[: match.start()] + placeholder + body[match.end() :], 1
    return text if count else None


def _with_night(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the pattern with each of its numbers as {night}, everywhere that it stands so."""
    runs = [*NIGHT.finditer(text)]
    runs += re.finditer(r"(?<=\})(?P<word>n|d|s|night)(?P<night>\d{1,2})(?![^\W_])", text, re.I)
    for run in runs:
        word, number = run["word"] or "", run["night"]
        expression = rf"(?<![^\W_]){re.escape(word)}{number}(?![^\W_])"
        pattern = f"{text[: run.start()]}{word}{{night}}{text[run.end() :]}"
        yield re.sub(expression, f"{word}{{night}}", pattern), bool(word)


def _recordings(pattern: str, signals: Sequence[str]) -> dict[Key, str]:
    """Return the files that a pattern takes, by subject and night; none if two are one night."""
    groups = match_names(pattern, signals, Path(SETTINGS))
    if any(len(files) > 1 for files in groups.values()):
        return {}
    return {key: files[0] for key, files in groups.items()}


def _is_plausible(candidate: SignalsPattern) -> bool:
    """Tell whether a number without a word can be a night: some of several subjects have two."""
    if "{night}" not in candidate.pattern or candidate.has_night_word:
        return True
    return len(candidate.nights) > 1 and max(candidate.nights.values()) > 1


def _rank(candidate: SignalsPattern, scorings: Sequence[str]) -> tuple[object, ...]:
    patterns = name_scorings(candidate, scorings)
    pairs = [pair(p, candidate, scorings) for p in patterns]
    paired = sum(all(len(p[key]) == 1 for p in pairs) for key in candidate.recordings if pairs)
    subjects = [*candidate.nights]
    return (
        paired,
        len(patterns),
        "{night}" in candidate.pattern,
        all(any(c.isalpha() for c in s) for s in subjects),
        not any(NIGHT.search(s) and NIGHT.search(s)["word"] for s in subjects),  # type: ignore[index]
        "**" not in candidate.pattern,
        _order(candidate.pattern),
    )


def _order(pattern: str) -> tuple[int, int, str]:
    """Order patterns by their placeholders, then by the letters that are written in them."""
    return pattern.count("{"), len(re.sub(r"\{\w+\}", "", pattern)), pattern


def _scoring_patterns(signals: SignalsPattern, key: Key, name: str, scoring: str) -> Iterator[str]:
    """Yield patterns that could name a file as the scoring of a recording."""
    subject, night = key
    plain = text_files.composed(scoring)
    end = PurePosixPath(plain).suffix
    body = plain[: len(plain) - len(end)]
    if set(body) & set("{}*"):
        return
    stem = text_files.composed(str(PurePosixPath(name).with_suffix("")))
    if body.startswith(stem):
        head = signals.pattern[: len(signals.pattern) - len(PurePosixPath(name).suffix)]
        yield head + body[len(stem) :] + end.lower()
    text = _replaced(body, subject, "{subject}")
    if text is None:
        return
    for form in (text, *_with_prefix(text)):
        yield form + end.lower()
        if night:
            for pattern, _ in _with_night(form):
                if f"{night}" in form:
                    yield pattern + end.lower()


def _scored(pattern: str, signals: SignalsPattern, scorings: Sequence[str]) -> tuple[str, ...]:
    """Return the scorings that a pattern gives to the recordings; none if one gets two."""
    pairs = pair(pattern, signals, scorings).values()
    if any(len(files) > 1 for files in pairs):
        return ()
    return tuple(itertools.chain.from_iterable(pairs))
