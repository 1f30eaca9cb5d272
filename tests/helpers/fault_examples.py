"""Runs the examples of faults: a shell script that raises each code, and what mends it.

An example of `fault_examples.toml` has `script`, whose last line ends with the code; `exit`, its
exit code; and `mend`, lines after which that last line, or a `sleeptools` line at their own end,
succeeds. `slow` says that it takes seconds, `needs` names an optional library. In a script `$STOCK`
is a folder of sound files and `spoil` is `spoil.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tests.helpers import spoil

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
PRELUDE = 'spoil() { python -m tests.helpers.spoil "$@"; }\n'
SHELL_WORDS = re.compile(r"[|&;<>()`*]|\$(?!STOCK)|^\w+=")
CODE = re.compile(r"^error: .* \[([A-Z0-9]+-[A-Z0-9]+)\]$", re.MULTILINE)
BATCH = re.compile(r"^error: .* failed, (?:the first|one) of them .*?; (.*) \[", re.MULTILINE)
HINT = re.compile(r"^hint: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """An example of a fault."""

    code: str
    script: str
    exit: int = 65
    mend: str = ""
    slow: bool = False
    needs: str = ""

    @property
    def mending(self) -> list[str]:
        """The commands that mend it; the last must succeed."""
        mend = lines(self.mend)
        return mend if "sleeptools " in mend[-1] else [*mend, self.command]

    @property
    def command(self) -> str:
        """The line that raises the code."""
        return lines(self.script)[-1]


def load() -> dict[str, Example]:
    """Read all examples, by code."""
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    return {code: Example(code, **entry) for code, entry in tomllib.loads(text).items()}


def lines(script: str) -> list[str]:
    """Split a script into commands: a line each, or more where a quote is open."""
    commands: list[str] = []
    pending = ""
    for line in script.strip("\n").split("\n"):
        pending += line
        try:
            shlex.split(pending)
        except ValueError:
            pending += "\n"
            continue
        commands.append(pending)
        pending = ""
    return [c for c in commands if c.strip()]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    exit: int
    err: str

    @property
    def code(self) -> str:
        """Code of the error; empty if there is none."""
        codes = CODE.findall(self.err)
        return codes[-1] if codes else ""

    @property
    def hint(self) -> str:
        """The hint; empty if there is none. A batch tells that of its first failure before it."""
        hints = HINT.findall(self.err)
        failures = BATCH.findall(self.err)
        return "; ".join([*failures[-1:], *hints[-1:]])


class Folder:
    """A folder in which lines of a script are run, in this process where that is possible."""

    def __init__(self, path: Path, stock: Path) -> None:
        self.path, self.stock = path, stock
        path.mkdir(parents=True)

    def copied(self, name: str) -> Folder:
        """Copy the folder, to try something out."""
        target = self.path.with_name(name)
        shutil.copytree(self.path, target, symlinks=True)
        twin = object.__new__(Folder)
        twin.path, twin.stock = target, self.stock
        return twin

    def run(self, commands: Sequence[str]) -> Ran:
        """Run commands; all but the last must succeed."""
        ran = Ran(0, "")
        for group in _grouped(commands):
            assert ran.exit == 0, ran.err
            ran = self._line(group[0]) if _runs_here(group[0]) else self.shell("\n".join(group))
        return ran

    def _line(self, line: str) -> Ran:
        words = shlex.split(line.replace("$STOCK", str(self.stock)))
        if words[0] == "spoil":
            spoil.main(words[1:], self.path)
            return Ran(0, "")
        return self._here(words)

    def _here(self, words: Sequence[str]) -> Ran:
        from sleeptools import cli

        out, err = io.StringIO(), io.StringIO()
        before, argv = Path.cwd(), sys.argv
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            os.chdir(self.path)
            sys.argv = list(words)
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                os.chdir(before)
                sys.argv = argv
        return Ran(code, err.getvalue())

    def shell(self, script: str) -> Ran:
        """Run lines in a shell."""
        done = subprocess.run(
            ["bash", "-ec", PRELUDE + script],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {
                "STOCK": str(self.stock),
                "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
        )
        return Ran(done.returncode, done.stderr)


def _runs_here(line: str) -> bool:
    if line.startswith(("spoil served", "spoil held", "spoil call")):
        return False  # they end with the exit code of another process
    return line.startswith(("sleeptools ", "spoil ")) and not SHELL_WORDS.search(
        re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
    )


def _grouped(commands: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for command in commands:
        if _runs_here(command):
            if group:
                yield group
            group = []
            yield [command]
        else:
            group.append(command)
    if group:
        yield group


# --- what a hint proposes -------------------------------------------------------------------------


def proposals(hint: str, command: str) -> list[list[str]]:
    """List what a hint proposes, each as the commands that do it, the last of which is judged.

    Proposed are: a quoted command; an option with its value, or a flag, for the command that
    failed; another spelling for one of its words. A word in capitals stands for one's own.
    """
    proposed: list[list[str]] = []
    hint = re.sub(r"for example '[^']*'", "", hint)  # of other files than one's own
    if first := re.search(r"begin with: (printf '[^']*' > \S+);", hint):
        proposed.append([first[1], command])
    for quoted in re.findall(r"'(sleeptools \w+ [^']+|rm [^']+)'", hint):
        if re.search(r"\b[A-Z]{4,}\b", quoted):
            continue
        for line in quoted.split("; "):
            proposed.append([line, command] if line.startswith("rm ") else [line])
    if similar := re.search(r"did you mean '([^']*)'\?", hint):
        words = shlex.split(command)
        (wrong,) = get_close_matches(similar[1], words[1:], 1, 0.5)
        right = [similar[1] if w == wrong else w for w in words]
        proposed.append([shlex.join(right)])
    options = list(_options(hint))
    added = [taken for gone, words in options if not gone and (taken := takes(command, words))]
    kept = shlex.split(command)
    for option in (words[0] for gone, words in options if gone):
        kept = _without(kept, option)
    if not added and kept != shlex.split(command):
        proposed.append([shlex.join(kept)])
    proposed += [[shlex.join([*kept, *words])] for words in added]
    return [[c.replace("'$STOCK", "$STOCK'") for c in commands] for commands in proposed]


def _options(hint: str) -> Iterator[tuple[bool, list[str]]]:
    """Find `--option value` and `--flag` in a hint, and whether they are to be left out.

    What follows an option is its value if it ends a clause or is no plain word.
    """
    text = re.sub(r"'[^']*'", "", hint)
    value = r"(?: ([\w.,=\[\]/-]*[^a-z\W][\w.,=\[\]/-]*|[a-z]+(?=$|[,;)])))?"
    for match in re.finditer(r"(\bwithout |\bleave )?(--[a-z][a-z-]*)" + value, text):
        yield bool(match[1]), [w for w in (match[2], (match[3] or "").rstrip(",.")) if w]


def _without(words: list[str], option: str) -> list[str]:
    """Take an option and its value out of a line."""
    if option not in words:
        return words
    at = words.index(option)
    end = at + 2 if at + 1 < len(words) and not words[at + 1].startswith("--") else at + 1
    return words[:at] + words[end:]


def takes(command: str, words: Sequence[str]) -> list[str]:
    """Cut an option to what a command takes: without the word after a flag; [] if it is unknown."""
    import typer

    from sleeptools import cli

    group: Any = typer.main.get_command(cli.build_app())
    name = shlex.split(command)[1]
    for parameter in group.commands[name].params:
        if words[0] in parameter.opts:
            if getattr(parameter, "is_flag", False):
                return [words[0]]
            is_whole = len(words) > 1 and not words[1].isupper()
            return list(words) if is_whole and (words[0] != "--set" or "=" in words[1]) else []
    return []
