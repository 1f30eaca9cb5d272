"""Where the real files are, the time box of the long tests, and a run of the command line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

import rotation

# no test depends on how fast the machine is
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

VARIABLE = "SLEEPTOOLS_TEST_DATA"
SKIPPED_REAL: list[str] = []
NOT_CHECKED: list[str] = []
BEGUN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--time-box",
        type=float,
        default=0,
        help="start no slow test after so many seconds; SLEEPTOOLS_SEED says which come first",
    )


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get(VARIABLE)
    if folder and not Path(folder).is_dir():
        raise pytest.UsageError(f"{VARIABLE} is set to {folder}, which is no folder")


def pytest_report_header(config: pytest.Config) -> str:
    return f"SLEEPTOOLS_SEED={rotation.SEED}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow tests, if time is limited, into an order that every seed has of its own."""
    if config.getoption("--time-box"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        quick = [item for item in items if not item.get_closest_marker("slow")]
        items[:] = quick + rotation.rotated(slow, [item.path for item in slow])


def pytest_runtest_setup(item: pytest.Item) -> None:
    box = item.config.getoption("--time-box")
    if box and item.get_closest_marker("slow") and time.monotonic() - BEGUN > box:
        pytest.skip(f"the time box of {box:g} s is over")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--time-box"):
        terminalreporter.write_line(f"slow tests in the order of SLEEPTOOLS_SEED={rotation.SEED}")
    if SKIPPED_REAL:
        terminalreporter.write_line(
            f"{len(SKIPPED_REAL)} tests on real files skipped: {VARIABLE} is not set", yellow=True
        )
    for reason in NOT_CHECKED:
        terminalreporter.write_line(reason, yellow=True)


@pytest.fixture
def skip_loudly() -> Callable[[str], NoReturn]:
    """Skip with a reason that the last lines of the test run repeat."""

    def skip(reason: str) -> NoReturn:
        NOT_CHECKED.append(reason)
        pytest.skip(reason)

    return skip


@pytest.fixture
def real_data(request: pytest.FixtureRequest) -> Path:
    """The folder of real files; tests that ask for it are skipped, and counted, without it."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        SKIPPED_REAL.append(request.node.nodeid)
        pytest.skip(f"{VARIABLE} is not set")
    return Path(folder)


@pytest.fixture
def gpu() -> Any:
    """The CUDA device; without one, tests that ask for it are skipped, or fail where asked to."""
    import torch

    from sleeptools import native

    if torch.cuda.is_available() and native.has_cuda():
        return torch.device("cuda", 0)
    here = f"torch {torch.__version__}, {native.describe()}"
    if os.environ.get("SLEEPTOOLS_REQUIRE_GPU") == "1":
        pytest.fail(f"SLEEPTOOLS_REQUIRE_GPU=1, {here}")
    pytest.skip(f"no CUDA device: {here}")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute with one CPU thread: to the same bits, and no slower where others work, too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _leaves_the_core_as_it_was() -> Iterator[None]:
    """Let no test hand another variant or number of threads on to all that come after it."""
    from sleeptools import native
    from sleeptools.native import threads

    before = native.variant(), threads.threads_in_use()
    yield
    assert (native.variant(), threads.threads_in_use()) == before


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command line, by default in a new folder.

    In a process of its own where environment variables are given; otherwise in this one, which
    has imported torch once and for all.
    """

    def run(*arguments: object, cwd: Path = tmp_path, **environment: str) -> Ran:
        settings = {"COLUMNS": "120", "NO_COLOR": "1"} | environment
        words = [str(a) for a in arguments]
        if not environment:
            return _here(words, cwd, settings, monkeypatch)
        done = subprocess.run(
            [sys.executable, "-m", "sleeptools.cli", *words],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | settings,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def _here(
    words: list[str], cwd: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Ran:
    from sleeptools import cli

    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["sleeptools", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())
