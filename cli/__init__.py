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
import re
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ._console import STATE, emit_failure, talk
from ._options import EARLIER_SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleeptools.errors import SleeptoolsError, UsageError

PURPOSE: Final = (
    "Automatic sleep staging, for people and for mice.\n\n"
    "The commands chain through files: convert, preprocess, train, evaluate, report. "
    "Research software; not a medical device; not for diagnosis."
)
COMPLETING: Final = "_SLEEPTOOLS_COMPLETE"  # set by a shell that asks how a word goes on
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
    "agree",
    "review",
    "export",
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
START: Final = """\
sleeptools: automatic sleep staging, for people and for mice

Score your own recordings (EDF, BDF; a folder of them):
  sleeptools score default nights/ --out scores
Try everything on simulated nights, from signals to a report:
  sleeptools simulate sleep-edf raw
  sleeptools preprocess sleep-edf raw epochs
  sleeptools train epochs run --model ulw-sleepnet --folds 4 --passes 5
  sleeptools report run

See what a folder holds; compare two scorings; correct a scored night by hand:
  sleeptools inspect nights/
  sleeptools agree A.edf B.csv
  sleeptools review NIGHT.edf --scores scores --out review.html

`default` learnt from simulated nights alone, `yasa` from real ones; all other
models you train.
Research software; not a medical device; not for diagnosis.
All commands: sleeptools --help. One of them: sleeptools score --help.
"""
"""What `sleeptools` alone prints."""


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from sleeptools import native

        typer.echo(f"sleeptools {version('sleeptools')}\n{native.describe()}")
        raise typer.Exit


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


def build_app(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """Build the application with some of its commands: typer takes 5 ms to prepare each."""
    app = typer.Typer(
        name="sleeptools",
        help=PURPOSE,
        epilog=EXAMPLE,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name in names:
        importlib.import_module(f"{__name__}.{name}").register(app)
    return app


def main() -> None:
    """Run the command line and exit with the code a shell script branches on."""
    _prepare_streams()
    _spare_address_space()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")  # none is searched for: 20 ms saved
    arguments = [EARLIER_SPELLINGS.get(a, a) for a in sys.argv[1:] if a != "--debug"]
    if not arguments and COMPLETING not in os.environ:
        typer.echo(START, nl=False)
        sys.exit(0)
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

    STATE["has_printed_json"] = False
    try:
        with stoppable():
            command = typer.main.get_command(build_app(_commands_needed(arguments)))
            result = command.main(arguments, "sleeptools", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # whoever read the output has read enough
        _discard_output()
        return 0
    except BaseException as e:  # a traceback is shown only on request; panics are no Exception
        failure = _failure(e, arguments)
        if isinstance(e, OSError):
            _discard_output()
        return _fail(failure, as_json="--json" in arguments, debug=debug)


def _commands_needed(arguments: list[str]) -> Sequence[str]:
    """Name the command that the line calls, or all of them where it calls none."""
    first = next((a for a in arguments if not a.startswith("-")), "")
    return (first,) if first in COMMANDS else COMMANDS


def _discard_output() -> None:
    """Write what stdout holds, or send it to nowhere, so that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(error: BaseException, arguments: list[str]) -> SleeptoolsError:
    """Turn any exception into an error for people, with a hint and a code."""
    from sleeptools.errors import SleeptoolsError, Stopped, UsageError
    from sleeptools.store import causes

    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Stopped("stopped", hint="run the same command again to continue")
    if isinstance(error, SystemExit):
        raise error
    known = causes.from_exception(error)
    if isinstance(known, UsageError) and not known.hint:
        known.hint = _example(arguments)
    if known is not None:
        return known
    if hasattr(error, "format_message"):  # typer's own
        return _usage_error(error, arguments)
    hint = "this is a bug of ours: run it again with --debug and report what it shows"
    return SleeptoolsError(f"{type(error).__name__}: {error}", hint=hint)


def _usage_error(error: Any, arguments: list[str]) -> UsageError:
    """Turn typer's error into ours; the hint is what was meant, or a line that can be taken."""
    from sleeptools.errors import UsageError, did_you_mean

    message, _, similar = error.format_message().partition(" Did you mean ")
    message = message.replace(" Value error, ", " ")
    hint = f"did you mean {similar}" if similar else None
    if unknown := re.search(r"'([^']*)' is not one of (.*)", message):
        hint = did_you_mean(unknown[1], re.findall(r"'([^']*)'", unknown[2]))
    if hasattr(error, "possibilities"):  # an unknown option
        message = error.message
        hint = did_you_mean(error.option_name, [o for p in error.cmd.params for o in p.opts])
    return UsageError(message, hint=hint or _example(arguments), code="USE-LINE")


def _example(arguments: list[str]) -> str:
    """Hint for a line that cannot be taken: one that can, of the same command if there is one."""
    name = next((a for a in arguments if a in COMMANDS), "")
    if not name:
        return f"the commands are: {', '.join(COMMANDS)}"
    command: Any = typer.main.get_command(build_app((name,)))
    example = command.commands[name].epilog.removeprefix("Example: ")
    first = example.partition("; ")[0]
    return f"for example '{first}'; 'sleeptools {name} --help' lists all options"


def _fail(failure: SleeptoolsError, *, as_json: bool, debug: bool) -> int:
    """Print an error, under --json also on stdout, where nothing else is; return its exit code."""
    if debug:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
    code = f" [{failure.code}]" if failure.code else ""
    talk(f"error: {' '.join(str(failure).split())}{code}")
    if failure.hint:
        talk(f"hint: {' '.join(failure.hint.split())}")
    if as_json:
        emit_failure(failure)
    return failure.exit_code
