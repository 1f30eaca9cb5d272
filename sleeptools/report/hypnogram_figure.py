"""A hypnogram as a figure of its own, in a notebook or a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.recording.hypnogram import Hypnogram, add_seconds, seconds_of_day
from sleeptools.recording.stages import UNSCORED
from sleeptools.report import markup
from sleeptools.report.markup import Markup
from sleeptools.report.svg import HypnogramNight, hypnogram_svg

LONGEST_CLOCK: Final = 48 * 3600.0
"""Longest night, s, with times of day below it; beyond, hours since the start tell days apart."""


@dataclass(frozen=True)
class HypnogramFigure:
    """A drawn hypnogram, which a notebook shows by itself.

    Parameters
    ----------
    svg
        The drawing, which takes the colours of the page around it.
    """

    svg: Markup = field(repr=False)

    def save(self, path: Path | str) -> None:
        """Write the figure as an SVG file; an existing file is replaced."""
        store.write_text(Path(path), markup.standalone(self.svg))

    def _repr_html_(self) -> str:
        return self.svg


def as_drawn(
    name: str, hypnogram: Hypnogram, hypnodensity: npt.NDArray[Any] | None = None
) -> HypnogramNight:
    """Lay out a hypnogram for a figure; epochs without a stage are left open.

    Parameters
    ----------
    hypnodensity
        (epochs, stages) probabilities; certainty if left out.
    """
    scored = np.flatnonzero(hypnogram.stages != UNSCORED)
    stages = hypnogram.stages[scored].astype(np.int64)
    start = None if hypnogram.begin is None else add_seconds(hypnogram.begin, -hypnogram.onset)
    is_short = hypnogram.end - hypnogram.onset <= LONGEST_CLOCK
    certain = np.eye(len(hypnogram.names))[stages]
    return HypnogramNight(
        name,
        hypnogram.names,
        None,
        stages,
        certain if hypnodensity is None else hypnodensity[scored],
        np.asarray(hypnogram.onset + scored * hypnogram.epoch_seconds, np.float64),
        hypnogram.epoch_seconds,
        (hypnogram.onset, hypnogram.end),
        seconds_of_day(start) if start and is_short else None,
    )


def plot(
    hypnogram: Hypnogram, hypnodensity: npt.NDArray[Any] | None = None, name: str = ""
) -> HypnogramFigure:
    """Draw a hypnogram over its hypnodensity.

    Parameters
    ----------
    hypnodensity
        (epochs, stages) probabilities; certainty if left out.
    name
        Name of the recording, for those who cannot see the figure.

    Raises
    ------
    DataError
        If no epoch has a stage.
    """
    if not np.any(hypnogram.stages != UNSCORED):
        raise DataError(f"{name or 'the hypnogram'}: no epoch has a stage", code="HYP-UNSCORED")
    return HypnogramFigure(hypnogram_svg(as_drawn(name or "a night", hypnogram, hypnodensity)))
