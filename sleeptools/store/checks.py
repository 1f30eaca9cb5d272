"""What may stand in files of facts: a table of kinds, and how much a file may ask for.

JSON, TOML and the headers of arrays are checked before anything is built from them, so that a
wrong value is a message with file and key, and a small file cannot ask for much memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sleeptools.errors import DataError, SleeptoolsError

DEEPEST: Final = 64  # levels of lists and tables in each other
BYTES_PER_BYTE: Final = 12  # of memory that a file may ask for, by its length
BYTES_FREE: Final = 32 << 20  # of memory that every file may ask for
LONGEST_SHOWN: Final = 60  # letters of a wrong value in a message


def is_text(value: object) -> bool:
    """Tell whether a value is a text."""
    return isinstance(value, str)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number that fits an int64."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def _is_spans(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, list) and len(v) == 2 and all(map(is_number, v))  # noqa: PLR2004 - its ends
        for v in value
    )


KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "text": (is_text, "a text"),
    "texts": (_is_texts, "a list of texts"),
    "whole": (is_whole, "a whole number"),
    "number": (is_number, "a finite number"),
    "positive": (_is_positive, "a number above 0"),
    "spans": (_is_spans, "a list of pairs of finite numbers"),
    "spans by name": (
        lambda value: isinstance(value, dict) and _is_spans([*value.values()]),
        "a table of pairs of finite numbers",
    ),
    "table": (lambda value: isinstance(value, dict), "a table"),
    "tables": (
        lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value),
        "a list of tables",
    ),
    "hashes": (
        lambda value: isinstance(value, dict) and all(map(is_text, value.values())),
        "a table of texts",
    ),
}
"""Kinds of values: a test, and the words for a message. "text?" also allows null and no value."""


def check_facts(facts: Any, path: Path, kinds: Mapping[str, str], *, place: str = "") -> None:
    """Check the kinds of facts; keys that `kinds` does not name are not looked at.

    Parameters
    ----------
    facts
        What a file holds.
    kinds
        Name of a kind (`KINDS`) by key; with "?" at its end the value may be null or missing.
    place
        Where in the file the facts stand, for example "hypnogram".

    Raises
    ------
    DataError
        Naming file, key and value of the first wrong fact.
    """
    prefix = f"{place}." if place else ""
    if not isinstance(facts, Mapping):
        raise DataError(
            f"{path}: {place or 'the content'} is {shown(facts)}; expected a table",
            code="FACT-KIND",
        )
    for key, kind in kinds.items():
        value = facts.get(key)
        if value is None and kind.endswith("?"):
            continue
        if key not in facts:
            raise DataError(f"{path}: lacks {prefix}{key}", code="FACT-MISSING")
        fits, words = KINDS[kind.removesuffix("?")]
        if not fits(value):
            raise DataError(
                f"{path}: {prefix}{key} is {shown(value)}; expected {words}", code="FACT-KIND"
            )


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Turn the errors of building an object from a file's facts into a DataError with the file.

    Raises
    ------
    DataError
        If the facts do not fit together.
    """
    try:
        yield
    except SleeptoolsError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as e:
        reason = f"lacks {e}" if isinstance(e, KeyError) else str(e)
        raise DataError(f"{path}: its facts do not fit: {reason}", code="FACT-KIND") from e


def shown(value: object) -> str:
    """Write a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def check_depth(value: object, path: Path) -> None:
    """Refuse facts that lie deeper than `DEEPEST` levels in each other.

    Raises
    ------
    DataError
        If they do.
    """
    level = [value]
    for _ in range(DEEPEST):
        inner = [i for v in level if isinstance(v, dict | list) for i in _inside(v)]
        level = [v for v in inner if isinstance(v, dict | list)]
        if not level:
            return
    raise DataError(f"{path}: more than {DEEPEST} levels of lists and tables", code="FACT-DEEP")


def _inside(value: dict[str, object] | list[object]) -> list[object]:
    return [*value.values()] if isinstance(value, dict) else value


def check_budget(path: Path, needed: int, content: str) -> None:
    """Refuse to allocate what a file of this length cannot hold.

    Parameters
    ----------
    needed
        Bytes of memory that its content takes.
    content
        What takes them, for the message: "variable 'eeg'".

    Raises
    ------
    DataError
        If it is more than `BYTES_PER_BYTE` times the file and `BYTES_FREE`.
    """
    size = path.stat().st_size
    if needed > BYTES_PER_BYTE * size + BYTES_FREE:
        raise DataError(
            f"{path.name}: {content} would take {needed >> 20} MiB of memory, in a file of "
            f"{size} bytes; that much cannot be in it",
            code="FILE-BUDGET",
        )
