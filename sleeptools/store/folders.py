"""Folders: the manifest that says what made them, and the lock against a second writer."""

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
    """What made a folder: begun before the work, written after it.

    Parameters
    ----------
    kind
        Format name of the folder, for example "sleeptools-epochs".
    facts
        What the command knows: seeds, counts, exclusions, input hashes, `simulated`.
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


def _peak(who: int) -> int:
    """Measure the peak memory of this process, or of the largest that it has waited for, MiB."""
    return resource.getrusage(who).ru_maxrss // 1024


def environment() -> dict[str, object]:
    """Versions and machine, as they go into every manifest."""
    found: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("sleeptools", "numpy", "scipy", "torch", "polars", "pyedflib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            git = ["git", "-C", str(root), "rev-parse", "HEAD"]
            found["commit"] = subprocess.run(
                git, capture_output=True, text=True, check=True
            ).stdout.strip()
    return found


def read_manifest(folder: Path, kind: str, version: int = 1) -> dict[str, Any]:
    """Read a folder's manifest and check that the folder is what it should be.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If it is not a folder of that kind.
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


def intact(folder: Path, kind: str) -> dict[str, str]:
    """Hashes of the files that a folder's manifest lists; empty where there is none.

    Raises
    ------
    DataError
        If the folder is of another kind.
    """
    if not (folder / "manifest.json").exists():
        return {}
    found: dict[str, str] = read_manifest(folder, kind)["files"]
    return found


def verify(folder: Path) -> list[str]:
    """Compare every file of a folder with its manifest; return what differs, a line each."""
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
    """Hold a folder against a second writer.

    Raises
    ------
    OutputError
        If another living process holds it, or the folder cannot be made. A lock is taken over from
        a dead process on this host, and from any host where Slurm has started the same job before:
        it queues a job again only when that one has ended.
    """
    path = folder / ".lock"
    who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}
    mine = json.dumps(who | _slurm_start())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not _claim(path, mine):
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
    """Tell the Slurm job of this process, and how often it was queued again."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"job": job, "start": int(os.environ.get("SLURM_RESTART_COUNT", "0"))} if job else {}


def _claim(path: Path, mine: str) -> bool:
    """Make the lock with its content at once: a link to a finished file, never an empty one."""
    draft = path.with_name(f".lock.{os.getpid()}.part")
    draft.write_text(mine)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _take_over(path: Path, folder: Path) -> None:
    """Remove a dead process's lock, or raise; two that try at once cannot both succeed."""
    try:
        text = path.read_text()
        held = json.loads(text)
    except FileNotFoundError:
        return
    except ValueError:
        held = {}
    here = held.get("host") == socket.gethostname()
    dead = here and not Path(f"/proc/{held.get('pid')}").exists()
    mine = _slurm_start()
    again = bool(mine) and held.get("job") == mine["job"] and held["start"] < mine["start"]
    if not (dead or again):
        raise OutputError(
            f"{folder}: in use by process {held.get('pid')} on {held.get('host')} "
            f"since {held.get('since')}",
            hint=f"wait for it; if it is surely gone, remove {path}",
        )
    aside = path.with_name(f".lock.stale.{os.getpid()}.part")  # `sweep` knows such names
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)  # only one of several gets it
        if aside.read_text() != text:  # another was faster, and this is its new lock
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()
