"""What tests of planned trainings share: small epochs, a Slurm that only notes, and no Slurm."""

import os
import shlex
from pathlib import Path

import pytest

from sleeptools import store
from tests.helpers.synthetic_epochs import write_epochs

TINY = (
    *("--model", "ulw-sleepnet", "--passes", 2, "--set", "recipe.batch=16"),
    *("--threads", 1, "--no-explain"),
)
TWO_FOLDS = ("--folds", 2, *TINY)
FAKES = {
    "sbatch": """
        printf '%s\\n' "$*" >> "$FAKE/submitted"
        case "$*" in *refused*) echo "sbatch: error: invalid partition" >&2; exit 1 ;; esac
        echo "$((99 + $(wc -l < "$FAKE/submitted")));cluster"
    """,
    "squeue": 'cat "$FAKE/queue" 2>/dev/null',
    "scontrol": 'echo "MaxArraySize            = $(cat "$FAKE/most" 2>/dev/null || echo 1001)"',
}


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("plan") / "epochs", subjects=20, count=6)


@pytest.fixture
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("few") / "epochs", subjects=4, count=10)


class Slurm:
    """A Slurm that only notes what it is handed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def submitted(self) -> list[list[str]]:
        """Words of every call of sbatch."""
        path = self.folder / "submitted"
        return (
            [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []
        )


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Slurm is not installed, whatever this one is."""
    (tmp_path / "bin").mkdir()
    for program in ("bash", "env"):
        (tmp_path / "bin" / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, body in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return Slurm(folder)


def header(script: Path) -> dict[str, str]:
    """Options on the #SBATCH lines that have a value."""
    lines = script.read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return dict(option.split("=", 1) for option in options if "=" in option)


def weights(run: Path) -> dict[str, str]:
    paths = sorted(run.rglob("model.safetensors"))
    return {str(p.relative_to(run)): store.sha256(p) for p in paths}
