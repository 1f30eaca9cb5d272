"""Read and write single files (JSON, TOML, parquet, text); writing is atomic, hashing included."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import errno
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import re
import secrets
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np

from sleeptools.errors import (
    DataError,
    MissingInputError,
    OutputError,
    SleeptoolsError,
    StorageError,
)
from sleeptools.store import causes, checks
from sleeptools.store.csv_text import table_csv

if TYPE_CHECKING:
    import polars as pl

FOLDER_HINTS = {
    f"sleeptools-{kind}": f"give the folder that 'sleeptools {command}' wrote"
    for kind, command in (("recordings", "convert"), ("epochs", "preprocess"), ("run", "train"))
}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DRAFT_NAME = re.compile(r"\..+\.(\d+)(-[0-9a-f]{8})?\.part")
"""Unfinished files: NAME, process, and letters drawn by chance, which earlier versions lack."""
SETTLED = 2_000_000_000  # ns after its last change, a file with the same time is the same file
_hashes: dict[tuple[int, ...], str] = {}
LARGEST_JSON, LARGEST_TOML = 64 << 20, 1 << 20  # bytes
CELL_BYTES = 8  # of a table in memory, at least
_STDERR = threading.Lock()  # held while stderr is turned aside
SHOWN: Final = 8  # names of a folder in a hint
HARMFUL = re.compile("[\x7f-\x9f\ud800-\udfff]")  # what json.dumps leaves as it is


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`; what is written there replaces `path` at the end.

    For libraries that open files themselves; everything else uses `atomic_write`.

    Raises
    ------
    StorageError
        If the disk is full or a quota is reached; the temporary file is removed.
    OutputError
        If the folder cannot be created or written to.
    """
    with write_errors(path, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft, handle = create_draft(path)
    try:
        with write_errors(path, draft):
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            move_into_place(draft, path)
    finally:
        with contextlib.suppress(OSError):  # what was wrong before is what counts
            draft.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # nothing was written through it
            os.close(handle)


def create_draft(path: Path, mode: int = 0o666) -> tuple[Path, int]:
    """Create a temporary file beside `path`, locked: until it is closed, `sweep` leaves it alone.

    Returns
    -------
    draft, handle
        Its path and its descriptor, open for reading and writing.

    Raises
    ------
    OSError
        If it cannot be created; the error names `path`.
    """
    while True:
        draft = draft_path(path)
        try:
            handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except OSError as e:
            raise OSError(e.errno, e.strerror, str(path)) from e
        if lock_descriptor(handle) is not False and draft.exists():
            return draft, handle
        os.close(handle)  # `sweep` came between, and removes it


def draft_path(path: Path) -> Path:
    """Name a temporary file beside `path` that no other process has."""
    hidden = path.name if path.name.startswith(".") else f".{path.name}"
    return path.with_name(f"{hidden}.{os.getpid()}-{secrets.token_hex(4)}.part")


def lock_descriptor(handle: int) -> bool | None:
    """Lock an open file until it is closed: False if another holds it, None without flock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def write_errors(path: Path, draft: Path) -> Iterator[None]:
    """Turn an OSError of writing `path`, by way of `draft`, into the errors of `atomic_path`.

    An OSError of another file, such as an input, is passed on.
    """
    try:
        yield
    except OSError as e:
        if e.filename not in (None, str(draft), str(path), str(path.parent)):
            raise  # an input that could not be read
        if e.errno in causes.ERRNO:
            raise cast(SleeptoolsError, causes.from_exception(e, str(path))) from e
        if e.errno is None and os.access(path.parent, os.W_OK):  # a library does not say why
            raise StorageError(
                f"{path}: cannot be written to its end: {e}", hint=causes.FULL[2], code="DISK-FULL"
            ) from e
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}", code="OUT-WRITE") from e


def move_into_place(draft: Path, path: Path) -> None:
    """Rename a finished draft to its final name, and flush the folder to the disk."""
    draft.replace(path)
    _sync_folder(path.parent)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, of which none gets its name before all are written; the first one last.

    Raises as `atomic_path`.
    """
    with contextlib.ExitStack() as stack:  # what is entered first is left last
        for path, content in contents.items():
            stack.enter_context(atomic_write(path)).write(content)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name only when it is complete and on the disk.

    Raises as `atomic_path`.
    """
    with atomic_path(path) as draft, draft.open("wb") as file:
        yield file
        file.flush()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, name: str = "") -> None:
    """Remove the unfinished files that killed processes left in a folder.

    Parameters
    ----------
    name
        Only those of the file of this name; all if empty.
    """
    for draft in folder.glob(f".{glob.escape(name) or '*'}.*.part"):
        with contextlib.suppress(OSError):  # it harms nobody
            _remove_abandoned(draft)


def _remove_abandoned(draft: Path) -> None:
    """Remove an unfinished file if the process that was writing it has ended.

    It is removed while it is locked, so that a process that has just created it notices.
    """
    if name := DRAFT_NAME.fullmatch(draft.name):
        handle = os.open(draft, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if _is_abandoned(name[1], name[2], lock_descriptor(handle)):
                draft.unlink()
        finally:
            os.close(handle)


def _is_abandoned(pid: str, token: str | None, is_free: bool | None) -> bool:
    """Tell whether nobody writes an unfinished file; `is_free` is what its flock says."""
    if is_free is not None and token:
        return is_free
    ours = not token and int(pid) == os.getpid()  # of an earlier process with our number
    return is_free is not False and (ours or not Path(f"/proc/{pid}").exists())


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object) -> None:
    """Write facts as JSON; NaN becomes null, which every JSON reader takes."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """Give the content of a JSON file."""
    text = json.dumps(plain_values(value), indent=2, ensure_ascii=False)
    return HARMFUL.sub(lambda c: f"\\u{ord(c[0]):04x}", text) + "\n"


def plain_values(value: Any) -> Any:
    """Turn facts into what JSON has: NaN into None, NumPy scalars and paths into plain values."""
    match value:
        case Mapping():
            return {str(k): plain_values(v) for k, v in value.items()}
        case list() | tuple():
            return [plain_values(v) for v in value]
        case np.generic():
            return plain_values(value.item())
        case float() if math.isnan(value):
            return None
        case Path():
            return str(value)
    return value


def write_toml(path: Path, value: Mapping[str, Any]) -> None:
    """Write settings as TOML."""
    import tomli_w

    write_text(path, tomli_w.dumps(dict(value)))


def write_table(path: Path, table: pl.DataFrame, *, csv: bool = False) -> None:
    """Write a table as parquet, and with `csv` also as a .csv file beside it."""
    with atomic_write(path) as file:
        table.write_parquet(file)
    if csv:
        write_text(path.with_suffix(".csv"), table_csv(table))


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """Give the content of a table's parquet file."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def csv_bytes(table: pl.DataFrame) -> bytes:
    """Give the content of a table's .csv file."""
    return table_csv(table).encode()


def write_columns(path: Path, table: pl.DataFrame) -> None:
    """Write a table of numbers as plain text: no header, a tab between columns, 3 decimals."""
    with atomic_write(path) as file:
        table.write_csv(file, include_header=False, separator="\t", float_precision=3)


def need(path: Path, noun: str = "file") -> Path:
    """Return the path if it exists.

    Parameters
    ----------
    noun
        What it is, for the message: "file", "folder", "run folder".

    Raises
    ------
    MissingInputError
        If it does not exist; the hint lists the nearest folder that does.
    """
    if path.exists():
        return path
    parent = next(p for p in path.absolute().parents if p.is_dir())
    near = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))
    held = ", ".join([*near[:SHOWN], *(["..."] if len(near) > SHOWN else [])]) or "nothing"
    lacking = path.absolute().relative_to(parent).parts
    existing = path.parts[: len(path.parts) - len(lacking)]
    similar = difflib.get_close_matches(lacking[0], near, 1)
    meant = Path(*existing, *similar, *lacking[1:])
    likely = f"did you mean {str(meant)!r}? " if similar and meant.exists() else ""
    raise MissingInputError(
        f"{path}: no such {noun}", hint=f"{likely}{parent} holds: {held}", code="FILE-MISSING"
    )


BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Read a text in UTF-8, or UTF-16 with a byte order mark, whatever the locale is.

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If it is in another encoding.
    """
    raw = need(path).read_bytes()
    encoding = next((name for mark, name in BOMS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        raise DataError(
            f"{path}: byte {raw[e.start]:#04x} at {e.start} is not {e.encoding}",
            hint="save the file as UTF-8",
            code="TEXT-ENCODING",
        ) from e


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        If it is not valid, too large, or nested too deeply.
    """
    try:
        facts = json.loads(_text(path, LARGEST_JSON))
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid JSON: {e}", code="JSON-SYNTAX") from e
    checks.check_depth(facts, path)
    return facts


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, UTF-8 with or without a byte order mark.

    Raises
    ------
    DataError
        If it is not valid, too large, or nested too deeply.
    """
    try:
        facts = tomllib.loads(_text(path, LARGEST_TOML))
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid TOML: {e}", code="TOML-SYNTAX") from e
    checks.check_depth(facts, path)
    return facts


def _text(path: Path, largest: int) -> str:
    """Read a text file of limited size: a list of lists takes twenty times its bytes in memory."""
    size = need(path).stat().st_size
    if size > largest:
        raise DataError(
            f"{path}: {size} bytes; such a file has at most {largest}", code="FILE-BUDGET"
        )
    return read_text(path)


def read_table(path: Path) -> pl.DataFrame:
    """Read a parquet table.

    Raises
    ------
    DataError
        If it is damaged, or would take more memory than its bytes can hold.
    """
    import polars as pl

    need(path)
    with _without_panics(path):
        lazy = pl.scan_parquet(path, cache=False, glob=False)
        rows = int(lazy.select(pl.len()).collect().item())
        width = len(lazy.collect_schema())
        checks.check_budget(path, rows * width * CELL_BYTES, f"its {rows} rows of {width} columns")
        return pl.read_parquet(path, glob=False)


@contextlib.contextmanager
def _without_panics(path: Path) -> Iterator[None]:
    """Turn every failure of polars into a DataError; a panic's own report is not shown.

    A panic is no Exception, and polars writes about it to the file descriptor of stderr. What is
    written there meanwhile is kept, and shown if there is no panic.
    """
    import polars as pl

    with _STDERR, contextlib.ExitStack() as stack:
        report = stack.enter_context(tempfile.TemporaryFile())
        try:
            stderr = os.dup(2)
        except OSError:  # it is closed
            stderr = -1
        else:
            os.dup2(report.fileno(), 2)
        panic = False
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
            panic = isinstance(e, pl.exceptions.PanicException)
            first = str(e).split("\n", 1)[0]
            raise causes.from_words(e, str(path)) or DataError(
                f"{path}: not a readable parquet table: {first}",
                hint=causes.AGAIN,
                code="TAB-READ",
            ) from e
        finally:
            if stderr >= 0:
                os.dup2(stderr, 2)
                os.close(stderr)
                report.seek(0)
                if not panic and (text := report.read()):
                    with contextlib.suppress(OSError):
                        os.write(2, text)


def check_format(facts: Mapping[str, Any], path: Path, kind: str, version: int) -> None:
    """Check format name and version of a file or folder.

    Parameters
    ----------
    facts
        Its `format` and `version`, among other keys.
    kind, version
        The format name expected, and the newest version understood; no check if `kind` is empty.

    Raises
    ------
    DataError
        If the format is another one, or the version is newer.
    """
    if not kind:
        return
    if facts.get("format") != kind:
        name = facts.get("format") or "no format name"
        found = name if isinstance(name, str) else checks.shown(name)
        raise DataError(
            f"{path}: expected {kind}, found {found}",
            hint=FOLDER_HINTS.get(kind),
            code="FACT-FORMAT",
        )
    checks.check_facts(facts, path, {"version": "whole?", "files": "hashes?"})
    if (facts.get("version") or 0) > version:
        raise DataError(
            f"{path}: {kind} version {facts['version']}; this program reads up to {version}",
            hint="install a newer sleeptools",
            code="FACT-NEWER",
        )


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal; once, while the file is the same."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if key not in _hashes:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time_ns() - stat.st_mtime_ns < SETTLED:  # it may change within a clock tick
                return digest
            _hashes[key] = digest
    return _hashes[key]


def fingerprint(path: Path) -> dict[str, object]:
    """Take size and SHA-256 of an input, so that a change can be noticed; a copy has the same."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def unchanged(path: Path, recorded: Mapping[str, Any] | None) -> bool:
    """Tell whether a file equals its recorded `fingerprint`."""
    if not recorded or not path.exists() or path.stat().st_size != recorded.get("size"):
        return False
    return sha256(path) == recorded.get("sha256")
