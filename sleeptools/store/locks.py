"""Locks: one writer at a time in a folder, or of a file that stands by itself.

A lock is a file that its holder keeps open and locked (flock), so that the kernel frees it with the
holder's end, whatever container that was in. Where a file system has no such locks, as some NFS,
the text of the file decides: machine and start of it, PID namespace, process and start of that.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sleeptools.errors import OutputError, SleeptoolsError, StorageError
from sleeptools.store.files import DISK_FULL, create_draft, draft_path, lock_descriptor, sweep

LOCK_FILE = ".lock"
RETRY = 0.05  # s between two looks at a lock that another process holds
MOST_TRIES = 100  # of claiming a lock that nobody holds and that goes away again


@contextlib.contextmanager
def lock(folder: Path, *subfolders: str, wait: float = 0) -> Iterator[None]:
    """Lock a folder, so that no second process writes to it, and remove what killed ones left.

    Parameters
    ----------
    folder
        Folder to write; made if it is missing, and removed again if nothing was put into it.
    subfolders
        Patterns of folders in it that the same holder writes: unfinished files go there, too.
    wait
        Time to wait for a running process that holds the lock, s.

    Raises
    ------
    OutputError
        If a running process holds the lock, or the folder cannot be made.
    StorageError
        If the disk is full.
    """
    fresh = not folder.exists()
    try:
        with _holding(folder / LOCK_FILE, folder, wait):
            for pattern in (".", *subfolders):
                for swept in folder.glob(pattern) if pattern != "." else (folder,):
                    sweep(swept)
            yield
    finally:
        if fresh:
            with contextlib.suppress(OSError):  # it holds something now
                folder.rmdir()


@contextlib.contextmanager
def lock_file(path: Path, *companions: Path) -> Iterator[None]:
    """Lock a single output file, such as a report, in a folder that may be anybody's.

    Raises as `lock`.

    Parameters
    ----------
    companions
        Files that the same holder writes beside it, each with a lock of its own: other files may
        have the same companion.
    """
    with contextlib.ExitStack() as stack:
        for written in (path, *companions):
            stack.enter_context(_holding(written.with_name(f".{written.name}.lock"), written))
            sweep(written.parent, written.name)
        yield


def clear_stale_lock(folder: Path) -> bool:
    """Remove what a killed process left in a folder: its lock and its unfinished files.

    Returns
    -------
    free
        Whether no living process holds the folder.
    """
    path = folder / LOCK_FILE
    try:
        while path.exists():
            _remove_dead(path, folder)
    except OutputError:
        return False
    sweep(folder)
    return True


def is_locked(folder: Path) -> bool:
    """Tell whether a living process holds a folder, and change nothing."""
    try:
        handle = _open(folder / LOCK_FILE)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as file:
        is_free = lock_descriptor(handle)
        return is_free is False or not _has_ended(_owner(file.read()), is_free=bool(is_free))


@contextlib.contextmanager
def _holding(path: Path, target: Path, wait: float = 0) -> Iterator[None]:
    """Hold a lock file; `target` is what it stands for, in messages."""
    until = time.monotonic() + wait
    tries = itertools.count()
    try:
        while (handle := _claim(path)) is None:
            if next(tries) > MOST_TRIES:  # as in /proc, where a folder is there and takes no file
                raise FileNotFoundError(errno.ENOENT, "no file can be made there")
            try:
                _remove_dead(path, target)
            except OutputError:
                if time.monotonic() >= until:
                    raise
                tries = itertools.count()  # somebody holds it, and may let it go
                time.sleep(RETRY)
    except OSError as e:
        raise _not_writable(target, e) from e
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # else the next command finds it without a holder
            if os.path.samestat(path.stat(), os.fstat(handle)):
                path.unlink()
        os.close(handle)


def _not_writable(target: Path, error: OSError) -> SleeptoolsError:
    if error.errno in DISK_FULL or error.errno == errno.EIO:
        return StorageError(
            f"{target}: {error.strerror}",
            hint="free some space and run the command again",
            code="DISK-ERROR" if error.errno == errno.EIO else "DISK-FULL",
        )
    return OutputError(
        f"{target}: cannot be written: {error.strerror}",
        hint="give another place",
        code="OUT-WRITE",
    )


def _claim(path: Path) -> int | None:
    """Create a lock in one step, as a link to a finished and locked file, so it is never empty.

    Returns
    -------
    handle
        Its open descriptor; None if there is a lock already, or the folder was just removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft, handle = create_draft(path, 0o644)
    except FileNotFoundError:  # the holder before took the empty folder with it
        return None
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:  # all of it: a disk may take a part
            file.write(json.dumps(_process()).encode())
        os.link(draft, path)
    except BaseException as e:
        os.close(handle)
        if isinstance(e, FileExistsError | FileNotFoundError):  # or the folder went meanwhile
            return None
        raise
    finally:
        with contextlib.suppress(OSError):  # `sweep` knows it
            draft.unlink(missing_ok=True)
    return handle


