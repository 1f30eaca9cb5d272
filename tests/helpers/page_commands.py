"""The command lines of README, pages and help, taken out of their texts."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import typer

from sleeptools import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "reproduce/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`([^`\n]*\bsleeptools [^`\n]*)`")
JOINTS = {"&&", "||", "|", ";", "|&", "&"}
ASSIGNMENT = re.compile(r"\w+=")


class Line(NamedTuple):
    """A command line, where it stands, and whether it is whole: a mention may leave words out."""

    source: str
    words: tuple[str, ...]
    whole: bool
    written_to: str = ""

    @property
    def text(self) -> str:
        """The words as they are written, with where the output goes."""
        return " ".join(self.words) + (f" > {self.written_to}" if self.written_to else "")


@functools.cache
def program() -> Any:
    """Build the command line with all its commands, once."""
    return typer.main.get_command(cli.build_app())


def segments(line: str) -> list[list[str]]:
    """Divide a line of shell into the words of its commands, without assignments before them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    divided: list[list[str]] = [[]]
    for word in lexer:
        if word in JOINTS:
            divided.append([])
        elif divided[-1] or not ASSIGNMENT.match(word):
            divided[-1].append(word)
    return [words for words in divided if words]


def commands(source: str, text: str, *, whole: bool) -> list[Line]:
    """Take the command lines of sleeptools out of lines of shell."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        for words in segments(line):
            if words[0] == "sleeptools" or (words[0] == "xargs" and "sleeptools" in words):
                rest = words[words.index("sleeptools") + 1 :]
                ends = [i for i, w in enumerate(rest) if w in {">", ">>", "<"}]
                target = rest[ends[0] + 1] if ends else ""
                rest = rest[: ends[0]] if ends else rest
                lines.append(Line(source, tuple(rest), whole, target))
    return lines


def blocks(page: Path) -> list[str]:
    """Return the blocks of shell on a page."""
    return BLOCK.findall(page.read_text())


def written() -> list[Line]:
    """Every command line of the pages, of the examples of `--help`, and of the start page."""
    lines = []
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text()
        for block in BLOCK.findall(text):
            lines += commands(name, block, whole=True)
        for mention in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            start = mention.index("sleeptools ")
            lines += commands(name, mention[start:], whole=False)
    for name, command in program().commands.items():
        example = command.epilog.removeprefix("Example: ")
        assert example.startswith("sleeptools "), name
        lines += commands(f"{name} --help", example, whole=True)
    lines += commands("--help", cli.EXAMPLE.removeprefix("Example: "), whole=True)
    for line in cli.START.splitlines():
        if line.startswith("  sleeptools "):
            lines += commands("sleeptools", line.strip(), whole=True)
    return list(dict.fromkeys(lines))


LINES = written()
