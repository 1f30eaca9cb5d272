"""What a newcomer does first: install without a compiler, and follow the README."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sleeptools import native

ROOT = Path(__file__).parents[2]
ON_AN_INDEX = False
"""Whether `pip install sleeptools` finds it: to be set on the day of the release."""
BARE = re.compile(
    r"(?:pip3?|pipx|uv pip|uv tool) install [^`\n]*?(?<![\w./-])sleeptools(?![\w/-]|\.whl)"
)
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang", "nvcc", "cmake", "ninja", "make")


def test_readme_has_exactly_two_set_up_commands() -> None:
    text = (ROOT / "README.md").read_text()
    block = text.split("## Set-up")[1].split("```sh\n")[1].split("```")[0]
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]


def test_every_command_in_the_documents_exists(command) -> None:
    listed = command("--help").out.split("Commands:")[1]
    known = set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "docs/folders.md", "docs/glossary.md"):
        used = re.findall(r"(?:^|`)sleeptools ([a-z]+)", (ROOT / name).read_text(), re.MULTILINE)
        assert set(used) <= known, name


def install_lines() -> list[str]:
    """Every line of pages and program that would install from an index by the name alone."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    code = [
        p for f in ("sleeptools", "cli", "packaging", "reproduce") for p in (ROOT / f).rglob("*")
    ]
    texts = [
        p for p in [*pages, *code] if p.suffix in {".md", ".py", ".toml", ".txt", ".sh", ".def"}
    ]
    return [
        f"{path.relative_to(ROOT)}: {line}"
        for path in texts
        for line in path.read_text().splitlines()
        if BARE.search(line)
    ]


def test_no_line_installs_what_is_on_no_index() -> None:
    assert BARE.search("pip install 'sleeptools[yasa]'")
    assert BARE.search("pipx install sleeptools")
    assert not BARE.search("pip install ./sleeptools-0.1.0-py3-none-any.whl")
    assert not BARE.search("pip install --no-deps dist/sleeptools-*.whl")
    assert bool(install_lines()) == ON_AN_INDEX


@pytest.mark.skipif(os.environ.get("SLEEPTOOLS_CUDA") != "ON", reason="SLEEPTOOLS_CUDA is not ON")
def test_the_core_has_the_cuda_kernels_it_was_asked_for() -> None:
    assert native.has_cuda()
    assert "cuda sm_80 sm_90" in native.describe()


@pytest.mark.slow
def test_installs_and_runs_without_a_compiler(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for path in Path("/usr/bin").iterdir():
        if not path.name.startswith(COMPILERS):
            (tools / path.name).symlink_to(path)
    assert not any(shutil.which(name, path=str(tools)) for name in COMPILERS)
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build", "demo")
    )
    environment = {**os.environ, "PATH": str(tools), "SLEEPTOOLS_NATIVE": "0"}
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*install, "--target", str(tmp_path / "site"), str(source)], env=environment, check=True
    )
    environment.pop("SLEEPTOOLS_NATIVE")
    # -S hides the editable install
    environment["PYTHONPATH"] = f"{tmp_path / 'site'}:{sysconfig.get_path('purelib')}"
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", "sleeptools.cli", "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "native: off" in done.stdout
