"""Every command of the README, the pages and the help is one that the program takes."""

from __future__ import annotations

import pytest

from tests.helpers.page_commands import LINES, Line, commands, program


def fault(line: Line) -> str:
    """Say what the program does not know in a line; empty where it takes it."""
    app = program()
    name, *words = line.words or ("",)
    if name.startswith("-"):
        return (
            ""
            if name in {"--help", "--version", "-h", "--install-completion"}
            else f"unknown option {name}"
        )
    if name not in app.commands:
        return f"unknown command {name}"
    if {"--help", "-h"} & set(words):
        return ""
    words = [word for word in words if word != "..."]
    try:
        app.commands[name].make_context(name, words)
    except Exception as e:
        missing = type(e).__name__ == "MissingParameter" or "requires an argument" in str(e)
        return "" if missing and not line.whole else f"{type(e).__name__}: {e}"
    return ""


def test_lines_are_taken_out_of_shell() -> None:
    text = 'X=1 sleeptools score a.edf --out "s t" > log  # why\nsleeptools list && ls | head'
    assert [line.words for line in commands("", text, whole=True)] == [
        ("score", "a.edf", "--out", "s t"),
        ("list",),
    ]
    assert commands("", text, whole=True)[0].written_to == "log"
    assert len(LINES) > 100
    assert fault(Line("", ("trian",), True)) == "unknown command trian"
    assert "passs" in fault(Line("", ("train", "--passs", "3"), True))
    assert fault(Line("", ("score", "default"), True))
    assert not fault(Line("", ("score", "default"), False))


@pytest.mark.parametrize("source", sorted({line.source for line in LINES}))
def test_every_command_is_one_the_program_takes(source: str) -> None:
    faults = {
        " ".join(line.words): fault(line) for line in LINES if line.source == source and fault(line)
    }
    assert not faults
