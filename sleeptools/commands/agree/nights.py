"""Which files are scorings of one night: by their names, or by a table of pairs.

Names are compared without what programs add to them: what the file holds ("-Hypnogram", "_events",
"-PSG"), who scored ("_scorer1"), capitals, endings. Nothing is guessed: a night that not all
scorings have, or one of them twice, is said and left out.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.commands.agree.options import AgreeOptions
from sleeptools.commands.agree.reading import RECORDING, WORKBOOK, ScoringFile, scorers_in
from sleeptools.commands.score.folder import is_scores_folder, read_scores
from sleeptools.commands.score.paths import file_kind
from sleeptools.datasets import isruc
from sleeptools.errors import DataError, SleeptoolsError, UsageError

CONTENT: Final = re.compile(
    r"[-_. ]+(?:hypnograms?|hypno|hyp|psg|events?|scor(?:e|es|ed|ing)|staging|stages?|sleep|"
    r"annot(?:ation)?s?|labels?|predictions?|pred|consensus|eeg|ieeg|meg|nirs)$",
    re.IGNORECASE,
)
"""What a name says of the file's content."""
SCORER: Final = re.compile(
    r"[-_. ]+((?:scorer|rater|expert|annotator|reader|technician|tech|human)[-_ ]?\w{0,12})$",
    re.IGNORECASE,
)
SLEEP_EDF: Final = re.compile(r"(s[ct]4\d{3})[a-z][a-z0-9]", re.IGNORECASE)
"""SC4001E0 and SC4001EC are one night: the last letter is the scorer's."""
LEFT_ALONE: Final = frozenset({"sleep.csv", "sleep_bins.csv", "failures.csv", "participants.tsv"})
SKIPPED_ENDINGS: Final = (".json", ".html", ".md", ".pdf", ".png", ".svg", ".toml", ".parquet")
TAKEN: Final = frozenset({"night", "epoch", "onset", "time"})
"""Columns of differing.csv beside those of the scorings."""
SHOWN: Final = 8  # names in a message


@dataclass(frozen=True)
class ScoringSet:
    """A scoring of one or many nights.

    Parameters
    ----------
    name
        Name of the scoring.
    nights
        File of each night.
    twice
        Nights of which it has several files.
    is_file
        Whether it was given as a single file.
    """

    name: str
    nights: Mapping[str, ScoringFile] = field(repr=False)
    twice: Mapping[str, Sequence[Path]] = field(default_factory=dict, repr=False)
    is_file: bool = False


