"""The pages for beginners are run block by block: what they show is what the commands print.

A shown line must come out as it stands, in the order shown; `...` stands for lines left out. Below
`<!-- numbers vary -->` stands what a training has decided, whose numbers depend on the processor:
there a line must agree in everything but its numbers.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
MAKES = {
    "first-night": "scored review.html recordings epochs runs scores report.html first.html "
    "night_events.tsv",
    "first-mice": "mice epochs runs mice.html scores labels.csv",
    "first-cluster": "raw epochs runs report.html",
}
"""What is there at the end of each page."""
BLOCK = re.compile(r"```sh\n(.*?)```\n(<!-- numbers vary -->\n)?```text\n(.*?)```", re.DOTALL)
KAPPA = re.compile(r"^ kappa +(0\.\d+)", re.MULTILINE)


def masked(line: str) -> str:
    """Write a line without its numbers, intervals of numbers, and widths of columns."""
    line = re.sub(r"[-+]?\d+(?::\d+)*(?:\.\d+)?", "#", line)
    line = re.sub(r" \[#, #\]", "", line)
    return re.sub(r"\b(W|N1|N2|N3|REM)\tsimulated", "STAGE\tsimulated", re.sub(r" +", " ", line))


def missing(shown: str, printed: str, *, numbers: bool) -> list[str]:
    """List the shown lines that were not printed, or not in this order."""
    forms = str if numbers else masked
    lines = iter([forms(line.rstrip()) for line in printed.splitlines()])
    wanted_lines = [line for line in shown.splitlines() if line != "..."]
    return [line for line in wanted_lines if forms(line.rstrip()) not in lines]


@pytest.mark.parametrize("name", MAKES)
def test_every_command_of_a_page_is_run(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    assert page.count("```sh") == len(BLOCK.findall(page)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKES)
def test_a_page_shows_what_the_commands_print(name: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    page = (DOCS / f"{name}.md").read_text()
    for commands, vary, shown in BLOCK.findall(page):
        ran = subprocess.run(
            ["bash", "-ec", commands],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        absent = missing(shown, ran.stdout, numbers=not vary)
        assert not absent, "\n".join(["not printed:", *absent, "but:", ran.stdout])
        if page_kappa := KAPPA.search(shown):
            kappa = KAPPA.search(ran.stdout)
            assert kappa
            assert abs(float(kappa[1]) - float(page_kappa[1])) < 0.25, "the page's is out of date"
    assert {*MAKES[name].split()} <= {p.name for p in tmp_path.iterdir()}


def test_the_comparison_can_fail() -> None:
    assert missing("a 1\n...\nb 2\n", "a 1\nx\nb 2\n", numbers=True) == []
    assert missing("b 2\na 1\n", "a 1\nb 2\n", numbers=True) == ["a 1"]
    assert missing("kept 3\n", "kept 4\n", numbers=True) == ["kept 3"]
    assert missing("loss 1.50\n", "loss   0.9\n", numbers=False) == []
    assert missing("kappa 0.41 [0.16, 0.59]\n", "kappa 0.3\n", numbers=False) == []
    assert missing("loss 1.50\n", "gain 1.50\n", numbers=False) == ["loss 1.50"]
