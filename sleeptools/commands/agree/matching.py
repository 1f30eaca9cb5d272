"""Which nights of several scorings are the same: by their names, or by a table of pairs.

Nothing is guessed: a night that not all scorings have, or one of them twice or in a file that
cannot be read, is said and left out.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sleeptools import formats, store
from sleeptools.commands.agree.nights import ScoringSet, check_names, folded, night_key
from sleeptools.commands.agree.reading import ScoringFile
from sleeptools.errors import DataError, SleeptoolsError, UsageError
from sleeptools.store.listing import listing

SCORING_ENDINGS: Final = (
    *(".csv", ".tsv", ".txt", ".xml", ".edf", ".rec", ".annot", ".eannot", ".ids", ".hyp"),
    *(".stages", ".mat", ".xls", ".xlsx"),
)
"""Endings of files that are missed as scorings where they cannot be read."""
SEPARATORS: Final = ",;\t"  # of a table; spreadsheets of some countries write ";"


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
    problems: Mapping[str, SleeptoolsError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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
    keyed = [{folded(title): file for title, file in entry.nights.items()} for entry in sets]
    titles = {folded(title): title for entry in reversed(sets) for title in entry.nights}
    twice = {
        folded(title): (entry.name, paths) for entry in sets for title, paths in entry.twice.items()
    }
    shared = [key for key in keyed[0] if all(key in files for files in keyed)]
    problems: dict[str, SleeptoolsError] = {
        key: DataError(
            f"{key}: {name} has {len(paths)} files of it: {listing(p.name for p in paths)}",
            hint="keep one, give folders that hold one format each, or name the files in a table "
            "by `pairs`",
            code="HYP-NIGHTS",
        )
        for key, (name, paths) in twice.items()
    }
    problems = _unread(sets, keyed) | problems
    if not shared and not problems:
        raise _no_match(sets)
    notes = [
        f"not compared, as {listing(lacking)} lack{'s' * (len(lacking) == 1)} it: {listing(keys)}"
        for lacking, keys in _lacking(names, keyed, {*problems}).items()
    ]
    if unread := _read_by_none(sets, keyed):
        notes.append(f"not compared, as no scoring can be read there: {listing(unread)}")
    nights = {titles[key]: tuple(files[key] for files in keyed) for key in shared}
    return MatchedNights(names, nights, problems, tuple(notes))


def _lacking(
    names: Sequence[str], keyed: Sequence[Mapping[str, ScoringFile]], told: set[str]
) -> dict[tuple[str, ...], list[str]]:
    """List the nights that are not everywhere by the scorings that lack them."""
    by_lacking: dict[tuple[str, ...], list[str]] = {}
    for key in dict.fromkeys(key for files in keyed for key in files):
        lacking = tuple(n for n, files in zip(names, keyed, strict=True) if key not in files)
        if lacking and key not in told:
            by_lacking.setdefault(lacking, []).append(key)
    return by_lacking


def _unread(
    sets: Sequence[ScoringSet], keyed: Sequence[Mapping[str, ScoringFile]]
) -> dict[str, SleeptoolsError]:
    """Tell of each night that a scoring has in a damaged file alone why that cannot be read."""
    problems: dict[str, SleeptoolsError] = {}
    for entry, files in zip(sets, keyed, strict=True):
        for key in dict.fromkeys(key for some in keyed for key in some):
            path = entry.others.get(key)
            if path is not None and key not in files and (error := _why_unread(path)):
                problems.setdefault(key, error)
    return problems


def _read_by_none(
    sets: Sequence[ScoringSet], keyed: Sequence[Mapping[str, ScoringFile]]
) -> list[str]:
    """List the files that all have by one name and that can be read of none."""
    return [
        path.name
        for key, path in sets[0].others.items()
        if all(key in entry.others for entry in sets)
        and not any(key in files for files in keyed)
        and all(_why_unread(entry.others[key]) for entry in sets)
    ]


def _why_unread(path: Path) -> SleeptoolsError | None:
    """Say why a file with the ending of a scoring cannot be read; None if it need not be one."""
    if path.suffix.lower() not in SCORING_ENDINGS:
        return None
    try:
        formats.read_hypnogram(path)
    except SleeptoolsError as e:
        return None if e.code == "HYP-NONE" else e
    return None


def _no_match(sets: Sequence[ScoringSet]) -> DataError:
    first, second, *_ = sets
    close = [
        f"{title} like {similar[0]}"
        for title in first.nights
        if (similar := difflib.get_close_matches(title, [*second.nights], 1))
    ]
    alike = f"; names that are similar: {listing(close[:3])}" if close else ""
    listed = "; ".join(f"{entry.name} has {listing(entry.nights)}" for entry in sets)
    return DataError(
        f"no night is in all scorings: {listed}{alike}",
        hint="name the files that belong together in a table by `pairs`: a column for each "
        "scoring, a row for each night",
        code="HYP-NIGHTS",
    )


def read_pairs(path: Path) -> MatchedNights:
    """Read a table of nights: a column for each scoring, its name above it, a file in each cell.

    A column `night` names the nights. Paths count from the table's folder.

    Raises
    ------
    DataError
        If a cell is empty, a row too long, or there are fewer than two scorings.
    """
    rows = _rows(path)
    head = rows[0][1] if rows else []
    columns = [number for number, name in enumerate(head) if name.lower() != "night"]
    names = tuple(head[number] for number in columns)
    if len(columns) < 2 or len(rows) < 2 or len({*names}) < len(names) or "" in names:  # noqa: PLR2004
        raise DataError(
            f"{path}: expected a header with two or more names of scorings, and a row of files for "
            "each night",
            hint="for example the lines: night,human,model / n1,scored/n1.edf,scores/n1.csv",
            code="HYP-NIGHTS",
        )
    check_names(names)
    nights: dict[str, tuple[ScoringFile, ...]] = {}
    for line, row in rows[1:]:
        if len(row) != len(head) or not all(row[number] for number in columns):
            raise DataError(
                f"{path}: line {line} has not a file for each of {', '.join(names)}",
                code="HYP-NIGHTS",
            )
        files = tuple(ScoringFile(path.parent / row[number]) for number in columns)
        title = next((c for c, n in zip(row, head, strict=True) if n.lower() == "night"), "")
        title = title or night_key(files[0].path.stem)[0]
        if folded(title) in {folded(night) for night in nights}:
            raise DataError(f"{path}: two rows are of the night {title}", code="HYP-NIGHTS")
        nights[title] = files
    _check_files(path, nights)
    return MatchedNights(names, nights)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the rows of a table that are not empty, each with the number of its line."""
    text = store.read_text(path)
    first = next(iter(text.splitlines()), "")
    reader = csv.reader(io.StringIO(text), delimiter=max(SEPARATORS, key=first.count))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as e:
        raise DataError(
            f"{path}: line {reader.line_num}: {e}; expected a table of text", code="HYP-NIGHTS"
        ) from e
    return [(line, cells) for line, cells in rows if any(cells)]


def _check_files(path: Path, nights: Mapping[str, Sequence[ScoringFile]]) -> None:
    """Refuse a table in which a scoring has one file for two nights: it would count twice."""
    for column in zip(*nights.values(), strict=True):
        of_file: dict[Path, str] = {}
        for title, file in zip(nights, column, strict=True):
            first = of_file.setdefault(file.path.resolve(), title)
            if first != title:
                raise DataError(
                    f"{path}: {file.path.name} is of {first} and of {title}", code="HYP-NIGHTS"
                )
