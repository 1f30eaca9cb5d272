"""Dummy data: NAME.edf with NAME.dummy beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from sleeptools import formats, store
from sleeptools.datasets import RecordingFiles
from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.recording.recording import Recording

CITATION: Final = "nobody, under no licence"
PATTERN: Final = "NAME.edf with NAME.dummy"
HOW_TO_GET: Final = "There is none."


def find(root: Path) -> list[RecordingFiles]:
    """Find every recording of a folder, sorted."""
    paths = sorted(store.need(root, "folder").glob("*.edf"))
    if not paths:
        raise DataError(f"{root}: holds no EDF files", hint=f"expected {PATTERN}", code="SET-EMPTY")
    return [RecordingFiles(p.stem, p.stem, 1, (p, p.with_suffix(".dummy"))) for p in paths]


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnogram, cut to its signals."""
    del allow_truncated
    signals, stages = source.files
    recording = edf.read(signals)
    hypnogram = formats.read_hypnogram(stages, epoch_seconds=30.0).clipped(recording.seconds)
    return replace(
        recording, id=source.id, subject=source.subject, night=source.night, hypnogram=hypnogram
    )
