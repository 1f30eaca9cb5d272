"""One label a line: U-Sleep's `.hyp`, Luna's `.eannot`, YASA's text, ISRUC's scorings, and others.

Their content does not tell them apart, and need not: names mean the same in all of them, and
numbers are read by the scheme that is named. A blank tail, as ISRUC has it, is passed over.
"""

from __future__ import annotations

from pathlib import Path

from sleeptools.errors import DataError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import Hypnogram

KNOWN = {
    *label_schemes.STAGE_WORDS,
    *(t.lower() for s in label_schemes.SCHEMES.values() for t in s.labels),
}


def accepts(path: Path, head: bytes) -> bool:
    """Tell it by a first line that is a label and nothing else."""
    del path
    lines = text_files.head_lines(head)
    return bool(lines) and " ".join(lines[0].lower().split()) in KNOWN


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read a label an epoch, the first at the recording's start.

    Parameters
    ----------
    epoch_seconds
        30 s for human stages if left out.

    Raises
    ------
    DataError
        For a blank line among labels, a number without a scheme, or an unknown label.
    """
    labels = [t.strip() for t in text_files.read_lines(path)]
    if "" in labels:
        raise DataError(f"{path.name}: line {labels.index('') + 1} is blank; expected a label")
    return stage_labels.from_labels(
        labels, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )
