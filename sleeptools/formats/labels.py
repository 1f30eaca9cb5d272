"""Text files with one label per line: U-Sleep .hyp, Luna .eannot, YASA, ISRUC, and others.

Their content does not tell these formats apart, and need not: names mean the same in all of them,
and numbers need a `scheme`. Blank lines at the end, as in ISRUC's files, are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleeptools.errors import DataError
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import Hypnogram

KNOWN = {t.lower() for s in label_schemes.SCHEMES.values() for t in s.labels}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by a first line that is a known label and nothing else."""
    del path
    lines = text_files.head_lines(head)
    first = " ".join(lines[0].lower().split()) if lines else ""
    return first in KNOWN or bool(label_schemes.word_meaning(first))


def resembles(path: Path, head: bytes) -> bool:
    """Recognise words of the user's own: many lines of few different short texts, no numbers."""
    del path
    lines = [t.strip() for t in text_files.head_lines(head)]
    texts = set(lines)
    return len(lines) >= max(LEAST_LINES, LINES_OF_A_TEXT * len(texts)) and all(
        0 < len(t) <= LONGEST and not set(t) & set("\t,;=:") and not label_schemes.is_number(t)
        for t in texts
    )


LEAST_LINES: Final = 10
LINES_OF_A_TEXT: Final = 3  # on average
LONGEST: Final = 32  # letters


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read one label per epoch; the first epoch begins with the recording.

    Parameters
    ----------
    scheme
        What the labels mean; needed for numbers.
    epoch_seconds
        Length of an epoch; 30 s for human stages if left out.

    Raises
    ------
    DataError
        For a blank line among labels, a number without a scheme, or an unknown label.
    """
    labels = [t.strip() for t in text_files.read_lines(path)]
    if "" in labels:
        raise DataError(
            f"{path.name}: line {labels.index('') + 1} is blank; expected a label", code="HYP-ROW"
        )
    return stage_labels.from_labels(
        labels, scheme=scheme, epoch_seconds=epoch_seconds, source=path.name
    )
