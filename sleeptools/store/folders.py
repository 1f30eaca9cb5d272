"""Folders that commands write: their manifest.json, and what is checked against it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from sleeptools.errors import DataError, OutputError, quoted
from sleeptools.store.files import (
    check_format,
    json_text,
    need,
    read_json,
    sha256,
    write_json,
    write_together,
)

MANIFEST = "manifest.json"
FORMATS = "sleeptools-"
"""How the names of all our formats begin."""
VERSION = re.compile(r"^Version:(.*)$", re.MULTILINE)
LONGEST_ID = 180  # bytes; a file name has 255, of which a suffix and a draft's letters take some


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

    def write(
        self, folder: Path, files: Iterable[Path] = (), hashes: Mapping[str, str] | None = None
    ) -> None:
        """Write manifest.json into `folder` with the hashes of the `files` in it.

        Parameters
        ----------
        hashes
            Hashes that are known, by path within the folder; others are computed.
        """
        hashes = hashes or {}
        names = {str(path.relative_to(folder)): path for path in sorted(files)}
        sums = {name: hashes.get(name) or sha256(path) for name, path in names.items()}
        write_json(folder / MANIFEST, self.content(sums))

    def content(self, sums: Mapping[str, str]) -> dict[str, Any]:
        """Give the content of manifest.json, with the SHA-256 of each file."""
        return {
            "format": self.kind,
            "version": self.version,
            "command": [Path(self.argv[0]).name, *self.argv[1:]],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round(time.time() - self.begun, 3),
            "peak_memory_mib": max(map(_peak, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))),
            "environment": environment(),
            **self.facts,
            "files": dict(sorted(sums.items())),
        }


def write_folder(
    folder: Path, contents: Mapping[str, bytes], manifest: Manifest, name: str = MANIFEST
) -> None:
    """Write files and their manifest as a whole: no file gets its name before all are complete.

    Parameters
    ----------
    contents
        Content of each file, by path within the folder.
    name
        Path of the manifest within the folder; it gets its name last.
    """
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    text = json_text(manifest.content(sums)).encode()
    write_together({folder / name: text, **{folder / n: c for n, c in contents.items()}})


def _peak(processes: int) -> int:
    """Peak memory, MiB, of this process or (RUSAGE_CHILDREN) of its largest child process."""
    return resource.getrusage(processes).ru_maxrss // 1024


@cache
def environment() -> Mapping[str, object]:
    """Versions of Python and of the libraries, machine and git commit, for the manifest."""
    facts: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("sleeptools", "numpy", "scipy", "torch", "polars", "pyedflib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[name] = _version(name)
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            git = ["git", "-C", str(root), "rev-parse", "HEAD"]
            facts["commit"] = subprocess.run(
                git, capture_output=True, text=True, check=True
            ).stdout.strip()
    return facts


def _version(package: str) -> str:
    """Read the version of an installed package from its first lines, not from all its metadata."""
    text = metadata.distribution(package).read_text("METADATA") or ""
    line = VERSION.search(text)
    return line[1].strip() if line else metadata.version(package)


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
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(
            f"{folder}: not a {kind} folder (no manifest.json)",
            hint="an interrupted command leaves none: run it again",
            code="MAN-MISSING",
        )
    facts = _facts(path)
    check_format(facts, path, kind, version)
    return facts


def _facts(path: Path) -> dict[str, Any]:
    return _checked(read_json(path), path)


def _checked(facts: Any, path: Path) -> dict[str, Any]:
    """Check the facts of a manifest that has been read."""
    if not isinstance(facts, dict) or not isinstance(facts.get("files", {}), dict):
        raise DataError(f"{path}: is no manifest", hint="make the folder again", code="MAN-TEXT")
    for name in facts.get("files", {}):
        inner = PurePosixPath(name)
        if not inner.parts or inner.is_absolute() or ".." in inner.parts or "\0" in name:
            raise DataError(
                f"{path}: lists {name!r}, which is no path within the folder", code="MAN-NAME"
            )
    for key in ("recordings", "failed"):
        entries = facts.get(key, ())
        for entry in entries if isinstance(entries, list | dict) else ():
            check_id(entry, path)
    return facts


def check_id(name: object, path: Path) -> str:
    """Return the id of a recording if it can be the name of a file in a folder.

    Raises
    ------
    DataError
        If it is empty, begins with a full stop, is too long, or holds a slash, a backslash or a
        control character. The message names `path`, the file that has it.
    """
    if (
        not isinstance(name, str)
        or not name
        or name.startswith(".")
        or len(name.encode(errors="replace")) > LONGEST_ID
        or any(c in "/\\" or not (c.isprintable()) for c in name)
    ):
        raise DataError(
            f"{path}: {name!r} cannot be the id of a recording: it would be the name of a file; "
            f"expected 1 to {LONGEST_ID} bytes without / and \\, not beginning with a full stop",
            code="MAN-NAME",
        )
    return name


def listed_hashes(folder: Path, kind: str) -> dict[str, str]:
    """Read the SHA-256 of each file from a folder's manifest; empty if there is no manifest.

    Raises
    ------
    DataError
        If the folder is of another format.
    """
    if not (folder / MANIFEST).exists():
        return {}
    hashes: dict[str, str] = read_manifest(folder, kind).get("files", {})
    return hashes


def refuse_foreign(folder: Path, kind: str, names: Collection[str] = ()) -> None:
    """Refuse to write into a folder that holds anything but a folder of ours of the same kind.

    Parameters
    ----------
    kind
        Format of the folder to be written.
    names
        Files that may lie there without a manifest: what an interrupted command leaves.

    Raises
    ------
    OutputError
        If the folder has a manifest of another format, or other files and no manifest.
    """
    if not folder.is_dir():
        return
    path = folder / MANIFEST
    if path.exists():
        facts = read_json(path)
        made = facts.get("format") if isinstance(facts, dict) else None
        if made != kind:
            raise OutputError(
                f"{folder}: holds {made or 'something else with a manifest'}; expected {kind} or "
                "an empty folder",
                hint="give a folder of its own",
                code="OUT-OURS",
            )
        return
    visible = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    if foreign := [name for name in visible if name not in names]:
        raise OutputError(
            f"{folder}: holds other files, such as {foreign[0]}; expected {kind} or an empty "
            "folder",
            hint="give a folder of its own",
            code="OUT-OURS",
        )


# --- what is used is what was written -------------------------------------------------------------


def check_hash(path: Path, expected: str | None) -> None:
    """Compare a file with its SHA-256; None, of a folder that lists no sums, is not compared.

    Raises
    ------
    DataError
        If they differ.
    """
    if expected is not None and sha256(need(path)) != expected:
        raise DataError(
            f"{path}: its content is not what the manifest beside it says: it was changed or "
            "damaged since it was written",
            hint=f"'sleeptools verify {quoted(path.parent)}' lists all such files; run again the "
            "command that made them",
            code="MAN-HASH",
        )


def check_listed(path: Path, levels: int = 1) -> bool:
    """Compare a file with the manifest of its folder, if that is one of ours and lists it.

    Parameters
    ----------
    levels
        Number of folders above the file that may have the manifest.

    Returns
    -------
    listed
        Whether a manifest lists it.

    Raises
    ------
    DataError
        If they differ.
    """
    path = path.absolute()
    if not path.is_file():
        return False
    for folder in path.parents[:levels]:
        manifest = folder / MANIFEST
        if manifest.is_file():
            facts = read_json(manifest)
            if isinstance(facts, dict) and str(facts.get("format")).startswith(FORMATS):
                name = path.relative_to(folder).as_posix()
                expected = _checked(facts, manifest).get("files", {}).get(name)
                if expected is not None:
                    check_hash(path, expected)
                    return True
    return False


def verify(folder: Path, manifest: str = MANIFEST) -> list[str]:
    """Compare the files of a folder with its manifest; return a line for each that differs."""
    if need(folder, "folder").is_file():
        raise DataError(
            f"{folder}: is a file",
            hint="give the folder with its manifest.json",
            code="FACT-FORMAT",
        )
    problems = []
    for name, expected in _facts(folder / manifest).get("files", {}).items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif sha256(path) != expected:
            problems.append(f"{name}: content differs from the manifest")
    return problems


def unlisted(folder: Path, *manifests: str) -> list[str]:
    """List the files in a folder that none of its manifests has, and `verify` cannot check.

    Parameters
    ----------
    manifests
        Paths of further manifests within the folder, whose files are named from the folder.
    """
    known = {MANIFEST, *manifests}
    for name in known.copy():
        if (folder / name).is_file():
            known |= _facts(folder / name).get("files", {}).keys()
    names = (p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file())
    return [str(n) for n in names if str(n) not in known and not _is_hidden(n)]


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)
