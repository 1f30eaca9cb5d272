"""Folders that commands write: their manifest.json, its verification, and the lock on a folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from sleeptools.errors import DataError, OutputError
from sleeptools.store.files import check_format, need, read_json, sha256, sweep, write_json


@dataclass
class Manifest:
    """How a folder was made; created before the work and written after it, as manifest.json.

    Parameters
    ----------
    kind, version
        Format of the folder, for example "sleeptools-epochs", and its version.
    facts
        Entries of the command: seeds, counts, exclusions, input hashes, `simulated`.
    argv
        The command line.
    begun
        When the work began, s since 1970.
    """

    kind: str
    version: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    argv: Sequence[str] = field(default_factory=lambda: list(sys.argv))
    begun: float = field(default_factory=time.time)

    def write(self, folder: Path, files: Iterable[Path] = ()) -> None:
        """Write manifest.json into `folder` with the hashes of the `files` in it."""
        write_json(
            folder / "manifest.json",
            {
                "format": self.kind,
                "version": self.version,
                "command": [Path(self.argv[0]).name, *self.argv[1:]],
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "wall_seconds": round(time.time() - self.begun, 3),
                "peak_memory_mib": max(
                    map(_peak, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
                ),
                "environment": environment(),
                **self.facts,
                "files": {str(p.relative_to(folder)): sha256(p) for p in sorted(files)},
            },
        )


def _peak(processes: int) -> int:
    """Peak memory, MiB, of this process or (RUSAGE_CHILDREN) of its largest child process."""
    return resource.getrusage(processes).ru_maxrss // 1024


def environment() -> dict[str, object]:
    """Versions of Python and of the libraries, machine and git commit, for the manifest."""
    facts: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("sleeptools", "numpy", "scipy", "torch", "polars", "pyedflib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[name] = metadata.version(name)
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            git = ["git", "-C", str(root), "rev-parse", "HEAD"]
            facts["commit"] = subprocess.run(
                git, capture_output=True, text=True, check=True
            ).stdout.strip()
    return facts


def read_manifest(folder: Path, kind: str, version: int = 1) -> dict[str, Any]:
    """Read a folder's manifest and check the folder's format.

    Parameters
    ----------
    kind, version
        The format name expected, and the newest version understood.

    Raises
    ------
    MissingInputError
        If the folder does not exist.
    DataError
        If it has no manifest, or is of another format or a newer version.
    """
    need(folder, "folder")
    path = folder / "manifest.json"
    if not path.exists():
        raise DataError(
            f"{folder}: not a {kind} folder (no manifest.json)",
            hint="an interrupted command leaves none: run it again",
        )
    facts = _facts(path)
    check_format(facts, path, kind, version)
    return facts


def _facts(path: Path) -> dict[str, Any]:
    facts = read_json(path)
    if not isinstance(facts, dict) or not isinstance(facts.get("files", {}), dict):
        raise DataError(f"{path}: is no manifest", hint="make the folder again")
    return facts


def listed_hashes(folder: Path, kind: str) -> dict[str, str]:
    """Read the SHA-256 of each file from a folder's manifest; empty if there is no manifest.

    Raises
    ------
    DataError
        If the folder is of another format.
    """
    if not (folder / "manifest.json").exists():
        return {}
    hashes: dict[str, str] = read_manifest(folder, kind)["files"]
    return hashes


def verify(folder: Path) -> list[str]:
    """Compare the files of a folder with its manifest; return a line for each that differs."""
    if need(folder, "folder").is_file():
        raise DataError(f"{folder}: is a file", hint="give the folder with its manifest.json")
    files = _facts(folder / "manifest.json").get("files", {})
    problems = []
    for name, expected in files.items():
        path = folder / name
        if not path.exists():
            problems.append(f"{name}: missing")
        elif sha256(path) != expected:
            problems.append(f"{name}: content differs from the manifest")
    return problems


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no second process writes to it.

    A lock is taken over from a process of this host that has ended, and from an earlier start of
    the same Slurm job on any host: Slurm starts a job again only after the earlier one has ended.

    Raises
    ------
    OutputError
        If a running process holds the lock, or the folder cannot be made.
    """
    path = folder / ".lock"
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}
    content = json.dumps(owner | _slurm_start())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not _claim(path, content):
            _take_over(path, folder)
    except OSError as e:
        raise OutputError(
            f"{folder}: cannot be written: {e.strerror}", hint="give another folder"
        ) from e
    try:
        sweep(folder)
        yield
    finally:
        path.unlink(missing_ok=True)


def clear_stale_lock(folder: Path) -> bool:
    """Remove what a killed process left in a folder: its lock and its unfinished files.

    Returns
    -------
    free
        Whether no living process holds the folder.
    """
    path = folder / ".lock"
    while path.exists():
        try:
            _take_over(path, folder)
        except OutputError:
            return False
        sweep(folder)
    return True


def _slurm_start() -> dict[str, Any]:
    """Slurm job of this process, and how often it was requeued; empty outside Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"job": job, "start": int(os.environ.get("SLURM_RESTART_COUNT", "0"))} if job else {}


def _claim(path: Path, content: str) -> bool:
    """Create the lock in one step, as a link to a finished file, so that it is never empty."""
    draft = path.with_name(f".lock.{os.getpid()}.part")
    draft.write_text(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _take_over(path: Path, folder: Path) -> None:
    """Remove the lock of a process that has ended, or raise; of two that try, one succeeds."""
    try:
        text = path.read_text()
        owner = json.loads(text)
    except FileNotFoundError:
        return
    except ValueError:
        owner = {}
    same_host = owner.get("host") == socket.gethostname()
    dead = same_host and not Path(f"/proc/{owner.get('pid')}").exists()
    job = _slurm_start()
    requeued = bool(job) and owner.get("job") == job["job"] and owner["start"] < job["start"]
    if not (dead or requeued):
        raise OutputError(
            f"{folder}: in use by process {owner.get('pid')} on {owner.get('host')} "
            f"since {owner.get('since')}",
            hint=f"wait for it; if it is surely gone, remove {path}",
        )
    aside = path.with_name(f".lock.stale.{os.getpid()}.part")  # `sweep` knows such names
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)  # succeeds in one process only
        if aside.read_text() != text:  # another process was faster, and this is its new lock
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()
