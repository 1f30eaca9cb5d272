"""`sleeptools simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import Jobs, batch_progress, plural, talk


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "simulate",
        epilog="Example: sleeptools simulate sleep-edf raw --subjects 4 --hours 8 --seed 0",
    )(command)


def command(
    dataset: Annotated[
        str, typer.Argument(help="Data set: sleep-edf, isruc, edf, slumbernet or kjaerby.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    subjects: Annotated[int, typer.Option(help="How many subjects.")] = 4,
    nights: Annotated[int, typer.Option(help="Nights of each subject.")] = 1,
    hours: Annotated[
        float | None,
        typer.Option(help="Length of a recording, h; left out, as long as the data set's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    subset: Annotated[
        str | None,
        typer.Option(help="sleep-edf: 20, 78 or telemetry; isruc: I, II or III (the default)."),
    ] = None,
    randomise: Annotated[
        bool,
        typer.Option(
            "--randomise",
            help="For training sets: gain, leads, filters and noise drawn anew for each night.",
        ),
    ] = False,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="To measure time and memory on many human nights: each repeats 18 epochs of every "
            "stage, in the order of its own stages.",
        ),
    ] = False,
    jobs: Jobs = 1,
) -> None:
    """Write simulated nights in a data set's form.

    Nothing recorded from a person is in them; every file says that it is simulated.
    """
    from sleeptools.commands.simulate import simulate
    from sleeptools.errors import quoted

    with batch_progress("simulating") as on_progress:
        simulate(
            dataset,
            out,
            subjects=subjects,
            nights=nights,
            hours=hours,
            seed=seed,
            subset=subset,
            randomise=randomise,
            fast=fast,
            jobs=jobs,
            on_progress=on_progress,
        )
    from sleeptools.preprocessing import presets

    does = f"preprocess {dataset}" if dataset in presets.names() else "inspect"
    made = plural(subjects * nights, "simulated recording")
    talk(f"{out}: {made}; next: sleeptools {does} {quoted(out)}")
