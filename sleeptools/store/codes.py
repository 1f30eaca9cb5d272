"""The stable codes of errors: what each means, and what to do about it.

A code names a fault for programs and for people who ask `inspect` to explain it; it stays the same
when the words of a message change.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sleeptools.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class CodeMeaning:
    """What a code means.

    Parameters
    ----------
    title
        The fault in a few words.
    explanation
        What was found, and why it is refused.
    cure
        What a person can do.
    """

    title: str
    explanation: str
    cure: str


@functools.cache
def code_meanings() -> Mapping[str, CodeMeaning]:
    """Read what each code means; every code in the source is there, which a test checks."""
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    return {code: CodeMeaning(**entry) for code, entry in tomllib.loads(text).items()}


def explain_code(code: str) -> str:
    """Explain a code in a few lines.

    Raises
    ------
    UsageError
        If there is no such code.
    """
    name = code.strip().strip("[]").upper()
    meanings = code_meanings()
    if name not in meanings:
        raise UsageError(
            f"no error code {code!r}",
            hint=did_you_mean(name, [*meanings]) or f"there are: {', '.join(meanings)}",
            code="USE-NAME",
        )
    meaning = meanings[name]
    return f"{name}: {meaning.title}\n{meaning.explanation}\nWhat to do: {meaning.cure}"