@dataclass(frozen=True)
class MatchedNights:
    """Nights that all scorings have.

    Parameters
    ----------
    scorings
        Names of the scorings.
    nights
        Files of each night, in the order of the scorings.
    problems
        Nights that cannot be compared, and why.
    notes
        Nights that only some have, for people.
    """

    scorings: tuple[str, ...]
    nights: Mapping[str, tuple[ScoringFile, ...]] = field(repr=False)
    problems: Mapping[str, DataError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def night_key(stem: str) -> tuple[str, str]:
    """Return what the name of a file says of the night, and who scored it, "" if it does not.

    >>> night_key("SC4001EC-Hypnogram"), night_key("P12_scorer2")
    (('SC4001', ''), ('P12', 'scorer2'))
    """
    scorer, before = "", ""
    while stem != before:
        before = stem
        if match := SCORER.search(stem):
            scorer = scorer or match[1]
            stem = stem[: match.start()] or stem
        elif match := CONTENT.search(stem):
            stem = stem[: match.start()] or stem
    if match := SLEEP_EDF.fullmatch(stem):
        stem = match[1]
    return stem, scorer


# --- what an argument means -----------------------------------------------------------------------


def find_scorings(paths: Sequence[Path], options: AgreeOptions) -> list[ScoringSet]:
    """Find the scorings that paths name: files, folders of nights, folders of scores.

    A file, or a folder, with the stages of several scorers is as many scorings.

    Raises
    ------
    MissingInputError
        If there is no such file or folder.
    DataError
        If a folder holds no scoring.
    """
    sets = []
    for path, name in zip(paths, _short_names(paths), strict=True):
        find = _of_folder if store.need(path).is_dir() else _of_file
        sets += find(path, name, options)
    names = [entry.name for entry in sets]
    if options.names:
        if len(options.names) != len(sets):
            raise UsageError(
                f"`names`: {len(options.names)} for {len(sets)} scorings ({', '.join(names)})"
            )
        names = list(options.names)
    _check_names(names)
    return [
        ScoringSet(name, entry.nights, entry.twice, entry.is_file)
        for name, entry in zip(names, sets, strict=True)
    ]


def _check_names(names: Sequence[str]) -> None:
    """Refuse names of scorings that are equal, or that a table has for another column."""
    twice = [name for name in names if names.count(name) > 1]
    if twice or {*names} & TAKEN:
        text = f"two scorings are named {twice[0]}" if twice else "a scoring cannot have that name"
        raise UsageError(f"{', '.join(names)}: {text}", hint="`names` gives each a name of its own")


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Name each by the last parts of its path that tell it from the others."""
    plain = [path.resolve() for path in paths]
    stems = [path.stem if path.is_file() else path.name for path in plain]
    texts = stems if len({*stems}) == len(stems) else [path.name for path in plain]
    for depth in range(2, 2 + max(len(path.parts) for path in plain)):
        if len({*texts}) == len(texts):
            return texts
        texts = ["/".join(path.parts[-depth:]) for path in plain]
    return [f"{stem} {number}" for number, stem in enumerate(stems, 1)]  # the same one twice


def _of_file(path: Path, name: str, options: AgreeOptions) -> list[ScoringSet]:
    title, _ = _title(path)
    scorers = [options.scorer] if options.scorer else scorers_in(path, name, options)
    several = len(scorers) > 1
    return [
        ScoringSet(
            scorer if several else name,
            {title: ScoringFile(path, scorer if several else "")},
            is_file=True,
        )
        for scorer in scorers
    ]


def _title(path: Path) -> tuple[str, str]:
    if named := isruc.scorer_of(path):
        return named[0], f"scorer {named[1]}"
    return night_key(path.stem)


def _of_folder(folder: Path, name: str, options: AgreeOptions) -> list[ScoringSet]:
    if is_scores_folder(folder):
        facts, hypnograms = read_scores(folder)
        simulated = {n for n, row in facts["recordings"].items() if row.get("simulated")}
        files = [
            (night_key(night)[0], "", ScoringFile(path, is_simulated=night in simulated))
            for night, path in hypnograms.items()
        ]
    else:
        files = list(_scorings_below(folder, name, options))
    if not files:
        raise DataError(f"{folder}: holds no scoring", code="HYP-NONE")
    labels = list(dict.fromkeys(label for _, label, _ in files))
    return [
        _gathered(
            folder,
            label if len(labels) > 1 and label else name,
            [(title, file) for title, scorer, file in files if scorer == label],
        )
        for label in labels
    ]


def _scorings_below(
    folder: Path, name: str, options: AgreeOptions
) -> Iterator[tuple[str, str, ScoringFile]]:
    """Give night, scorer and file of every scoring below a folder."""
    for path in _files(folder):
        named = isruc.scorer_of(path)
        if named and path.suffix.lower() == WORKBOOK and _text_beside(path):
            continue  # the same scoring once more
        title, label = _title(path)
        try:
            scorers = [""] if named else scorers_in(path, name, options)
        except SleeptoolsError as e:
            if e.code == "HYP-NONE" and path.suffix.lower() == RECORDING:
                continue
            scorers = [""]  # said when the night is read
        for scorer in scorers:
            if options.scorer and len(scorers) > 1 and scorer != options.scorer:
                continue
            yield title, scorer if len(scorers) > 1 else label, ScoringFile(path, scorer)


def _text_beside(path: Path) -> bool:
    return path.with_suffix(".txt").exists() or path.with_suffix(".TXT").exists()


def _files(folder: Path) -> Iterator[Path]:
    """Give the files of a folder that are scorings by their content, those of ISRUC by name."""
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(directory) / name
            skipped = name[0] == "." or name.lower() in LEFT_ALONE
            if skipped or name.lower().endswith(SKIPPED_ENDINGS):
                continue
            if path.suffix.lower() == WORKBOOK:
                if isruc.scorer_of(path):
                    yield path
            elif path.suffix.lower() == RECORDING or file_kind(path, is_named=False) == "scoring":
                yield path


def _gathered(folder: Path, name: str, files: Sequence[tuple[str, ScoringFile]]) -> ScoringSet:
    """Gather the files of a scoring; nights of one name in several folders are named by these."""
    by_title: dict[str, list[ScoringFile]] = {}
    for title, file in files:
        by_title.setdefault(title, []).append(file)
    nights: dict[str, ScoringFile] = {}
    twice: dict[str, list[Path]] = {}
    for title, several in by_title.items():
        parents = [file.path.relative_to(folder).parent for file in several]
        if len({*parents}) == len(several) > 1:
            nights |= {
                "-".join([*parent.parts, title]): file
                for parent, file in zip(parents, several, strict=True)
            }
        elif len(several) > 1:
            twice[title] = [file.path for file in several]
        else:
            nights[title] = several[0]
    return ScoringSet(name, nights, twice)


# --- which belong together ------------------------------------------------------------------------


def match_nights(sets: Sequence[ScoringSet]) -> MatchedNights:
    """Match the nights of scorings by name; single files are taken as they are given.

    Raises
    ------
    UsageError
        If there are fewer than two scorings.
    DataError
        If they have no night in common.
    """
    names = tuple(entry.name for entry in sets)
    if len(sets) < 2:  # noqa: PLR2004
        raise UsageError(
            f"{', '.join(names)}: is a single scoring", hint="give two or more to compare"
        )
    if all(entry.is_file for entry in sets):
        title = next(iter(sets[0].nights))
        return MatchedNights(names, {title: tuple(next(iter(s.nights.values())) for s in sets)})
    keyed = [{title.lower(): file for title, file in entry.nights.items()} for entry in sets]
    titles = {title.lower(): title for entry in reversed(sets) for title in entry.nights}
    twice = {
        title.lower(): (entry.name, paths) for entry in sets for title, paths in entry.twice.items()
    }
    shared = [key for key in keyed[0] if all(key in files for files in keyed)]
    problems = {
        key: DataError(
            f"{key}: {name} has {len(paths)} files of it: {_listing(p.name for p in paths)}",
            hint="keep one, give folders that hold one format each, or name the files in a table "
            "by `pairs`",
            code="HYP-NIGHTS",
        )
        for key, (name, paths) in twice.items()
    }
    if not shared and not problems:
        raise _no_match(sets)
    notes = [
        f"not compared, as {_listing(lacking)} lack{'s' * (len(lacking) == 1)} it: {_listing(keys)}"
        for lacking, keys in _lacking(names, keyed, {*twice}).items()
    ]
    nights = {titles[key]: tuple(files[key] for files in keyed) for key in shared}
    return MatchedNights(names, nights, problems, tuple(notes))


def _lacking(
    names: Sequence[str], keyed: Sequence[Mapping[str, ScoringFile]], twice: set[str]
) -> dict[tuple[str, ...], list[str]]:
    """List the nights that are not everywhere by the scorings that lack them."""
    by_lacking: dict[tuple[str, ...], list[str]] = {}
    for key in dict.fromkeys(key for files in keyed for key in files):
        lacking = tuple(n for n, files in zip(names, keyed, strict=True) if key not in files)
        if lacking and key not in twice:
            by_lacking.setdefault(lacking, []).append(key)
    return by_lacking


def _no_match(sets: Sequence[ScoringSet]) -> DataError:
    first, second, *_ = sets
    close = [
        f"{title} like {similar[0]}"
        for title in first.nights
        if (similar := difflib.get_close_matches(title, [*second.nights], 1))
    ]
    alike = f"; names that are similar: {_listing(close[:3])}" if close else ""
    listed = "; ".join(f"{entry.name} has {_listing(entry.nights)}" for entry in sets)
    return DataError(
        f"no night is in all scorings: {listed}{alike}",
        hint="name the files that belong together in a table by `pairs`: a column for each "
        "scoring, a row for each night",
        code="HYP-NIGHTS",
    )


def _listing(names: Iterable[str]) -> str:
    listed = list(names)
    rest_text = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + rest_text


def read_pairs(path: Path) -> MatchedNights:
    """Read a table of nights: a column for each scoring, its name above it, a file in each cell.

    A column `night` names the nights. Paths count from the table's folder.

    Raises
    ------
    DataError
        If a cell is empty, a row too long, or there are fewer than two scorings.
    """
    rows = list(csv.reader(io.StringIO(store.read_text(path))))
    rows = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    head = rows[0] if rows else []
    columns = [number for number, name in enumerate(head) if name.lower() != "night"]
    names = tuple(head[number] for number in columns)
    if len(columns) < 2 or len(rows) < 2 or len({*names}) < len(names) or "" in names:  # noqa: PLR2004
        raise DataError(
            f"{path}: expected a header with two or more names of scorings, and a row of files for "
            "each night",
            hint="for example the lines: night,human,model / n1,scored/n1.edf,scores/n1.csv",
            code="HYP-NIGHTS",
        )
    _check_names(names)
    nights: dict[str, tuple[ScoringFile, ...]] = {}
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(head) or not all(row[number] for number in columns):
            raise DataError(
                f"{path}: row {line} has not a file for each of {', '.join(names)}",
                code="HYP-NIGHTS",
            )
        files = tuple(ScoringFile(path.parent / row[number]) for number in columns)
        title = next((c for c, n in zip(row, head, strict=True) if n.lower() == "night"), "")
        title = title or night_key(files[0].path.stem)[0]
        if title in nights:
            raise DataError(f"{path}: two rows are of the night {title}", code="HYP-NIGHTS")
        nights[title] = files
    return MatchedNights(names, nights)
