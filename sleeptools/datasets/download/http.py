"""Downloading one file over HTTP: resumed where it broke off, and verified by its SHA-256.

Built on urllib of the standard library: pooch, which the field uses for downloads, starts a broken
file again from its beginning, and a night of 50 MB over a slow line may break off more than once.
A file gets its name only after its SHA-256 was found right.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar

from sleeptools.errors import DataError, UnavailableError, UsageError
from sleeptools.store import PartialFile

CHUNK: Final = 1 << 18  # bytes at most between two calls of `on_bytes`, which may stop
LIST_LIMIT: Final = 4 << 20  # bytes at most of a file that is read into memory
MAX_WAIT: Final = 60.0  # s
BUSY: Final = {429, 502, 503, 504}  # the server fails, whichever file is asked for
TEMPORARY: Final = {408, 500} | BUSY
RANGE_NOT_SATISFIABLE: Final = 416  # the part is as long as the file, or longer
PARTIAL: Final = 206
MAX_WRONG_FILES: Final = 2  # complete files with another SHA-256: once may be the line's fault

OnBytes = Callable[[int, int | None], None]
"""Takes the bytes received and the bytes of the whole file, None if unknown; may raise to stop."""
T = TypeVar("T")
Answer = http.client.HTTPResponse


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a download is tried again.

    Parameters
    ----------
    attempts
        Number of attempts in a row without a new byte after which the download fails.
    seconds
        Wait after the first of these attempts, s; doubled after each further one, up to 60 s.
    timeout
        Time without a byte after which an attempt fails, s.
    wait
        Function that waits a number of seconds; `time.sleep` if left out.
    """

    attempts: int = 6
    seconds: float = 1.0
    timeout: float = 30.0
    wait: Callable[[float], object] | None = None


