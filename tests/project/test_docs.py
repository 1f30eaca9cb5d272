"""The pages name files that exist, and their tables have a row for everything there is."""

import re
from pathlib import Path

import pytest

from sleeptools import registry
from sleeptools.recording.label_schemes import SCHEMES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reproduce/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"`([^`\n]+)`")
FOLDERS = ("sleeptools/", "csrc/", "cli/", "tests/", "benches/", "docs/", "reproduce/")
PLACEHOLDER = re.compile(r"[A-Z]{2,}|[*{}]")  # NAME.py is the reader's file


def without_examples(text: str) -> str:
    """Leave out blocks of code, whose files are those of a user."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchor(heading: str) -> str:
    """Write a heading as the address that Markdown viewers give it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, part in LINK.findall(without_examples(page.read_text())):
        file = page.parent / target if target else page
        assert file.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert part in map(anchor, headings), f"{target}#{part}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_in_backticks_exist(page: Path) -> None:
    paths = [
        word
        for code in CODE.findall(without_examples(page.read_text()))
        for word in code.split()
        if word.startswith(FOLDERS) and not PLACEHOLDER.search(word)
    ]
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_in_backticks_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # names old modules, too
        return
    for code in CODE.findall(without_examples(page.read_text())):
        if re.fullmatch(r"sleeptools(\.\w+)+", code) and code != "sleeptools._core":
            path = ROOT / code.replace("sleeptools.cli", "cli").replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), code


def sources() -> list[Path]:
    folders = ("sleeptools", "cli", "csrc", "benches", "tests")
    endings = (".py", ".h", ".cpp", ".cu", ".cuh", ".toml", ".sh")
    return [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in endings]


def test_pages_named_in_the_code_exist() -> None:
    named = {
        (str(path.relative_to(ROOT)), page)
        for path in sources()
        for page in re.findall(r"\bdocs/[\w-]+\.(?:md|svg|py)\b", path.read_text())
    }
    assert len(named) > 5
    assert not [(path, page) for path, page in named if not (ROOT / page).exists()]


def first_cells(page: str, heading: str) -> list[list[str]]:
    """Words in backticks in the first column of the table with this heading, a list a row."""
    text = (ROOT / "docs" / page).read_text()
    table = text[text.index(heading) :].partition("\n\n")[0]
    return [CODE.findall(row.split("|")[1]) for row in table.splitlines()[2:]]


def test_every_format_of_hypnograms_has_a_row() -> None:
    modules = {p.stem: p.read_text() for p in (ROOT / "sleeptools/formats").glob("*.py")}
    modules.pop("__init__")
    rows = {row[0] for row in first_cells("hypnogram-files.md", "| format | written |")}
    assert rows == {name for name, code in modules.items() if "\ndef read_hypnogram(" in code}
    text = (ROOT / "docs/hypnogram-files.md").read_text()
    written = set(re.findall(r"^\| `(\w+)` \| yes", text, re.MULTILINE))
    assert written == {name for name, code in modules.items() if "\ndef write_hypnogram(" in code}


def test_every_scheme_has_a_row() -> None:
    rows = first_cells("hypnogram-files.md", "| scheme | meaning |")
    assert sorted(name for row in rows for name in row) == sorted(SCHEMES)


def test_every_preset_has_a_row() -> None:
    rows = first_cells("presets.md", "| preset | epochs |")
    names = [p.stem for p in (ROOT / "sleeptools/preprocessing/presets").glob("*.toml")]
    assert sorted(row[0] for row in rows) == sorted(names)


def test_every_model_and_data_set_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in [*registry.names("models"), *registry.names("datasets")]:
        assert f"`{name}`" in readme, name


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = {p.stem for p in (ROOT / "cli").glob("*.py") if not p.stem.startswith("_")}
    assert not [name for name in commands if f"`{name}`" not in readme]


def test_formats_named_on_the_page_of_folders_are_those_of_the_code() -> None:
    page = (ROOT / "docs/folders.md").read_text()
    named = set(re.findall(r"`(sleeptools-[a-z-]+)` \d", page))
    code = "\n".join(p.read_text() for p in (ROOT / "sleeptools").rglob("*.py"))
    kinds = set(re.findall(r"\"(sleeptools-[a-z-]+)\"", code))
    inside = {"sleeptools-weights", "sleeptools-training-state"}  # of a model, of a checkpoint
    assert named == kinds - inside


def test_the_glossary_has_every_word_once() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    words = [
        w for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) for w in row.split(", ")
    ]
    assert len(words) == len(set(words))
    assert {"recording", "montage", "epoch", "pass", "step", "sequence", "hypnogram"} <= set(words)
