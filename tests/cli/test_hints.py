"""What a command proposes can be typed as it stands, from where the person stands."""

import re
import shlex
from pathlib import Path

import pytest

from sleeptools import registry
from sleeptools.errors import quoted
from tests.helpers import synthetic_run

ROOT = Path(__file__).parents[2]
FOLDER = "Nächte von Zoë"
NEXT = re.compile(r"next: (sleeptools .*)$", re.MULTILINE)
PROPOSED = re.compile(r"""sleeptools [a-z]+ [^'"\n]*?\{(\w+)""")
NAMES = {
    "drawer",
    "dataset",
    "does",
    "preset",
    "item",
    "name",
    "command",
    "kind",
    "time",
    "version",
}
"""What is no path: names of models, data sets, presets, commands, a time, a version."""
QUOTED = {"quoted", "trained", "line"}


def follow(command, ran, here: Path, *further: str):
    """Type what was proposed, with further options."""
    (line,) = NEXT.findall(ran.err)
    words = shlex.split(line)
    return command(*words[1:], *further, cwd=here)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


def test_a_path_is_quoted_where_the_shell_would_cut_it() -> None:
    for text in ("runs/x", "Nächte", "a b", 'a"b', "$HOME", "it's", "a\\b", "!x", "ä ö"):
        assert shlex.split(quoted(text)) == [text]
    assert quoted("runs/x") == "runs/x"
    assert quoted(FOLDER) == f'"{FOLDER}"'


@pytest.mark.parametrize("dataset", ["sleep-edf", "kjaerby"])
def test_from_simulated_files_to_a_plan_of_training(dataset: str, command, here: Path) -> None:
    chain(dataset, command, here)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", registry.names("datasets"))
def test_so_for_every_data_set(dataset: str, command, here: Path) -> None:
    chain(dataset, command, here)


def chain(dataset: str, command, here: Path) -> None:
    ran = command("simulate", dataset, "Rohe Daten", "--subjects", 2, "--hours", 0.5, cwd=here)
    assert ran.code == 0, ran.err
    ran = follow(command, ran, here)
    assert ran.code == 0, ran.err
    if dataset == "edf":  # which a preset of one's own preprocesses
        return
    ran = follow(command, ran, here, "--plan")
    assert ran.code == 0, ran.err
    assert re.search(r"2 tasks(, up to .* each here)?, 0 done", ran.err)


def test_from_a_run_to_a_report(command, here: Path) -> None:
    synthetic_run.write(here / "Läufe mit Leerzeichen")
    ran = command("evaluate", "Läufe mit Leerzeichen", cwd=here)
    assert ran.code == 0, ran.err
    ran = follow(command, ran, here)
    assert ran.code == 0, ran.err
    assert (here / "report.html").is_file()


def test_from_a_night_to_a_page_of_all(command, here: Path) -> None:
    command("simulate", "sleep-edf", "neu", "--subjects", 1, "--hours", 2.2, cwd=here)
    ran = command("score", "default", "neu", "--out", "Bögen zur Nacht", cwd=here)
    assert ran.code == 0, ran.err
    ran = follow(command, ran, here)
    assert ran.code == 0, ran.err
    assert list(here.rglob("report.html"))


def test_no_path_is_proposed_without_quotes() -> None:
    for path in [*(ROOT / "sleeptools").rglob("*.py"), *(ROOT / "cli").glob("*.py")]:
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())  # a literal in several pieces
        bare = set(PROPOSED.findall(text)) - NAMES - QUOTED
        assert not bare, f"{path.relative_to(ROOT)}: {bare}"