def _remove_dead(path: Path, target: Path) -> None:
    """Remove the lock of a process that has ended, or raise; of two that try, one succeeds."""
    try:
        handle = _open(path)
    except FileNotFoundError:
        return
    with os.fdopen(handle, "rb") as file:
        is_free = lock_descriptor(handle)
        text = file.read()
        owner = _owner(text)
        if is_free is False or not _has_ended(owner, is_free=bool(is_free)):
            raise OutputError(
                f"{target}: in use by process {owner.get('pid')} on {owner.get('host')} "
                f"since {owner.get('since')}",
                hint=f"wait for it; if it is surely gone, remove {path}",
                code="OUT-LOCK",
            )
        with contextlib.suppress(FileNotFoundError):
            if not is_free:
                _set_aside(path, text)
            elif os.path.samestat(path.stat(), os.fstat(handle)):
                path.unlink()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # NFS locks no file that is only read
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _set_aside(path: Path, text: bytes) -> None:
    """Remove a lock where the file system has no flock: a rename succeeds in one process only."""
    aside = draft_path(path)
    path.rename(aside)
    if aside.read_bytes() != text:  # another process was faster, and this is its new lock
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


# --- who holds a lock -----------------------------------------------------------------------------


def _owner(text: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _process() -> dict[str, Any]:
    """Describe this process, so that others can tell whether it still runs."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%F %T"),
        **_slurm_start(),
    }


@cache
def _boot() -> str:
    """Id of this start of the machine; the same in all its containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Id of the namespace that process numbers are of."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: object) -> int:
    """Start of a process, in clock ticks after that of the machine; -1 if it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(text.rpartition(")")[2].split()[19])  # field 22; the second may hold anything


def _slurm_start() -> dict[str, Any]:
    """Slurm job of this process, and how often it was requeued; empty outside Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"job": job, "start": int(os.environ.get("SLURM_RESTART_COUNT", "0"))} if job else {}


def _has_ended(owner: dict[str, Any], *, is_free: bool) -> bool:
    """Tell whether the holder of a lock has surely ended.

    An earlier start of the same Slurm job has, on whatever host: Slurm starts a job again only
    after it has ended.

    Parameters
    ----------
    is_free
        Whether the kernel says that no process holds the file.
    """
    job = _slurm_start()
    if job and owner.get("job") == job["job"] and owner.get("start", 0) < job["start"]:
        return True
    if not owner:
        return is_free
    is_here = owner.get("host") == socket.gethostname()
    pid = owner.get("pid")
    if not owner.get("boot"):  # of a version that held no descriptor
        return is_here and (pid == os.getpid() or not Path(f"/proc/{pid}").exists())
    if owner["boot"] != _boot():
        return is_here  # and was started again since
    is_gone = owner.get("namespace") == _namespace() and _started(pid) != owner.get("started")
    return is_free or is_gone