class _AttemptFailed(Exception):  # noqa: N818 - not an error yet: it is tried again
    """One attempt failed; `concerns_all` if every other file of the server would fail too."""

    def __init__(self, reason: str, *, concerns_all: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.concerns_all = concerns_all
        self.after = after


def check_address(url: str) -> str:
    """Check that an address is one of HTTP or HTTPS, and return it with a slash at its end.

    Raises
    ------
    UsageError
        If it is not.
    """
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UsageError(f"{url!r} is no address of a server; expected http://... or https://...")
    return url.rstrip("/") + "/"


def fetch_bytes(url: str, policy: RetryPolicy) -> bytes:
    """Download a small file into memory.

    Raises
    ------
    DataError
        If there is no such file, or it is larger than 4 MiB.
    UnavailableError
        If the server cannot be reached.
    """

    def attempt() -> bytes:
        with _open(url, 0, policy) as answer:
            data = _read_body(answer, LIST_LIMIT + 1)
            _check_length(answer, len(data))
        if len(data) > LIST_LIMIT:
            raise DataError(
                f"{url}: more than {LIST_LIMIT >> 20} MiB; expected a list of files",
                code="SUM-LIST",
            )
        return data

    return _with_retries(url, attempt, lambda: 0, policy)


def fetch_size(url: str, policy: RetryPolicy) -> int | None:
    """Ask the server for the size of a file, bytes; None where it does not say.

    Raises
    ------
    DataError
        If there is no such file.
    UnavailableError
        If the server cannot be reached.
    """

    def attempt() -> int | None:
        with _open(url, 0, policy, method="HEAD") as answer:
            return _content_length(answer)

    return _with_retries(url, attempt, lambda: 0, policy)


def fetch_file(url: str, path: Path, sha256: str, on_bytes: OnBytes, policy: RetryPolicy) -> None:
    """Download a file; what an earlier call left in PATH.part is continued.

    Parameters
    ----------
    url
        Address of the file.
    path
        File to write.
    sha256
        Expected SHA-256, hexadecimal.
    on_bytes
        Called after every piece with the bytes received and the bytes of the whole file, None if
        unknown; may raise to stop.
    policy
        When to try again, and when to give up.

    Raises
    ------
    DataError
        If there is no such file, its SHA-256 is another one, or it repeatedly breaks off at the
        same byte.
    UnavailableError
        If the server cannot be reached, or refuses all requests.
    StorageError, OutputError
        If the file cannot be written; see `store.PartialFile`.
    """
    partial_file = PartialFile(path)
    wrong = 0

    def attempt() -> None:
        nonlocal wrong
        from_first_byte = _continue_part(url, partial_file, on_bytes, policy)
        length = partial_file.size
        if partial_file.finish(sha256):
            return
        wrong += from_first_byte
        if wrong == MAX_WRONG_FILES:
            raise DataError(
                f"{url}: its SHA-256 is not {sha256}, {MAX_WRONG_FILES} times",
                hint="the server has another file, or something on the way changes it",
                code="SUM-HASH",
            )
        raise _AttemptFailed(f"what came ({length} bytes) is not the file")

    _with_retries(url, attempt, lambda: partial_file.size, policy)


def _continue_part(
    url: str, partial_file: PartialFile, on_bytes: OnBytes, policy: RetryPolicy
) -> bool:
    """Download the rest of a part; return whether this answer held the whole file."""
    begin = partial_file.size
    try:
        answer = _open(url, begin, policy)
    except urllib.error.HTTPError as e:
        with e:
            return False  # the part is not shorter than the file: its SHA-256 decides
    with answer:
        ranges = str(answer.headers.get("Content-Range", ""))
        if answer.status != PARTIAL or not ranges.startswith(f"bytes {begin}-"):
            begin = 0  # the server ignores the range and sends the whole file
        length = _content_length(answer)
        total = None if length is None else begin + length
        received = begin
        with partial_file.open(begin) as write:
            on_bytes(received, total)
            while data := _read_piece(answer, CHUNK):
                write(data)
                received += len(data)
                on_bytes(received, total)
        _check_length(answer, received - begin)
    return begin == 0


def _with_retries(
    url: str, attempt: Callable[[], T], received: Callable[[], int], policy: RetryPolicy
) -> T:
    """Try until an attempt succeeds; failures with new bytes start the count again at one.

    `received` returns the number of bytes on disk.
    """
    failures, longest = 0, received()
    while True:
        try:
            return attempt()
        except _AttemptFailed as e:
            failures = 1 if received() > longest else failures + 1
            longest = max(longest, received())
            if failures >= policy.attempts:
                hint = "run the same command again to continue where it stopped"
                text = f"{url}: {e}, {failures} times"
                if e.concerns_all:
                    raise UnavailableError(text, hint=hint, code="NET-REACH") from e
                raise DataError(text, hint=hint, code="NET-BROKEN") from e
            wait = policy.wait or time.sleep
            wait(min(MAX_WAIT, max(e.after, policy.seconds * 2 ** (failures - 1))))


def _open(url: str, begin: int, policy: RetryPolicy, method: str = "GET") -> Answer:
    """Request a file from byte `begin` on; raise HTTPError only where the file is not longer."""
    heads = {"User-Agent": f"sleeptools/{metadata.version('sleeptools')}"}
    if begin:
        heads["Range"] = f"bytes={begin}-"
    request = urllib.request.Request(url, headers=heads, method=method)
    try:
        answer: Answer = urllib.request.urlopen(request, timeout=policy.timeout)
    except urllib.error.HTTPError as e:
        if e.code == RANGE_NOT_SATISFIABLE and begin:
            raise
        with e:
            _raise_for_status(url, e)
        raise AssertionError from e  # _raise_for_status raises
    except urllib.error.URLError as e:
        if isinstance(e.reason, ssl.SSLCertVerificationError):
            raise UnavailableError(
                f"{url}: its certificate is not to be trusted", code="NET-CERT"
            ) from e
        raise _AttemptFailed(f"cannot be reached: {e.reason}", concerns_all=True) from e
    except (OSError, http.client.HTTPException) as e:
        raise _AttemptFailed(f"no answer: {_error_text(e)}", concerns_all=True) from e
    return answer


def _raise_for_status(url: str, error: urllib.error.HTTPError) -> None:
    """Raise what an answer without the file means: a lasting error, or a failed attempt."""
    status = f"{error.code} {error.reason}"
    if error.code not in TEMPORARY:
        raise DataError(
            f"{url}: the server says {status}", hint="is the address right?", code="NET-STATUS"
        ) from error
    after = error.headers.get("Retry-After", "")
    raise _AttemptFailed(
        f"the server says {status}",
        concerns_all=error.code in BUSY,
        after=float(after) if after.isdecimal() else 0.0,
    ) from error


def _read_piece(answer: Answer, limit: int) -> bytes:
    """Read the bytes that have arrived, at most `limit`; none at the end of the answer."""
    try:
        return answer.read1(limit)
    except (OSError, http.client.HTTPException) as e:
        raise _AttemptFailed(f"broke off: {_error_text(e)}") from e


def _read_body(answer: Answer, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (piece := _read_piece(answer, limit - len(data))):
        data += piece
    return data


def _content_length(answer: Answer) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _check_length(answer: Answer, received: int) -> None:
    """Raise if the answer ended too early, which `http.client` does not notice."""
    expected = _content_length(answer)
    if expected is not None and received < expected:
        raise _AttemptFailed(f"broke off after {received} of {expected} bytes")


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__
