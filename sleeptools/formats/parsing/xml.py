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
        raise DataError(f"{path.name}: {size >> 20} MiB; a hypnogram has at most {LARGEST >> 20}")

    def refuse(*_: object) -> Never:
        raise DataError(f"{path.name}: declares XML entities, which are not read")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, LookupError, ValueError) as e:  # the second: an unknown encoding
        raise DataError(f"{path.name}: not well-formed XML: {e}") from e
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
    return (element.findtext(name) or "").strip()
