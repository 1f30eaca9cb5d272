"""A server on this machine that does to clients what servers and lines do."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", bytes, int], None]


class Served:
    """Files by name, and what goes wrong with each: one fault a request, then none."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.ranges = True
        self.released = threading.Event()
        self.url = ""

    def list_sums(self) -> bytes:
        """Serve SHA256SUMS.txt for what is served, and return it."""
        lines = [f"{hashlib.sha256(d).hexdigest()} {n}\n" for n, d in sorted(self.files.items())]
        self.files["SHA256SUMS.txt"] = "".join(lines).encode()
        return self.files["SHA256SUMS.txt"]

    def begins(self, name: str) -> list[int]:
        """Give the bytes from which a file was asked for, in order."""
        return [begin for method, n, begin in self.asked if n == name and method == "GET"]


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, with ranges."""

    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name = self.path.strip("/")
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(found[1]) if found else 0
        self.served.asked.append((self.command, name, begin))
        data = self.served.files.get(name)
        faults = self.served.faults.get(name, [])
        if data is None:
            self.refuse(404)
        elif body and faults:
            faults.pop(0)(self, data, begin)
        else:
            self.send(data, begin, body=body)

    def refuse(self, code: int, **heads: str) -> None:
        """Answer without a file."""
        self.send_response(code)
        self.send_header("Content-Length", "0")
        for key, value in heads.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def send(self, data: bytes, begin: int, stop: int | None = None, *, body: bool = True) -> None:
        """Promise a file from `begin` on, and send it up to `stop`."""
        if not self.served.ranges:
            begin = 0
        if begin >= len(data) > 0:
            self.refuse(416, Content_Range=f"bytes */{len(data)}")
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if body:
            self.wfile.write(data[begin:stop])


def drop(after: int) -> Fault:
    """Break off when the file's first `after` bytes are over."""

    def fault(handler: Handler, data: bytes, begin: int) -> None:
        handler.send(data, begin, after)
        handler.close_connection = True

    return fault


def stall(after: int) -> Fault:
    """Fall silent there, until the test is over."""

    def fault(handler: Handler, data: bytes, begin: int) -> None:
        handler.send(data, begin, after)
        handler.wfile.flush()
        handler.served.released.wait()
        handler.close_connection = True

    return fault


def spoil(handler: Handler, data: bytes, begin: int) -> None:
    """Send as many other bytes."""
    handler.send(bytes(b ^ 255 for b in data), begin)


def say(code: int, **heads: str) -> Fault:
    """Answer with a status and no file."""
    return lambda handler, data, begin: handler.refuse(code, **heads)


def unmeasured(handler: Handler, data: bytes, begin: int) -> None:
    """Send everything, and no word of how much it is."""
    del begin
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that go away."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent."""


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """Serve on a free port of 127.0.0.1."""
    served = Served()
    handler = type("Bound", (Handler,), {"served": served})
    with Quiet(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            served.released.set()
            server.shutdown()
            thread.join()
