"""What an edf.toml says of a scoring: how it is read, and which recording it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sleeptools.datasets.edf import find, place_scoring
from sleeptools.datasets.shared.edf_settings import (
    SETTINGS,
    EdfSettings,
    load_settings,
    match_names,
)
from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import Hypnogram, add_seconds


@dataclass(frozen=True)
class RecordingBeside:
    """A scoring that an edf.toml names, and its recording.

    Parameters
    ----------
    signals
        The file of the signals; None if it is not there, or several are.
    scoring
        The file of the scoring; the same one if it holds both.
    settings
        What stands in the edf.toml.
    """

    signals: Path | None
    scoring: Path
    settings: EdfSettings

    def reading(self) -> Mapping[str, Any]:
        """Return how edf.toml says that the scoring is read, as of `formats.read_hypnogram`."""
        return {k: v for k, v in self.settings.reading(self.scoring).items() if v}

    def placed(self, hypnogram: Hypnogram) -> Hypnogram:
        """Place the scoring on the recording that there is, as `convert` does, by the clock.

        Raises
        ------
        DataError
            As `datasets.edf.place_scoring`, and if the signals' file is damaged.
        """
        if self.signals is None:
            return hypnogram
        ignored = [*edf.present_channels(self.signals, self.settings.ignore_channels)]
        recording = edf.read(self.signals, ignore_channels=ignored)
        placed = place_scoring(
            hypnogram,
            recording,
            self.settings,
            self.scoring.name,
            is_own=self.signals == self.scoring,
        )
        return replace(placed, begin=add_seconds(placing.start_of(recording), placed.onset))


def recording_beside(scoring: Path) -> RecordingBeside | None:
    """Find a scoring in the nearest edf.toml that names it; None if none does.

    Raises
    ------
    DataError
        If an edf.toml on the way is invalid.
    """
    file = scoring.absolute()
    for folder in file.parents:
        settings_file = folder / SETTINGS
        if not settings_file.is_file():
            continue
        settings = load_settings(settings_file)
        name = file.relative_to(folder).as_posix()
        if any(match_names(pattern, [name], settings_file) for pattern in settings.hypnograms):
            return RecordingBeside(_signals(folder, file), file, settings)
    return None


def _signals(folder: Path, scoring: Path) -> Path | None:
    """Find the one file of signals that a scoring is of."""
    try:
        sources = find(folder)
    except DataError:
        return None  # no file is named as the signals are
    for source in sources:
        signals, *scored, _ = source.files
        if scoring in scored and not source.problem:
            return signals
    return None
