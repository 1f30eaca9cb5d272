"""`sleeptools export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import plural, talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "export",
        epilog="Example: sleeptools export runs/mmasleepnet/final mmasleepnet.onnx --format onnx",
    )(command)


def command(
    model: Annotated[Path, typer.Argument(help="Model folder: a fold's, or RUN/final.")],
    out: Annotated[Path, typer.Argument(help="File to write: NAME.onnx, NAME.pt2 or NAME.c.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format", help="onnx or pt2 (torch.export), of any model; c, of ulw-sleepnet."
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a trained model as a file that runs without sleeptools.

    Signals in microvolts go in, the probability of each stage comes out. What was written scores a
    simulated night as the model does, or the command fails.
    """
    from sleeptools.commands.export import export

    exported = export(model, out, kind=kind, force=force, log=talk)
    for line in exported.about:
        talk(line)
    epochs, difference = exported.agreement
    talk(
        f"compared with the model on a simulated night of {plural(epochs, 'epoch')}: "
        f"probabilities within {difference:.1g}"
    )
    typer.echo("\n".join(map(str, exported.files)))
