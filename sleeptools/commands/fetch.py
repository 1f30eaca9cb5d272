"""`fetch`: a data set's files from their publisher, several at a time, each with its sum checked.

The publisher's list of sums comes first and stays in the folder: it says which files there are. Its
own sum is known to the data set, so that a mirror need not be trusted.
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
from sleeptools.datasets.download.http import Patience
from sleeptools.datasets.download.transfer import DONE, Show, Wanted
from sleeptools.errors import DataError, UnavailableError
from sleeptools.store import workers


@dataclass(frozen=True)
class Server:
    """Where the files come from.

    Parameters
    ----------
    base_url
        Of a mirror with the publisher's layout; the publisher's own if left out.
    trust_sums
        Take its list of sums although it is not the published one.
    """

    base_url: str | None = None
    trust_sums: bool = False
    patience: Patience = field(default_factory=Patience)


def plan(
    dataset: str,
    dest: Path,
    server: Server | None = None,
    *,
    subset: str | None = None,
    jobs: int = 4,
) -> list[Wanted]:
    """Tell what `fetch` would fetch, and how long each file is where that is known.

    Writes nothing; parameters and errors as `fetch`.
    """
    server = server or Server()
    address, files, _ = _source(dataset, dest, server, subset)

    def sized(wanted: Wanted) -> Wanted:
        found = transfer.look(wanted, dest)
        if found.state == DONE:
            return replace(found, size=(dest / wanted.name).stat().st_size)
        with contextlib.suppress(DataError):  # fetch itself will say so
            return replace(found, size=http.size(address + quote(found.name), server.patience))
        return found

    pool = ThreadPoolExecutor(jobs)
    try:
        return list(pool.map(sized, files))
    finally:
        pool.shutdown(cancel_futures=True)


def fetch(
    dataset: str,
    dest: Path,
    server: Server | None = None,
    show: Show = transfer.ignore,
    *,
    subset: str | None = None,
    jobs: int = 4,
) -> Path:
    """Fetch a data set's files; what is there and right is skipped, what was begun is continued.

    Parameters
    ----------
    dataset
        One that has an address, for example "sleep-edf".
    dest
        Folder to write, in the publisher's layout.
    server
        The publisher's if left out.
    show
        Told about every piece, in this thread.
    subset
        Only what this subset needs, for example "20".
    jobs
        Files at a time.

    Raises
    ------
    UnavailableError
        If the data set cannot be had by a command, or the server cannot be reached.
    DataError
        If the list of sums is not the published one; at the end, if any file failed.
    StorageError, OutputError
        If the disk is full, or `dest` cannot be written.
    Stopped
        At a stop signal; what has come is kept.
    """
    server = server or Server()
    with workers.stoppable():
        address, files, sums = _source(dataset, dest, server, subset)
        with store.lock(dest):
            store.write_text(dest / datasets.SUMS, sums)
            outcome = transfer.run(files, address, dest, server.patience, show, jobs=jobs)
            outcome.write_failures(dest)
    outcome.raise_failures(dest)
    return dest


# --- what there is --------------------------------------------------------------------------------


def how_to_get(dataset: str) -> str:
    """Tell how a person gets a data set that no command can fetch; empty for one that it can."""
    return str(getattr(registry.load("datasets", dataset), "HOW_TO_GET", ""))


def _source(
    dataset: str, dest: Path, server: Server, subset: str | None
) -> tuple[str, list[Wanted], str]:
    """Give the address, the files there, and the text of the list that names them."""
    module = registry.load("datasets", dataset)
    datasets.in_subset(module, "", subset)  # raises for one that there is not
    if not hasattr(module, "ADDRESS"):
        raise UnavailableError(
            f"{dataset} cannot be fetched by a command",
            hint=f"once its files are there: sleeptools preprocess {dataset} FOLDER",
        )
    address = http.check_address(server.base_url or module.ADDRESS)
    sums = _sums(module.SUMS_SHA256, address, dest, server)
    return address, _wanted(module, sums, subset), sums


def _sums(published: str, address: str, dest: Path, server: Server) -> str:
    """Get the publisher's list of sums: the folder's own if it is the published one."""
    there = dest / datasets.SUMS
    if not server.trust_sums and there.is_file() and store.sha256(there) == published:
        return there.read_text()
    url = address + datasets.SUMS
    data = http.read(url, server.patience)
    if not server.trust_sums and hashlib.sha256(data).hexdigest() != published:
        raise DataError(
            f"{url}: is not the list that the publisher gives out (SHA-256 {published})",
            hint="files from there could be anything; `trust_sums` takes them by the server's list",
        )
    return data.decode(errors="replace")


def _wanted(module: ModuleType, sums: str, subset: str | None) -> list[Wanted]:
    found = datasets.read_sums(sums, datasets.SUMS)
    for name in found:
        if PurePosixPath(name).is_absolute() or {"..", "."} & set(name.split("/")):
            raise DataError(f"{datasets.SUMS}: {name!r} would be written outside of the folder")
    names = module.published(found, subset)
    if not names:
        raise DataError(f"{datasets.SUMS}: names no files of the subset {subset!r}")
    return [Wanted(name, found[name]) for name in names]
