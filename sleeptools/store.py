"""Files between the commands: the one module that opens files for writing.

Everything is written beside its name, flushed to the disk and renamed into place, so that a
reader sees the old file or the new one and never half of one. Arrays are safetensors (little
endian, memory-mapped on reading), tables parquet, settings TOML, facts JSON. docs/formats.md has
the formats with their versions.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError, MissingInputError, OutputError, StorageError

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[Any]
DTYPES = {
    "F32": "<f4", "F64": "<f8", "I8": "|i1", "U8": "|u1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
}  # fmt: skip
CODES = {np.dtype(v): k for k, v in DTYPES.items()}
WRITTEN_BY = {
    f"sleeptools-{kind}": f"give the folder that 'sleeptools {command}' wrote"
    for kind, command in (("recordings", "convert"), ("epochs", "preprocess"), ("run", "train"))
}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


# --- writing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to beside `path`; it takes the name when it is whole and on the disk.

    For libraries that open files themselves; everything else uses `atomic_write`.

    Raises
    ------
    StorageError
        If the disk is full or a quota is reached; nothing is left behind.
    OutputError
        If the folder cannot be created or written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as e:
        if e.filename not in (None, str(part), str(path), str(path.parent)):
            raise  # an input that could not be read
        if e.errno in DISK_FULL:
            raise StorageError(
                f"{path}: {e.strerror}", hint="free some space and run the command again"
            ) from e
        if e.errno == errno.EIO:
            raise StorageError(f"{path}: {e.strerror}") from e
        raise OutputError(f"{path}: cannot be written: {e.strerror}") from e
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only when it is whole and on the disk.

    Raises as `atomic_path`.
    """
    with atomic_path(path) as part, part.open("wb") as file:
        yield file
        file.flush()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a killed writer left unfinished in a folder."""
    for part in folder.glob(".*.part"):
        pid = part.name.split(".")[-2]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object) -> None:
    """Write facts as JSON; NaN becomes null, which every JSON reader takes."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case np.generic():
            return _plain(value.item())
        case float() if value != value:  # noqa: PLR0124 - NaN
            return None
        case Path():
            return str(value)
    return value


def write_toml(path: Path, value: Mapping[str, Any]) -> None:
    """Write settings as TOML."""
    import tomli_w

    write_text(path, tomli_w.dumps(dict(value)))


def write_table(path: Path, table: pl.DataFrame, *, csv: bool = False) -> None:
    """Write a table as parquet, and with `csv` the same beside it for people."""
    with atomic_write(path) as file:
        table.write_parquet(file)
    if csv:
        write_text(path.with_suffix(".csv"), table.write_csv())


def write_tensors(
    path: Path,
    layout: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]],
    fill: Callable[[str], Iterable[Array]],
    facts: Mapping[str, object],
) -> None:
    """Write named arrays one after the other, never holding more than one piece in memory.

    Parameters
    ----------
    layout
        Name to dtype and shape, known beforehand.
    fill
        Gives an array's values in C order, in pieces of any size.
    facts
        JSON-serialisable; `format` and `version` among them.
    """
    header: dict[str, object] = {
        "__metadata__": {k: json.dumps(v) for k, v in facts.items()}  # a "1" stays a text
    }
    position = 0
    for name, (dtype, shape) in layout.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": CODES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, shape) in layout.items():
            written = 0
            for piece in fill(name):
                values = np.ascontiguousarray(piece, dtype)
                file.write(values.data.cast("B") if values.size else b"")
                written += values.size
            assert written == np.prod(shape, dtype=np.int64), f"{name}: {written} of {shape}"


def write_arrays(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, object]) -> None:
    """Write named arrays that are in memory already."""
    layout = {name: (a.dtype, a.shape) for name, a in arrays.items()}
    write_tensors(path, layout, lambda name: [arrays[name]], facts)


# --- reading --------------------------------------------------------------------------------------


def need(path: Path, what: str = "file") -> Path:
    """Return the path if it exists.

    Raises
    ------
    MissingInputError
        If not; the hint names what is in the nearest folder that exists.
    """
    if path.exists():
        return path
    parent = next(p for p in path.absolute().parents if p.is_dir())
    near = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))[:8]
    raise MissingInputError(
        f"{path}: no such {what}", hint=f"{parent} holds: {', '.join(near) or 'nothing'}"
    )


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(need(path).read_text())
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid JSON: {e}") from e


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        return tomllib.loads(need(path).read_text())
    except ValueError as e:
        raise DataError(f"{path}: not valid TOML: {e}") from e


