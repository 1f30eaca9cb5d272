"""The `sleeptools` command: one file per subcommand, which parses, calls the library and prints.

The file `cli/X.py` has `command`, which calls a function of `sleeptools.commands.X`, and
`register`, which adds it to the application. Only this package imports typer and rich. The
modules of the library are imported inside the functions, so that `sleeptools --help` loads none
of them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
from typing import Annotated, Final

import typer

from ._console import talk
from ._options import EARLIER_SPELLINGS

PURPOSE: Final = (
    "Automatic sleep staging, for people and for mice.\n\n"
    "The commands chain through files: convert, preprocess, train, evaluate, report. "
    "Research software; not a medical device; not for diagnosis."
)
USAGE: Final = 2  # exit code
M_ARENA_MAX: Final = -8  # of glibc's malloc.h
COMMANDS: Final = (
    "simulate",
    "fetch",
    "inspect",
    "convert",
    "preprocess",
    "train",
    "evaluate",
    "report",
    "score",
    "hypnogram",
    "list",
    "status",
    "verify",
)
"""The modules of this package that are commands, in the order of `sleeptools --help`."""
EXAMPLE: Final = (
    "Example: sleeptools simulate sleep-edf raw && sleeptools preprocess sleep-edf raw && "
    "sleeptools train --folds 4 --passes 5 && sleeptools report"
)

app = typer.Typer(
    name="sleeptools",
    help=PURPOSE,
    epilog=EXAMPLE,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    importlib.import_module(f"{__name__}.{command}").register(app)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from sleeptools import native

        typer.echo(f"sleeptools {version('sleeptools')}\n{native.describe()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show versions and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
) -> None:
    """Take the options that stand before a command."""
    del version, debug  # --debug is taken from anywhere in the line by main()


def main() -> None:
    """Run the command line and exit with the code a shell script branches on."""
    _prepare_streams()
    _spare_address_space()
    arguments = [EARLIER_SPELLINGS.get(a, a) for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(run(arguments, debug=debug))


def _prepare_streams() -> None:
    """Let a closed stream, or a letter that the terminal's encoding lacks, end no work."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the system's number of it must be taken by something
            handle = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(handle, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _spare_address_space() -> None:
    """Reserve little where addresses are limited, as by `ulimit -v` or the h_vmem of a cluster.

    Every thread that allocates reserves 64 MiB, of which it uses next to nothing; polars, which
    serves small tables here, starts as many threads as there are cores.
    """
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    import ctypes

    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code; a failure is a line and perhaps a hint."""
    from sleeptools.errors import stoppable

    try:
        with stoppable():
            result = typer.main.get_command(app).main(
                arguments, "sleeptools", standalone_mode=False
            )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # whoever read the output has read enough
        _discard_output()
        return 0
    except BaseException as e:  # a traceback is shown only on request; panics are no Exception
        message, hint, code = _explain(e)
        if isinstance(e, OSError):
            _discard_output()
        return _fail(message, hint, code, debug=debug)


def _discard_output() -> None:
    """Write what stdout holds, or send it to nowhere, so that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: BaseException) -> tuple[str, str | None, int]:
    """Turn any exception into a message, a hint and an exit code."""
    from sleeptools.store import causes

    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped", "run the same command again to continue", 75
    if isinstance(error, SystemExit):
        raise error
    known = causes.from_exception(error)
    if known is not None:
        return str(known), known.hint, known.exit_code
    if hasattr(error, "format_message"):  # typer's own: a usage error
        return error.format_message(), _usage_hint(error), 2
    hint = "this is a bug of ours: run it again with --debug and report what it shows"
    return f"{type(error).__name__}: {error}", hint, 1


def _usage_hint(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "sleeptools"
    return f"try '{path} --help'"


def _fail(message: str, hint: str | None, code: int, *, debug: bool) -> int:
    if debug:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
    if code == USAGE:
        hint = hint or "'sleeptools COMMAND --help' shows what a command takes"
    talk(f"error: {' '.join(message.split())}")
    if hint:
        talk(f"hint: {' '.join(hint.split())}")
    return code
