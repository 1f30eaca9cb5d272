"""NSRR annotations: XML (PSGAnnotation) with stages such as `Wake|0` and `Stage 2 sleep|2`.

The format to which the National Sleep Research Resource converts the exports of scoring programs.
The number after the bar is not read, because the name before it says the same.
"""

from __future__ import annotations

from datetime import time
from pathlib import Path

from sleeptools.formats.parsing import stage_labels, text_files, xml
from sleeptools.recording.hypnogram import Hypnogram


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its root element."""
    del path
    return xml.starts_with(head, "PSGAnnotation")


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
) -> Hypnogram:
    """Read the scored events that are stages; `begin` is the recording's start, if the file has it.

    Raises
    ------
    DataError
        If the file is not XML, a time is not a number, a stage is unknown, or stages overlap.
    NoStagesError
        If it holds no stages.
    """
    root = xml.parse(path)
    events, begin = [], None
    for event in root.iter("ScoredEvent"):
        concept = xml.text_of(event, "EventConcept")
        if concept == "Recording Start Time":
            begin = _clock(xml.text_of(event, "ClockTime"))
        if "stage" not in xml.text_of(event, "EventType").lower():
            continue
        location = f"{path.name}: stage {concept!r}"
        onset = text_files.parse_number(xml.text_of(event, "Start"), location)
        duration = text_files.parse_number(xml.text_of(event, "Duration"), location)
        events.append((onset, duration, concept.partition("|")[0]))
    if epoch_seconds is None:
        epoch_seconds = xml.epoch_length(root, path.name)
    return stage_labels.from_events(
        events,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        begin=begin,
        epoch_from_onsets=epoch_from_onsets,
    )


def _clock(text: str) -> time | None:
    """Read the time of "01.01.85 22.45.12"; the date is a placeholder."""
    return text_files.parse_clock(text.rsplit(maxsplit=1)[-1]) if text else None
