"""NSRR XML annotations (PSGAnnotation): stages as `Wake|0`, `Stage 2 sleep|2`, `REM sleep|5`.

The National Sleep Research Resource's form of what scoring programs export. The number behind the
bar is not read: the name in front of it says the same.
"""

from __future__ import annotations

from datetime import time
from pathlib import Path

from sleeptools.formats import _scoring, _text, _xml
from sleeptools.hypnogram import Hypnogram


def accepts(path: Path, head: bytes) -> bool:
    """Tell it by its root element."""
    del path
    return _xml.starts_with(head, "PSGAnnotation")


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the scored events that are stages; `begin` has the clock time where the file does.

    Raises
    ------
    DataError
        If the file is no XML, a number is none, a stage is unknown, or stages overlap.
    NoStagesError
        If it holds no stages.
    """
    root = _xml.parse(path)
    events, begin = [], None
    for event in root.iter("ScoredEvent"):
        concept = _xml.text_of(event, "EventConcept")
        if concept == "Recording Start Time":
            begin = _clock(_xml.text_of(event, "ClockTime"))
        if "stage" not in _xml.text_of(event, "EventType").lower():
            continue
        where = f"{path.name}: stage {concept!r}"
        onset = _text.parse_number(_xml.text_of(event, "Start"), where)
        duration = _text.parse_number(_xml.text_of(event, "Duration"), where)
        events.append((onset, duration, concept.partition("|")[0]))
    length = _xml.text_of(root, "EpochLength")
    if epoch_seconds is None and length:
        epoch_seconds = _text.parse_number(length, f"{path.name}: EpochLength")
    return _scoring.from_events(
        events, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name, begin=begin
    )


def _clock(text: str) -> time | None:
    """Read "01.01.85 22.45.12": the date is a dummy."""
    return _text.parse_clock(text.rsplit(maxsplit=1)[-1]) if text else None
