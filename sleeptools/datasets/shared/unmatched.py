"""Files of a folder that end like a signal or a scoring and that no recording has taken."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sleeptools import formats
from sleeptools.datasets.shared.subjects import TABLE
from sleeptools.errors import SleeptoolsError

ENDINGS: Final = (".edf", ".bdf", ".rec", ".annot", ".eannot", ".ids", ".hyp")
"""Endings that mean signals or a scoring whatever the file holds."""
TEXTS: Final = (".txt", ".csv", ".tsv", ".xml", ".sta", ".mat")
"""Endings of many things: such a file is a scoring if its content is."""


def unmatched(root: Path, taken: Iterable[Path], endings: Iterable[str]) -> list[Path]:
    """List the files below `root` that are named or begin like data, and that nothing has taken.

    Parameters
    ----------
    taken
        The files of all recordings.
    endings
        Further endings that mean data in this data set, in lower case.
    """
    known, wanted = set(taken), (*ENDINGS, *endings)
    others = (p for p in sorted(root.rglob("*")) if p not in known and p.name != TABLE)
    return [
        p
        for p in others
        if not any(part.startswith(".") for part in p.relative_to(root).parts)
        and p.is_file()
        and (p.name.lower().endswith(wanted) or _holds_data(p))
    ]


def _holds_data(path: Path) -> bool:
    if path.suffix.lower() not in TEXTS:
        return False
    try:
        formats.find(path)
    except SleeptoolsError:
        return False
    return True
