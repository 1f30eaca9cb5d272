"""One file over HTTP: continued where it broke off, and named only when its SHA-256 is right.

On urllib of the standard library: pooch, which the field uses for this, begins a broken file anew,
and a night of 50 MB over a slow line may break more than once.
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

CHUNK: Final = 1 << 18  # bytes at most between two looks at the clock and at a stop signal
LIST_LIMIT: Final = 4 << 20  # bytes of a file that is read into memory
MOST_WAIT: Final = 60.0  # s
BUSY: Final = {429, 502, 503, 504}  # of the server, whatever the file
PASSING: Final = {408, 500} | BUSY
GONE_PAST: Final = 416  # the part is as long as the file, or longer
PARTIAL: Final = 206
WRONG_TIMES: Final = 2  # whole files with another SHA-256: the line's fault once, not twice

Told = Callable[[int, int | None], None]
"""Takes the bytes that are there and those of the whole file, where known; may raise to stop."""
Found = TypeVar("Found")
Answer = http.client.HTTPResponse


@dataclass(frozen=True)
class Patience:
    """How long to go on with a server.

    Parameters
    ----------
    attempts
        In a row that bring nothing new, before giving up.
    seconds
        Wait after the first of them; doubled after each.
    timeout
        Without a byte, s.
    wait
        Waits so many seconds; sleeps if left out.
    """

    attempts: int = 6
    seconds: float = 1.0
    timeout: float = 30.0
    wait: Callable[[float], object] | None = None


class _Broken(Exception):  # noqa: N818 - not a failure yet: it is tried again
    """An attempt came to nothing; `concerns_all` if no other file would have fared better."""

    def __init__(self, reason: str, *, concerns_all: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.concerns_all = concerns_all
        self.after = after


def check_address(url: str) -> str:
    """Return an address with a slash at its end.

    Raises
    ------
    UsageError
        If it is not one of HTTP or HTTPS.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no address of a server; expected http://... or https://...")
    return url.rstrip("/") + "/"


def read(url: str, patience: Patience) -> bytes:
    """Read a small file into memory.

    Raises
    ------
    DataError
        If there is none at this address, or it is too large.
    UnavailableError
        If the server cannot be reached.
    """

    def attempt() -> bytes:
        with _open(url, 0, patience) as answer:
            data = _body(answer, LIST_LIMIT + 1)
            _check_length(answer, len(data))
        if len(data) > LIST_LIMIT:
            raise DataError(f"{url}: more than {LIST_LIMIT >> 20} MiB; expected a list of files")
        return data

    return _patiently(url, attempt, lambda: 0, patience)


def size(url: str, patience: Patience) -> int | None:
    """Ask how long a file is, bytes; None where the server does not say.

    Raises as `read`.
    """

    def attempt() -> int | None:
        with _open(url, 0, patience, method="HEAD") as answer:
            return _length(answer)

    return _patiently(url, attempt, lambda: 0, patience)


def to_file(url: str, path: Path, sha256: str, told: Told, patience: Patience) -> None:
    """Fetch a file; what an earlier call left in PATH.part is continued.

    Raises
    ------
    DataError
        If there is none at this address, its content is not the one wanted, or it breaks off
        again and again at the same place.
    UnavailableError
        If the server cannot be reached, or turns everybody away.
    StorageError, OutputError
        As `store.PartialFile`.
    """
    part = PartialFile(path)
    wrong = 0

    def attempt() -> None:
        nonlocal wrong
        whole = _continue(url, part, told, patience)
        length = part.size
        if part.finish(sha256):
            return
        wrong += whole
        if wrong == WRONG_TIMES:
            raise DataError(
                f"{url}: its SHA-256 is not {sha256}, {WRONG_TIMES} times",
                hint="the server has another file, or something on the way changes it",
            )
        raise _Broken(f"what came ({length} bytes) is not the file")

    _patiently(url, attempt, lambda: part.size, patience)


