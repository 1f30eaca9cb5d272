"""Every error has a code, and every code is explained and raised."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleeptools import errors
from sleeptools.errors import SleeptoolsError, UsageError
from sleeptools.store.codes import code_meanings, explain_code

ROOT = Path(__file__).parents[2]
SOURCES = [p for folder in ("sleeptools", "cli") for p in sorted((ROOT / folder).rglob("*.py"))]
CODE = re.compile(r"[A-Z]+[0-9]*-[A-Z0-9]+")
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SleeptoolsError)
}
BUGS = {"cli/__init__.py"}
"""Files that may make an error without a code: that of a fault of ours, with exit code 1."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", node


def makes_error(call: ast.Call) -> bool:
    """Whether a call makes an error of ours: of a class without code, or by a variable class."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in CLASSES:
            return not CLASSES[name].code
        case ast.Name(id="kind") | ast.Call():
            return any(k.arg == "hint" for k in call.keywords)
    return False


def raised() -> set[str]:
    """Codes given to errors, set on classes, and in the table of causes."""
    constants = [
        k.value for _, call in calls() for k in call.keywords if k.arg == "code"
    ] + ast.parse((ROOT / "sleeptools/store/causes.py").read_text()).body
    texts = {
        node.value
        for root in constants
        for node in ast.walk(root)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {t for t in texts if CODE.fullmatch(t)} | {k.code for k in CLASSES.values() if k.code}


def test_every_error_has_a_code() -> None:
    without = [
        place
        for place, call in calls()
        if makes_error(call)
        and not any(k.arg == "code" for k in call.keywords)
        and place.split(":")[0] not in BUGS
    ]
    assert without == []


def test_every_code_is_explained_and_raised() -> None:
    assert raised() == set(code_meanings())


def test_explanations_are_sentences() -> None:
    for code, meaning in code_meanings().items():
        assert CODE.fullmatch(code)
        assert meaning.explanation.endswith("."), code
        assert meaning.cure.endswith("."), code
        assert explain_code(code.lower()).startswith(f"{code}: {meaning.title}")


def test_a_misspelt_code_is_corrected() -> None:
    with pytest.raises(UsageError) as caught:
        explain_code("FILE-BUGDET")
    assert caught.value.hint == "did you mean 'FILE-BUDGET'?"
