"""Compumedics Profusion scorings: XML (CMPStudyConfig) with one number per epoch.

The format defines the numbers, after R&K: 0 wake, 1 to 4 stages 1 to 4, 5 REM, 6 movement,
9 unscored. A `scheme` is therefore not needed.
"""

from __future__ import annotations

from pathlib import Path

from sleeptools.errors import NoStagesError
from sleeptools.formats.parsing import stage_labels, xml
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import Hypnogram


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its root element."""
    del path
    return xml.starts_with(head, "CMPStudyConfig")


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the stage of every epoch.

    Parameters
    ----------
    scheme
        "nsrr" if left out.
    epoch_seconds
        Length of an epoch; the file's `EpochLength` if left out.

    Raises
    ------
    DataError
        If the file is not XML, or a stage is unknown.
    NoStagesError
        If it holds no stages.
    """
    root = xml.parse(path)
    labels = [(stage.text or "").strip() for stage in root.iterfind("SleepStages/SleepStage")]
    if not labels:
        raise NoStagesError(f"{path.name}: holds no SleepStage")
    if epoch_seconds is None:
        epoch_seconds = xml.epoch_length(root, path.name)
    return stage_labels.from_labels(
        labels,
        scheme=label_schemes.of_form("nsrr", scheme, labels, path.name),
        epoch_seconds=epoch_seconds,
        source=path.name,
    )
