"""The `sleeptools` command: one file per subcommand, each parses, calls the library and prints.

Only this package imports typer and rich. The modules of the library are imported inside the
commands, so that `sleeptools --help` loads none of them.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Final

import typer

from . import convert, evaluate, inspect, preprocess, report, simulate, status, train, verify
from . import list as list_
from ._console import talk

PURPOSE: Final = (
    "Automatic sleep staging, for people and for mice.\n\n"
    "The commands chain through files: convert, preprocess, train, evaluate, report. "
    "Research software; not a medical device; not for diagnosis."
)
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
for module in (
    simulate, inspect, convert, preprocess, train, evaluate, report, list_, status, verify,
):  # fmt: skip
    module.register(app)


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
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(run(arguments, debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code; every failure is one line and a hint."""
    from sleeptools.errors import SleeptoolsError

    try:
        result = typer.main.get_command(app).main(arguments, "sleeptools", standalone_mode=False)
    except SleeptoolsError as e:
        return _fail(str(e), e.hint, e.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", "run the same command again to continue", 75, debug=debug)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as e:  # the last door: nothing may leave as a traceback
        if hasattr(e, "format_message"):  # typer's own: a usage error
            return _fail(e.format_message(), _usage_hint(e), 2, debug=debug)
        hint = "this is a bug of ours: run it again with --debug and report what it shows"
        return _fail(f"{type(e).__name__}: {e}", hint, 1, debug=debug)
    return result if isinstance(result, int) else 0


def _usage_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "sleeptools"
    return f"try '{path} --help'"


def _fail(message: str, hint: str | None, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    talk(f"error: {' '.join(message.split())}")
    if hint:
        talk(f"hint: {' '.join(hint.split())}")
    return code