def _continue(url: str, part: PartialFile, told: Told, patience: Patience) -> bool:
    """Fetch what a part lacks; tell whether all of it came in this one answer."""
    begin = part.size
    try:
        answer = _open(url, begin, patience)
    except urllib.error.HTTPError as e:
        with e:
            return False  # it is not shorter than the file: its SHA-256 says what it is
    with answer:
        ranges = str(answer.headers.get("Content-Range", ""))
        if answer.status != PARTIAL or not ranges.startswith(f"bytes {begin}-"):
            begin = 0  # the server sends all of it, whatever is asked for
        length = _length(answer)
        total = None if length is None else begin + length
        have = begin
        with part.open(begin) as write:
            told(have, total)
            while data := _piece(answer, CHUNK):
                write(data)
                have += len(data)
                told(have, total)
        _check_length(answer, have - begin)
    return begin == 0


def _patiently(
    url: str, attempt: Callable[[], Found], progress: Callable[[], int], patience: Patience
) -> Found:
    """Try until it works; attempts that bring more than was ever there do not count."""
    failed, most = 0, progress()
    while True:
        try:
            return attempt()
        except _Broken as e:
            failed = 1 if progress() > most else failed + 1
            most = max(most, progress())
            if failed >= patience.attempts:
                hint = "run the same command again to continue where it stopped"
                kind = UnavailableError if e.concerns_all else DataError
                raise kind(f"{url}: {e}, {failed} times", hint=hint) from e
            wait = patience.wait or time.sleep
            wait(min(MOST_WAIT, max(e.after, patience.seconds * 2 ** (failed - 1))))


def _open(url: str, begin: int, patience: Patience, method: str = "GET") -> Answer:
    """Open an address, from a byte on; raise HTTPError only for a part that is too long."""
    heads = {"User-Agent": f"sleeptools/{metadata.version('sleeptools')}"}
    if begin:
        heads["Range"] = f"bytes={begin}-"
    request = urllib.request.Request(url, headers=heads, method=method)
    try:
        answer: Answer = urllib.request.urlopen(request, timeout=patience.timeout)
    except urllib.error.HTTPError as e:
        if e.code == GONE_PAST and begin:
            raise
        with e:
            _judge(url, e)
        raise AssertionError from e  # _judge raises
    except urllib.error.URLError as e:
        if isinstance(e.reason, ssl.SSLCertVerificationError):
            raise UnavailableError(f"{url}: its certificate is not to be trusted") from e
        raise _Broken(f"cannot be reached: {e.reason}", concerns_all=True) from e
    except (OSError, http.client.HTTPException) as e:
        raise _Broken(f"no answer: {_words(e)}", concerns_all=True) from e
    return answer


def _judge(url: str, error: urllib.error.HTTPError) -> None:
    """Turn an answer without the file into what it means."""
    said = f"{error.code} {error.reason}"
    if error.code not in PASSING:
        raise DataError(f"{url}: the server says {said}", hint="is the address right?") from error
    after = error.headers.get("Retry-After", "")
    raise _Broken(
        f"the server says {said}",
        concerns_all=error.code in BUSY,
        after=float(after) if after.isdecimal() else 0.0,
    ) from error


def _piece(answer: Answer, most: int) -> bytes:
    """Read what has come, and empty at the end."""
    try:
        return answer.read1(most)
    except (OSError, http.client.HTTPException) as e:
        raise _Broken(f"broke off: {_words(e)}") from e


def _body(answer: Answer, most: int) -> bytes:
    data = b""
    while len(data) < most and (piece := _piece(answer, most - len(data))):
        data += piece
    return data


def _length(answer: Answer) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _check_length(answer: Answer, came: int) -> None:
    """Tell a body that ends too early, which http.client takes for an end."""
    expected = _length(answer)
    if expected is not None and came < expected:
        raise _Broken(f"broke off after {came} of {expected} bytes")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
