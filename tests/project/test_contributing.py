"""The steps of CONTRIBUTING.md, followed for a data set, a format and a model.

They go into a copy of the package, which runs without the native core and without the editable
install, whose import hook would find the checkout instead.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "contributed"
NEW = {
    "format.py": "sleeptools/formats/dummy.py",
    "model.py": "sleeptools/models/dummy.py",
    "dataset.py": "sleeptools/datasets/dummy.py",
    "preset.toml": "sleeptools/preprocessing/presets/dummy.toml",
}
NO_CACHE = shutil.ignore_patterns("__pycache__", "*.so")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package and its tests, with the new files in their folders."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("sleeptools", "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=NO_CACHE)
    shutil.copytree(ROOT / "cli", root / "sleeptools/cli", ignore=NO_CACHE)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, path in NEW.items():
        shutil.copy(HERE / name, root / path)
    return root


def python(copy: Path, *words: str | Path) -> str:
    """Run Python on the copy, in its folder, and give what it prints."""
    installed = [p for p in sys.path if p and not Path(p).is_relative_to(ROOT)]
    installed += [p for p in sys.path if "site-packages" in p]
    env = {
        **os.environ,
        "SLEEPTOOLS_NATIVE": "0",
        "PYTHONPATH": os.pathsep.join([str(copy), *dict.fromkeys(installed)]),
    }
    done = subprocess.run(
        [sys.executable, "-S", *words],
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sleeptools(copy: Path, *words: str | Path) -> str:
    return python(copy, "-m", "sleeptools.cli", *words)


@pytest.mark.parametrize("drawer", ["models", "datasets", "presets"])
def test_the_command_line_finds_a_new_file(copy: Path, drawer: str) -> None:
    assert "dummy" in {
        row["name"] for row in json.loads(sleeptools(copy, "list", drawer, "--json"))
    }


def test_a_new_format_is_written_and_told_by_its_content(copy: Path) -> None:
    (copy / "labels.txt").write_text("W\nN1\nREM\n?\n")
    sleeptools(copy, "hypnogram", "labels.txt", "night.dummy", "--epoch-seconds", "30")
    assert (copy / "night.dummy").read_text() == "dummy\nW\nN1\nREM\n?\n"
    (shown,) = json.loads(
        sleeptools(copy, "inspect", "night.dummy", "--epoch-seconds", "30", "--json")
    )
    assert shown["format"] == "dummy"


@pytest.mark.slow
def test_a_new_model_has_golden_logits_and_passes_the_tests(copy: Path) -> None:
    python(copy, "tests/helpers/golden_models.py", "dummy")
    assert (copy / "tests/data/golden/model_dummy.safetensors").exists()
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_models.py")
    assert " passed" in python(copy, *words, "-k", "dummy")


@pytest.mark.slow
def test_a_new_data_set_becomes_numbers(copy: Path) -> None:
    sleeptools(copy, "simulate", "sleep-edf", "nights", "--subjects", "3", "--hours", "1")
    (copy / "raw").mkdir()
    for psg in (copy / "nights").glob("*-PSG.edf"):
        psg.rename(copy / "raw" / f"{psg.name[:5]}.edf")
        (scoring,) = (copy / "nights").glob(f"{psg.name[:6]}*-Hypnogram.edf")
        sleeptools(copy, "hypnogram", scoring, f"raw/{psg.name[:5]}.dummy")
    sleeptools(copy, "preprocess", "dummy", "raw")
    sleeptools(copy, "train", "--model", "dummy", "--folds", "3")
    (result,) = json.loads(sleeptools(copy, "evaluate", "runs/dummy", "--json"))
    assert result["model"] == "dummy"
