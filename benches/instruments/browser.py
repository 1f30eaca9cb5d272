"""A headless Chromium that is driven key by key: the DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", "--hide-scrollbars"),
)
VIRTUAL_KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "PageUp": 33,
    "PageDown": 34, "Home": 36, "End": 35, "Enter": 13, "Escape": 27, "Tab": 9, " ": 32,
}  # fmt: skip
PATIENCE = 60.0  # s


def need_browser() -> str:
    """Return Chromium's path; skip the test without one, or fail where one is required."""
    if CHROMIUM is None:
        import pytest

        if os.environ.get("SLEEPTOOLS_REQUIRE_BROWSER") == "1":
            pytest.fail("SLEEPTOOLS_REQUIRE_BROWSER=1 and no Chromium was found")
        pytest.skip("no Chromium was found: the page was not opened in a browser")
    return CHROMIUM


class Page:
    """A page in a browser of its own."""

    def __init__(self, folder: Path, to_browser: int, from_browser: int) -> None:
        self.downloads, self.empty = folder / "downloads", folder / "empty.html"
        self.empty.write_text("<title>empty</title>")
        self._out, self._in = to_browser, from_browser
        self._buffer, self._number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self._write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._in, 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, or of what it promises."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(f"!!({condition})"):
            assert time.monotonic() < deadline, condition
            time.sleep(0.01)

    def open(self, path: Path) -> None:
        """Open a file, and wait until its signals are there."""
        self.evaluate("document.documentElement?.setAttribute('data-state', 'left')")
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.documentElement?.dataset.state === 'open'")

    def press(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """Press a key as a keyboard does."""
        modifiers = 2 * ctrl + 8 * shift
        code = VIRTUAL_KEYS.get(key, ord(key.upper()[0]))
        text = key if len(key) == 1 and not ctrl else "\r" if key == "Enter" else ""
        facts = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, keys: str) -> None:
        """Press a key for every letter."""
        for key in keys:
            self.press(key, shift=key.isupper())

    def screenshot(self, path: Path) -> None:
        """Keep what is seen."""
        picture = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window a size and a scheme of colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file for an input."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def open_anew(self, path: Path) -> None:
        """Open a file as in a browser that has never seen it."""
        self.call("Page.navigate", url=self.empty.as_uri())  # all files share one storage
        self.wait("document.title === 'empty'")
        self.evaluate("localStorage.clear()")
        self.events.clear()
        self.open(path)
        for file in self.downloads.iterdir():
            file.unlink()

    def downloaded(self, name: str) -> Path:
        """Wait for a file that the page hands out."""
        path = self.downloads / name
        deadline = time.monotonic() + PATIENCE
        while not path.exists() or list(self.downloads.glob("*.crdownload")):
            assert time.monotonic() < deadline, f"{name} was not downloaded"
            time.sleep(0.005)
        return path

    def complaints(self) -> list[str]:
        """Return what the page wrote on the console or threw, and what it tried to fetch."""
        self.evaluate("0")
        texts = []
        for event in self.events:
            kind, facts = event.get("method", ""), event.get("params", {})
            if kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                texts.append(json.dumps(facts)[:500])
            if kind == "Network.requestWillBeSent":
                url = facts["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:")):
                    texts.append(url)
        return texts


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """Start a browser that reaches no network and keeps its downloads in `folder`/downloads."""
    chromium = need_browser()
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    command = [chromium, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context((folder / "chromium.log").open("wb"))
        process = subprocess.Popen(
            command,
            pass_fds=(3, 4),
            preexec_fn=lambda: _as_3_and_4(from_us, to_us),  # noqa: PLW1509 - no threads here
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        os.close(from_us)
        os.close(to_us)
        stack.callback(_end, process, to_browser, from_browser)
        page = Page(folder, to_browser, from_browser)
        targets = page.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.downloads.mkdir(exist_ok=True)
        where = str(page.downloads)
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=where)
        page.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        yield page


def _as_3_and_4(*pipes: int) -> None:
    """Give a process its pipes under the numbers that Chromium expects."""
    high = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 60) for pipe in pipes]
    for number, pipe in enumerate(high, 3):
        os.dup2(pipe, number)


def _end(process: subprocess.Popen[bytes], *pipes: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in pipes:
        os.close(pipe)
