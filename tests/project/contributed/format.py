"""Dummy hypnograms: a line `dummy` and then a stage a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording.hypnogram import Hypnogram

SUFFIXES: Final = (".dummy",)
WORDS: Final = {
    "W": "W",
    "Wake": "W",
    "N1": "N1",
    "N2": "N2",
    "N3": "N3",
    "NREM": "NREM",
    "REM": "REM",
    "movement": "MT",
    "unknown": "?",
    "unannotated": "?",
}


def accepts(path: Path, head: bytes) -> bool:
    """Tell it by its first line."""
    del path
    return head.startswith(b"dummy\n")


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the stage of every epoch."""
    labels = [line for line in text_files.read_lines(path) if line][1:]
    return stage_labels.from_labels(
        labels, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )


def write_hypnogram(hypnogram: Hypnogram, path: Path) -> list[str]:
    """Write the line `dummy` and a word a line."""
    words, notes = stage_words.word_lines(hypnogram, WORDS, "dummy")
    store.write_text(path, "\n".join(["dummy", *words, ""]))
    return notes
