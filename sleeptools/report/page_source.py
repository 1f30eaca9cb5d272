"""What a page, a text or a folder of tables is of: a mark in it, which says what may replace it.

The mark has a kind, a name for people and a digest; kind and digest decide. The digest of a folder
is that of its path as seen from where the page lies: a project moved as a whole stays the same.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleeptools.errors import OutputError

MARK: Final = "sleeptools_source"
IN_TEXT: Final = re.compile(rf'{MARK}(?:" content="|: )(\w+) ([^"\n]*) ([0-9a-f]{{12}})\b')
IN_MANIFEST: Final = re.compile(r"(\w+) (.*) ([0-9a-f]{12})")
LONGEST: Final = 80  # letters of a name in the mark


@dataclass(frozen=True)
class PageSource:
    """What a page is of.

    Parameters
    ----------
    kind
        "run", "runs", "scores", "item" (of a publication) or "recording".
    name
        Its name, for people: letters, digits, blanks and ``. , - +``.
    digest
        Twelve hexadecimal digits that tell it from others of its kind.
    """

    kind: str
    name: str
    digest: str

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"{self.kind} {self.name}"

    @property
    def mark(self) -> str:
        """The text that is written."""
        return f"{self.kind} {self.name} {self.digest}"

    def is_same(self, other: PageSource) -> bool:
        """Tell whether two pages are of the same thing; names alone do not decide."""
        return (self.kind, self.digest) == (other.kind, other.digest)

    def in_markup(self) -> str:
        """Write the mark for the head of a page."""
        return f'<meta name="{MARK}" content="{self.mark}">'

    def in_text(self) -> str:
        """Write the mark for a comment."""
        return f"{MARK}: {self.mark}"


def page_source(kind: str, names: Sequence[str], *keys: str) -> PageSource:
    """Say what a page is of; the `keys` tell it from others of its kind."""
    name = re.sub(r"[^\w. ,+-]", "_", ", ".join(names)).replace("--", "-_")[:LONGEST] or "_"
    digest = hashlib.sha256("\0".join([kind, *keys]).encode(errors="replace")).hexdigest()[:12]
    return PageSource(kind, name, digest)


def folder_source(kind: str, folders: Sequence[Path], out: Path) -> PageSource:
    """Say that what is written to `out` is of these folders."""
    paths = [folder.resolve() for folder in folders]
    keys = [os.path.relpath(path, out.resolve().parent) for path in paths]
    return page_source(kind, [path.name for path in paths], *keys)


def find_source(text: str) -> PageSource | None:
    """Find the mark at the beginning of a page or text; None where there is none."""
    match = IN_TEXT.search(text)
    return PageSource(match[1], match[2], match[3]) if match else None


def parse_source(mark: object) -> PageSource | None:
    """Read the mark of a manifest; None where there is none."""
    match = IN_MANIFEST.fullmatch(mark) if isinstance(mark, str) else None
    return PageSource(match[1], match[2], match[3]) if match else None


def refuse_other(path: Path, present: PageSource | None, source: PageSource, *, hint: str) -> None:
    """Refuse to replace what is of something else, or does not say what it is of.

    Raises
    ------
    OutputError
        If `present`, of what is there, is another than `source`.
    """
    if present is None or not present.is_same(source):
        what = (
            f"shows {present}" if present else "does not say what it shows (an earlier version's)"
        )
        there = "another " if present and str(present) == str(source) else ""
        raise OutputError(
            f"{path}: {what}; this would be {there}{source}", hint=hint, code="OUT-OURS"
        )