def read_table(path: Path) -> pl.DataFrame:
    """Read a parquet table."""
    import polars as pl

    try:
        return pl.read_parquet(need(path))
    except pl.exceptions.PolarsError as e:
        raise DataError(f"{path}: not a readable parquet table: {e}") from e


@dataclass(frozen=True)
class Tensors:
    """A safetensors file: arrays mapped from the disk, and the facts in its header."""

    path: Path
    arrays: Mapping[str, Array] = field(repr=False)
    facts: Mapping[str, Any]

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise DataError(f"{self.path}: holds no array {name!r}")
        return self.arrays[name]


def read_tensors(path: Path, kind: str = "", version: int = 1) -> Tensors:
    """Map a safetensors file.

    Parameters
    ----------
    kind, version
        The format name that its facts must carry, and the newest version understood; no check
        where `kind` is empty.

    Raises
    ------
    DataError
        If it is damaged, of another kind, or of a newer version.
    """
    size = need(path).stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:  # noqa: PLR2004 - the length field itself
            raise DataError(f"{path}: not a safetensors file, or cut short")
        try:
            header = json.loads(file.read(length))
            raw = header.pop("__metadata__", {})
            facts = {k: _parse(v) for k, v in raw.items()}
            whole = np.memmap(path, np.uint8, "r") if size > 8 + length else np.empty(0, np.uint8)
            arrays = {k: _view(whole, 8 + length, v) for k, v in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise DataError(f"{path}: damaged safetensors header: {e}") from e
    check_format(facts, path, kind, version)
    return Tensors(path, arrays, facts)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _view(whole: Array, base: int, entry: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    count = int(np.prod(shape, dtype=np.int64))
    if stop - start != count * dtype.itemsize or base + stop > max(len(whole), base):
        raise ValueError("offsets do not fit the file")
    if not count:
        return np.empty(shape, dtype)
    view: Array = np.ndarray(shape, dtype, whole, base + start)
    return view


def check_format(facts: Mapping[str, Any], path: Path, kind: str, version: int) -> None:
    """Refuse a file or folder of another kind or of a newer version than this program knows."""
    if kind and facts.get("format") != kind:
        raise DataError(
            f"{path}: expected {kind}, found {facts.get('format') or 'no format name'}",
            hint=WRITTEN_BY.get(kind),
        )
    if kind and int(facts.get("version", 0)) > version:
        raise DataError(
            f"{path}: {kind} version {facts['version']}; this program reads up to {version}",
            hint="install a newer sleeptools",
        )


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> dict[str, object]:
    """Size, time and hash of an input, to tell whether it has changed."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256(path)}


def unchanged(path: Path, known: Mapping[str, Any] | None) -> bool:
    """Tell whether a file is the one fingerprinted before (by size and time; then by hash)."""
    if not known or not path.exists() or path.stat().st_size != known.get("size"):
        return False
    if path.stat().st_mtime_ns == known.get("mtime_ns"):
        return True
    return sha256(path) == known.get("sha256")


# --- folders --------------------------------------------------------------------------------------


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
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "environment": environment(),
                **self.facts,
                "files": {str(p.relative_to(folder)): sha256(p) for p in sorted(files)},
            },
        )


def environment() -> dict[str, object]:
    """Versions and machine, as they go into every manifest."""
    found: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("sleeptools", "numpy", "scipy", "torch", "polars", "pyedflib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    root = Path(__file__).parent.parent
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
        If another living process holds it, or the folder cannot be made; a dead process's lock on
        this host is taken over.
    """
    path = folder / ".lock"
    mine = json.dumps(
        {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}
    )
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
    if not here or Path(f"/proc/{held.get('pid')}").exists():
        raise OutputError(
            f"{folder}: in use by process {held.get('pid')} on {held.get('host')} "
            f"since {held.get('since')}",
            hint=f"wait for it; if it is surely gone, remove {path}",
        )
    aside = path.with_name(f".lock.{os.getpid()}.stale")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)  # only one of several gets it
        if aside.read_text() != text:  # another was faster, and this is its new lock
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()
