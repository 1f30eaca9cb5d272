"""Which files are scorings, of which night, and by whom: by their names and their content.

Names are compared without what programs add to them: what the file holds ("-Hypnogram", "_events",
"-PSG"), who scored ("_scorer1"), capitals, endings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.commands.agree.options import AgreeOptions
from sleeptools.commands.agree.reading import (
    RECORDING,
    WORKBOOK,
    ScoringFile,
    has_own_stages,
    scorers_in,
)
from sleeptools.commands.score.folder import is_scores_folder, read_scores
from sleeptools.commands.score.paths import file_kind
from sleeptools.datasets import isruc
from sleeptools.errors import DataError, SleeptoolsError, UsageError
from sleeptools.formats.parsing.text_files import composed
from sleeptools.store.listing import listing

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
    others
        A file of its folder that is not a scoring, or a damaged one, by what its name says.
    is_file
        Whether it was given as a single file.
    """

    name: str
    nights: Mapping[str, ScoringFile] = field(repr=False)
    twice: Mapping[str, Sequence[Path]] = field(default_factory=dict, repr=False)
    others: Mapping[str, Path] = field(default_factory=dict, repr=False)
    is_file: bool = False


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


def folded(title: str) -> str:
    """Write a night's name as it is compared: capitals and how an accent is stored do not count."""
    return composed(title).lower()


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
    check_names(names)
    return [replace(entry, name=name) for name, entry in zip(names, sets, strict=True)]


def check_names(names: Sequence[str]) -> None:
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
    others: dict[str, Path] = {}
    if is_scores_folder(folder):
        facts, hypnograms = read_scores(folder)
        simulated = {n for n, row in facts["recordings"].items() if row.get("simulated")}
        files = [
            (night_key(night)[0], "", ScoringFile(path, is_simulated=night in simulated))
            for night, path in hypnograms.items()
        ]
    else:
        kinds = dict(_files(folder))
        paths = [path for path, kind in kinds.items() if kind == "scoring"]
        scored = {folded(_title(path)[0]) for path in paths}
        paths += [
            path
            for path, kind in kinds.items()
            if kind == "recording"
            and folded(_title(path)[0]) not in scored
            and has_own_stages(path, name, options)
        ]
        others = {folded(_title(path)[0]): path for path in kinds if path not in paths}
        files = list(_scorings_among(sorted(paths), name, options))
        if not files:
            raise _no_scoring(folder, kinds)
    labels = list(dict.fromkeys(label for _, label, _ in files))
    return [
        _gathered(
            folder,
            label if len(labels) > 1 and label else name,
            [(title, file) for title, scorer, file in files if scorer == label],
            others,
        )
        for label in labels
    ]


def _no_scoring(folder: Path, kinds: Mapping[Path, str]) -> DataError:
    """Make the error of a folder without a scoring: what it holds instead."""
    signals = [path.name for path, kind in kinds.items() if kind == "recording"]
    others = [path.name for path, kind in kinds.items() if kind == "other"]
    held = [f"{len(signals)} recordings without stages ({listing(signals)})"] * bool(signals)
    held += [f"{len(others)} files that are no scorings ({listing(others)})"] * bool(others)
    return DataError(
        f"{folder}: holds no scoring",
        hint=f"it holds {' and '.join(held) or 'no file of a known format'}; "
        "docs/hypnogram-files.md lists the formats that are read",
        code="HYP-NONE",
    )


def _scorings_among(
    paths: Sequence[Path], name: str, options: AgreeOptions
) -> Iterator[tuple[str, str, ScoringFile]]:
    """Give night, scorer and file of every scoring of a folder."""
    for path in paths:
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


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the files of a folder and their kinds, as of `file_kind`: ISRUC's by name.

    Our recordings count as scorings, which they may hold.
    """
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(directory) / name
            skipped = name[0] == "." or name.lower() in LEFT_ALONE
            if skipped or name.lower().endswith(SKIPPED_ENDINGS):
                continue
            if path.suffix.lower() == WORKBOOK:
                yield path, "scoring" if isruc.scorer_of(path) else "other"
            elif path.suffix.lower() == RECORDING:
                yield path, "scoring"
            else:
                yield path, file_kind(path, is_named=False)


Titled = Sequence[tuple[str, ScoringFile]]


def _gathered(folder: Path, name: str, files: Titled, others: Mapping[str, Path]) -> ScoringSet:
    """Gather the files of a scoring; nights of one name in several folders are named by these."""
    named: list[tuple[str, ScoringFile]] = []
    for several in _by_title(files).values():
        parents = [file.path.relative_to(folder).parent for _, file in several]
        apart = len({*parents}) == len(several) > 1
        named += [
            ("-".join([*parent.parts, title]) if apart else title, file)
            for parent, (title, file) in zip(parents, several, strict=True)
        ]
    by_title = _by_title(named).values()
    nights = dict(several[0] for several in by_title if len(several) == 1)
    twice = {v[0][0]: [file.path for _, file in v] for v in by_title if len(v) > 1}
    return ScoringSet(name, nights, twice, others)


def _by_title(files: Titled) -> dict[str, list[tuple[str, ScoringFile]]]:
    """Gather the files whose names are of one night."""
    by_title: dict[str, list[tuple[str, ScoringFile]]] = {}
    for title, file in files:
        by_title.setdefault(folded(title), []).append((title, file))
    return by_title
