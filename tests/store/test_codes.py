"""Every code of an error is explained, and every explanation is of a code that is raised."""

import re
from pathlib import Path

import pytest

from sleeptools.errors import UsageError
from sleeptools.store.codes import code_meanings, explain_code

PACKAGE = Path(__file__).parents[2] / "sleeptools"
CODE = re.compile(r'(?:code=|Error,\s+)"([A-Z0-9]+-[A-Z0-9]+)"')


def raised() -> set[str]:
    texts = [p.read_text() for p in PACKAGE.rglob("*.py") if p.name != "codes.py"]
    return {code for text in texts for code in CODE.findall(text)}


def test_every_code_is_explained() -> None:
    assert raised() == set(code_meanings())


def test_explanations_are_sentences() -> None:
    for code, meaning in code_meanings().items():
        assert meaning.explanation.endswith("."), code
        assert meaning.cure.endswith("."), code
        assert explain_code(code.lower()).startswith(f"{code}: {meaning.title}")


def test_a_misspelt_code_is_corrected() -> None:
    with pytest.raises(UsageError) as caught:
        explain_code("FILE-BUGDET")
    assert caught.value.hint == "did you mean 'FILE-BUDGET'?"
