"""`sleeptools preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ._console import (
    IgnoreChannels,
    IgnoreUnmatched,
    Jobs,
    batch_progress,
    emit_table,
    plural,
    talk,
)

if TYPE_CHECKING:
    from sleeptools.preprocessing.epochs import EpochSet

SLUMBERNET = {"stages": 3, "channels": 2, "sample_rate": 64.0, "epoch_seconds": 4.0}
"""The epochs that SlumberNet takes as it was published."""
FOLDS: Final = 20  # at most, as the papers on Sleep-EDF-20 have


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("preprocess", epilog="Example: sleeptools preprocess sleep-edf recordings epochs")(
        command
    )


def command(
    preset: Annotated[str, typer.Argument(help="Preset name, or a TOML file of your own.")],
    recordings: Annotated[
        Path, typer.Argument(help="Recordings, or a raw folder to convert on the fly.")
    ] = Path("recordings"),
    epochs: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("epochs"),
    trim: Annotated[
        str | None,
        typer.Option(
            help="Which epochs stay: drop-then-trim, trim-then-drop, drop-last or none; the "
            "preset's if left out."
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Wake kept on both sides of sleep, minutes.")
    ] = None,
    scorer: Annotated[
        int | None,
        typer.Option(
            min=1, help="Whose scoring counts, where several scored; the others are kept beside it."
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(help="Only these: 20, 78 or telemetry of sleep-edf; I, II or III of isruc."),
    ] = None,
    assume_unit: Annotated[
        str | None, typer.Option(help="Unit of voltages whose file names none, for example uV.")
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            help="Epochs whose signal was not there (flat, at the rail): count keeps them, exclude "
            "leaves them out; the preset's if left out."
        ),
    ] = None,
    robust_scale: Annotated[
        bool,
        typer.Option(
            "--robust-scale",
            help="Divide each channel by its median magnitude in the recording, after the preset's "
            "other steps, so that an amplifier's gain does not matter; no microvolts any more.",
        ),
    ] = False,
    ignore_unmatched: IgnoreUnmatched = False,
    ignore_channels: IgnoreChannels = None,
    jobs: Jobs = 1,
) -> None:
    """Make epochs of recordings, by a preset.

    Says how many epochs were dropped and why.
    """
    from sleeptools.commands.preprocess import preprocess
    from sleeptools.preprocessing import presets

    settings = presets.changed(
        presets.load(preset),
        trim=trim,
        margin_minutes=margin,
        scorer=scorer,
        assume_unit=assume_unit,
        quality=quality,
        robust_scale=robust_scale,
    )
    with batch_progress("preprocessing") as on_progress:
        preprocess(
            settings,
            recordings,
            epochs,
            on_progress,
            subset=subset,
            ignore_unmatched=ignore_unmatched,
            ignore_channels=ignore_channels or (),
            jobs=jobs,
        )
    _show(epochs)


def _show(folder: Path) -> None:
    from sleeptools.preprocessing.epochs import open_epochs
    from sleeptools.store import batch

    epochs = open_epochs(folder)
    facts = epochs.manifest
    rows = [[name, "kept", n] for name, n in facts["counts"].items()]
    rows += [[name, "dropped", n] for name, n in facts["excluded"].items()]
    emit_table("Epochs", ["stage or reason", "", "epochs"], rows)
    counted = [
        [name, channel, kind, n]
        for name, channels in facts["quality"].items()
        for channel, kinds in channels.items()
        for kind, n in kinds.items()
    ]
    if counted:
        emit_table("Signal quality", ["recording", "channel", "", "epochs"], counted)
    simulated = "simulated " if epochs.simulated else ""
    recordings = plural(len(epochs.files), f"{simulated}recording")
    for name, failure in facts["failed"].items():
        talk(f"left out: {name}: {batch.listed_failure(failure)['message']}")
    talk(
        f"{folder}: {plural(len(epochs), 'epoch')} of {recordings}, "
        f"{plural(len(epochs.subjects), 'subject')}; next: {_next(folder, epochs)}"
    )


def _next(folder: Path, epochs: EpochSet) -> str:
    """Write the line that trains a model of this kind of animal, each subject tested once."""
    from sleeptools.errors import quoted

    folds = min(FOLDS, len(epochs.subjects))
    how = f"--folds {folds}" if folds > 1 else "--final --passes 10"
    return " ".join(["sleeptools train", quoted(folder), *_model_words(epochs), how])


def _model_words(epochs: EpochSet) -> list[str]:
    """Write which model is for the epochs, where it is not the one for people at 100 Hz."""
    from sleeptools.models.layers.config import MouseConfig
    from sleeptools.recording.stages import HUMAN_STAGES

    if tuple(epochs.names) == HUMAN_STAGES:
        return []
    shape = {
        "stages": len(epochs.names),
        "channels": len(epochs.montage),
        "sample_rate": epochs.sample_rate,
        "epoch_seconds": epochs.epoch_seconds,
    }
    if shape == SLUMBERNET:
        return ["--model slumbernet"]
    usual = MouseConfig().model_dump()
    settings = [f"--set model.{k}={v:g}" for k, v in shape.items() if v != usual[k]]
    return ["--model mouse-cnn", *settings]
