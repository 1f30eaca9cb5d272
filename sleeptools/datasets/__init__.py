"""Data sets, one module each: how their files are named and paired, and what their labels mean.

A data set module has `CITATION` (how to cite it, with its licence), `PATTERN` (for messages),
`find(root)`, `read(source)`, and `write(...)` where it can be simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The files of one recording, found but not yet read.

    Parameters
    ----------
    id, subject, night
        As in `Recording`.
    files
        Signals first, then hypnograms.
    problem
        Why it cannot be read although it is there, or empty.
    """

    id: str
    subject: str
    night: int
    files: tuple[Path, ...]
    problem: str = ""
