"""Parse XML files; entities are refused, because a few lines of them can expand to a terabyte."""

from __future__ import annotations

from pathlib import Path
from typing import Never
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.formats.parsing import text_files

LARGEST = 16 << 20  # bytes; a tree takes many times as much memory
MOST_ELEMENTS, DEEPEST = 300_000, 100  # of a tree; a scored night has a few thousand


def starts_with(head: bytes, root: str) -> bool:
    """Tell whether a file begins as XML and has the element `root` among its first bytes."""
    plain = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n")  # UTF-16 too
    return plain.startswith(b"<") and f"<{root}".encode() in plain


def parse(path: Path) -> Element:
    """Parse a file to its root element.

    Raises
    ------
    DataError
        If the file is not well-formed, declares an entity, or is too large.
    """
    size = store.need(path).stat().st_size
    if size > LARGEST:
        raise DataError(
            f"{path.name}: {size >> 20} MiB; a hypnogram has at most {LARGEST >> 20}",
            code="FILE-BUDGET",
        )

    def refuse(*_: object) -> Never:
        raise DataError(
            f"{path.name}: declares XML entities, which are not read", code="XML-ENTITY"
        )

    builder = TreeBuilder()
    counts = {"elements": 0, "depth": 0}

    def start(name: str, attributes: dict[str, str]) -> None:
        counts["elements"] += 1
        counts["depth"] += 1
        if counts["elements"] > MOST_ELEMENTS or counts["depth"] > DEEPEST:
            raise DataError(
                f"{path.name}: more than {MOST_ELEMENTS} elements, or {DEEPEST} in each other",
                code="FILE-BUDGET",
            )
        builder.start(name, attributes)

    def end(name: str) -> None:
        counts["depth"] -= 1
        builder.end(name)

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, LookupError, ValueError) as e:  # the second: an unknown encoding
        raise DataError(f"{path.name}: not well-formed XML: {e}", code="XML-SYNTAX") from e
    return builder.close()


def epoch_length(root: Element, source: str) -> float | None:
    """Read the element `EpochLength`, s; None if the file does not have it.

    Raises
    ------
    DataError
        If it is not a number.
    """
    text = text_of(root, "EpochLength")
    return text_files.parse_number(text, f"{source}: EpochLength") if text else None


def text_of(element: Element, name: str) -> str:
    """Return the text of a child element, stripped; "" if it is missing or empty."""
    return text_files.composed(element.findtext(name) or "").strip()
