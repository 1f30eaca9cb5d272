"""Who is who in a folder of files: subjects by the files' names, or by a table subjects.csv.

Two recordings of one subject on both sides of a split would make a model look better than it is, so
names are read with a bias: what may be a day, a session or a condition of a subject is one.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleeptools import store
from sleeptools.errors import DataError

if TYPE_CHECKING:
    from sleeptools.datasets import RecordingFiles

TABLE: Final = "subjects.csv"
COLUMNS: Final = ("file", "subject", "night")
LONGEST: Final = 64  # letters of a subject's name
PART: Final = re.compile(r"([_ .-]*)([^_ .-]+)")
SESSION: Final = re.compile(
    r"(?:baseline|base|bsl|bl|sd|sleepdep\w*|deprivation|recovery|recov|rec|lights?|dark|day|night"
    r"|pre|post|on|off|before|after|session|sess|ses|trial|run|week|wk|zt|ct|hour|hr|part|block"
    r"|d)\d*",
    re.IGNORECASE,
)
"""Parts of a name that say when or how a subject was recorded, not who it is."""
CONSTRUCT: Final = re.compile(
    r"chr2|chr\d\w*|archt?\d*|gcamp\w*|r?camp\d\w*|grab\w*|[dn]light\d\w*|c57\w*|bl6\w*|stgtacr\d",
    re.IGNORECASE,
)
"""Parts with a digit that name an opsin, an indicator or a strain: many animals have it."""
DATE: Final = re.compile(r"\d{6,}")
ATTACHED: Final = re.compile(
    r"(?<=\d)(?:(?:baseline|bsl|sd|rec\w*|light|dark|day|night|ses\w*|trial|run)\d*|[dns]\d+)$",
    re.IGNORECASE,
)
"""What may follow a subject's number without a sign between them, as in "m1day2"."""


def subject_of(stem: str) -> str:
    """Return the subject that a file's stem names: the parts up to the first with a number.

    `chr2_590_freq` and `chr2_590_base` are recordings of `chr2_590`; `m1_day1`, `m1-sd` and `m1d2`
    are of `m1`. Parts that name a day, a session or a condition count for nothing. Where the rule
    errs, it joins two subjects rather than place one on both sides of a split.
    """
    kept = ""
    for sign, part in _who(stem):
        kept += (sign if kept else "") + ATTACHED.sub("", part)
        if re.search(r"\d", part) and not (DATE.fullmatch(part) or CONSTRUCT.fullmatch(part)):
            break
    return kept or stem


def _who(stem: str) -> list[tuple[str, str]]:
    """Parts of a stem, each with the sign before it, without those that tell when or how."""
    parts = PART.findall(re.sub(r"((?:19|20)\d\d)([_.-])(\d\d)\2(\d\d)(?!\d)", r"\1\3\4", stem))
    return [(sign, part) for sign, part in parts if not SESSION.fullmatch(part)]


def same_subject(stem: str) -> str:
    """Return a key that is equal for all names of one subject: without case, signs and dates."""
    if not _who(stem):
        return ""
    subject = subject_of(stem)
    parts = [p for _, p in PART.findall(subject) if not DATE.fullmatch(p)]
    return re.sub(r"(?<!\d)0+(?=\d)", "", "_".join(parts or [subject])).casefold()


def look_alike(names: Sequence[str]) -> list[list[str]]:
    """Find subjects' names that differ in a day, a session or a condition only."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[same_subject(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


# --- subjects.csv ---------------------------------------------------------------------------------


def assigned(root: Path, sources: list[RecordingFiles]) -> list[RecordingFiles]:
    """Return the recordings with the subjects and nights that `root`/subjects.csv gives, if any.

    The table has the columns file, subject and, if wanted, night. A file is the path of a
    recording's signals below `root`, their name with or without its ending, or a recording's id.

    Raises
    ------
    DataError
        If the table is malformed, names what is not there, or leaves a recording out.
    """
    path = root / TABLE
    if not path.is_file():
        return sources
    rows = _rows(path)
    found = [_row_of(source, root, rows) for source in sources]
    if unknown := [name for name in rows if name not in found]:
        raise DataError(
            f"{path}: no recording is named {unknown[0]!r}",
            hint=f"there are: {store.listing(_named(s, root) for s in sources)}",
            code="SUBJECTS-FILE",
        )
    missing = [_named(s, root) for s, name in zip(sources, found, strict=True) if name is None]
    if missing:
        raise DataError(
            f"{path}: does not say whose {len(missing)} recordings are: {store.listing(missing)}",
            code="SUBJECTS-MISSING",
        )
    pairs = [rows[name] for name in found if name is not None]
    return _with_nights(path, sources, pairs)


def _named(source: RecordingFiles, root: Path) -> str:
    """Name a recording as the table may: by the path of its signals."""
    return source.files[0].relative_to(root).as_posix()


def _row_of(source: RecordingFiles, root: Path, rows: dict[str, tuple[str, int]]) -> str | None:
    signals = source.files[0]
    names = (signals.relative_to(root).as_posix(), signals.name, signals.stem, source.id)
    return next((name for name in names if name in rows), None)


def _rows(path: Path) -> dict[str, tuple[str, int]]:
    """Read subject and night (0 where it is left out) by file."""
    lines = store.read_text(path).splitlines()
    separator = next((c for c in ",;\t" if lines and c in lines[0]), ",")
    heads = [h.strip().lower() for h in next(csv.reader(lines[:1], delimiter=separator), [])]
    if not {"file", "subject"} <= set(heads) <= set(COLUMNS):
        raise DataError(
            f"{path}: its columns are {', '.join(heads) or 'none'}; expected {', '.join(COLUMNS)}",
            code="SUBJECTS-COLUMNS",
        )
    rows: dict[str, tuple[str, int]] = {}
    for number, cells in enumerate(csv.reader(lines[1:], delimiter=separator), start=2):
        if not any(c.strip() for c in cells):
            continue
        row = dict(zip(heads, (c.strip() for c in cells), strict=False))
        file, subject, night = (row.get(name, "") for name in COLUMNS)
        whole = len(cells) == len(heads) and file and subject and subject.isprintable()
        if not whole or len(subject) > LONGEST or not re.fullmatch(r"(?!0+$)\d{1,6}|", night):
            raise DataError(
                f"{path}: line {number} is {separator.join(cells)[:80]!r}; expected a file, a "
                "subject and the number of a night, or none",
                code="SUBJECTS-ROW",
            )
        if file in rows:
            raise DataError(f"{path}: line {number} names {file} again", code="SUBJECTS-ROW")
        rows[file] = (subject, int(night or 0))
    return rows


def _with_nights(
    path: Path, sources: list[RecordingFiles], pairs: Sequence[tuple[str, int]]
) -> list[RecordingFiles]:
    given = Counter(pair for pair in pairs if pair[1])
    if twice := [pair for pair, count in given.items() if count > 1]:
        raise DataError(
            f"{path}: two recordings are night {twice[0][1]} of subject {twice[0][0]}",
            code="SUBJECTS-ROW",
        )
    last: Counter[str] = Counter()
    for subject, night in pairs:
        last[subject] = max(last[subject], night)
    who = []
    for source, (subject, night) in zip(sources, pairs, strict=True):
        last[subject] += not night
        number = night or last[subject]
        who.append(replace(source, subject=subject, night=number, subjects=path))
    return who
