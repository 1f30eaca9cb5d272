"""`fetch`: download a data set from its publisher, every file checked by its SHA-256.

The publisher's list of sums comes first and stays in the folder: it names the data set's files. The
data set's module knows the list's own SHA-256, so that a mirror need not be trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import ModuleType
from urllib.parse import quote

from sleeptools import datasets, registry, store
from sleeptools.datasets.download import http, transfer
from sleeptools.datasets.download.http import RetryPolicy
from sleeptools.datasets.download.transfer import DONE, OnProgress, RemoteFile
from sleeptools.errors import DataError, UnavailableError, stoppable


@dataclass(frozen=True)
class Server:
    """The server that the files come from.

    Parameters
    ----------
    base_url
        Address of a mirror with the publisher's layout; the publisher's own if left out.
    trust_sums
        Accept the server's list of sums even if it is not the published one.
    policy
        When to try a request again, and when to give up.
    """

    base_url: str | None = None
    trust_sums: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)


def plan(
    dataset: str,
    dest: Path,
    server: Server | None = None,
    *,
    subset: str | None = None,
    jobs: int = 4,
) -> list[RemoteFile]:
    """List the files that `fetch` would download, with their state and size; write nothing.

    Parameters and errors are those of `fetch`.
    """
    server = server or Server()
    address, files, _ = _source(dataset, dest, server, subset)

    def sized(file: RemoteFile) -> RemoteFile:
        local = transfer.check_local_file(file, dest)
        if local.state == DONE:
            return replace(local, size=(dest / file.name).stat().st_size)
        with contextlib.suppress(DataError):  # `fetch` reports it
            return replace(local, size=http.fetch_size(address + quote(local.name), server.policy))
        return local

    pool = ThreadPoolExecutor(jobs)
    try:
        return list(pool.map(sized, files))
    finally:
        pool.shutdown(cancel_futures=True)


def fetch(
    dataset: str,
    dest: Path,
    server: Server | None = None,
    on_progress: OnProgress = transfer.ignore_progress,
    *,
    subset: str | None = None,
    jobs: int = 4,
) -> Path:
    """Download a data set; finished files are skipped, partial ones are continued.

    Parameters
    ----------
    dataset
        Name of a data set that has an address, for example "sleep-edf".
    dest
        Folder to write, in the publisher's layout.
    server
        Where the files come from; the publisher if left out.
    on_progress
        Called after every piece and at the end of every file, in this thread.
    subset
        Only the files that this subset needs, for example "20"; all if left out.
    jobs
        Number of files at a time.

    Raises
    ------
    UnavailableError
        If the data set has no address, or the server cannot be reached.
    DataError
        If the list of sums is not the published one, or, after all others, if any file failed.
    StorageError, OutputError
        If the disk is full, or `dest` cannot be written.
    Stopped
        At a stop signal; what has been received is kept.
    """
    server = server or Server()
    with stoppable():
        address, files, sums = _source(dataset, dest, server, subset)
        with store.lock(dest):
            store.write_text(dest / datasets.SUMS, sums)
            outcome = transfer.fetch_files(
                files, address, dest, server.policy, on_progress, jobs=jobs
            )
            outcome.write_failures(dest)
    outcome.raise_failures(dest)
    return dest


# --- the files of a data set ----------------------------------------------------------------------


def how_to_get(dataset: str) -> str:
    """Return how to obtain a data set by hand; empty for one that `fetch` can download."""
    return str(getattr(registry.load("datasets", dataset), "HOW_TO_GET", ""))


def _source(
    dataset: str, dest: Path, server: Server, subset: str | None
) -> tuple[str, list[RemoteFile], str]:
    """Return the address, the files below it, and the text of the list that names them."""
    module = registry.load("datasets", dataset)
    datasets.in_subset(module, "", subset)  # raises for an unknown subset
    if not hasattr(module, "ADDRESS"):
        raise UnavailableError(
            f"{dataset} cannot be fetched by a command",
            hint=f"once its files are there: 'sleeptools preprocess {dataset} FOLDER'",
            code="SET-FETCH",
        )
    address = http.check_address(server.base_url or module.ADDRESS)
    sums = _sums(module.SUMS_SHA256, address, dest, server)
    return address, _remote_files(module, sums, subset), sums


def _sums(published: str, address: str, dest: Path, server: Server) -> str:
    """Return the publisher's list of sums; the folder's own copy if it is the published one."""
    path = dest / datasets.SUMS
    if not server.trust_sums and path.is_file() and store.sha256(path) == published:
        return path.read_text(encoding="utf-8")
    url = address + datasets.SUMS
    data = http.fetch_bytes(url, server.policy)
    if not server.trust_sums and hashlib.sha256(data).hexdigest() != published:
        raise DataError(
            f"{url}: is not the list that the publisher gives out (SHA-256 {published})",
            hint="files from there could be anything; `trust_sums` takes them by the server's list",
            code="SUM-LIST",
        )
    return data.decode(errors="replace")


def _remote_files(module: ModuleType, sums: str, subset: str | None) -> list[RemoteFile]:
    digests = datasets.read_sums(sums, datasets.SUMS)
    for name in digests:
        if PurePosixPath(name).is_absolute() or {"..", "."} & set(name.split("/")):
            raise DataError(
                f"{datasets.SUMS}: {name!r} would be written outside of the folder", code="SUM-LINE"
            )
    names = module.published(digests, subset)
    if not names:
        raise DataError(
            f"{datasets.SUMS}: names no files of the subset {subset!r}", code="SET-SUBSET"
        )
    return [RemoteFile(name, digests[name]) for name in names]
