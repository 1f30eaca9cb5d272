"""Every command of the README, the pages and the help is one that the program takes."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from sleeptools import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "reproduce/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`([^`\n]*\bsleeptools [^`\n]*)`")
JOINTS = {"&&", "||", "|", ";", "|&", "&"}
ASSIGNMENT = re.compile(r"\w+=")
REDIRECTION = re.compile(r"\d?>")


class Line(NamedTuple):
    """A command line, where it stands, and whether it is whole: a mention may leave words out."""

    source: str
    words: tuple[str, ...]
    whole: bool


@functools.cache
def program() -> Any:
    """Build the command line with all its commands, once."""
    return typer.main.get_command(cli.build_app())


def commands(source: str, text: str, *, whole: bool) -> list[Line]:
    """Take the command lines of sleeptools out of lines of shell."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        segment: list[str] = []
        for word in [*lexer, ";"]:
            if word not in JOINTS:
                segment.append(word)
                continue
            while segment and ASSIGNMENT.match(segment[0]):
                segment.pop(0)
            if "sleeptools" in segment[:1] or ("xargs" in segment[:1] and "sleeptools" in segment):
                words = segment[segment.index("sleeptools") + 1 :]
                ends = [i for i, w in enumerate(words) if w in {">", ">>", "<"}]
                lines.append(Line(source, tuple(words[: ends[0]] if ends else words), whole))
            segment = []
    return lines


def written() -> list[Line]:
    """Every command line of the pages and of the examples of `--help`."""
    lines = []
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text()
        for block in BLOCK.findall(text):
            lines += commands(name, block, whole=True)
        for mention in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            start = mention.index("sleeptools ")
            lines += commands(name, mention[start:], whole=False)
    app = program()
    for name, command in app.commands.items():
        example = command.epilog.removeprefix("Example: ")
        assert example.startswith("sleeptools "), name
        lines += commands(f"{name} --help", example, whole=True)
    lines += commands("--help", cli.EXAMPLE.removeprefix("Example: "), whole=True)
    for line in cli.START.splitlines():
        if line.startswith("  sleeptools "):
            lines += commands("sleeptools", line.strip(), whole=True)
    return list(dict.fromkeys(lines))


LINES = written()


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
