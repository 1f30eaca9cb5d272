"""The recording that a scoring is of, where an edf.toml says so, and how it is read then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sleeptools.datasets.edf import find, place_scoring
from sleeptools.datasets.shared.edf_settings import SETTINGS, EdfSettings, load_settings
from sleeptools.formats import edf
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import Hypnogram, add_seconds


@dataclass(frozen=True)
class RecordingBeside:
    """A recording whose scoring an edf.toml names.

    Parameters
    ----------
    signals
        The file of the signals.
    scoring
        The file of the scoring; the same one if it holds both.
    settings
        What stands in the edf.toml.
    """

    signals: Path
    scoring: Path
    settings: EdfSettings

    def reading(self) -> Mapping[str, Any]:
        """Return how edf.toml says that the scoring is read, as of `formats.read_hypnogram`."""
        return {k: v for k, v in self.settings.reading(self.scoring).items() if v}

    def placed(self, hypnogram: Hypnogram) -> Hypnogram:
        """Place the scoring on the recording, as `convert` does, with its clock time.

        Raises
        ------
        DataError
            As `datasets.edf.place_scoring`, and if the signals' file is damaged.
        """
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
    """Find the recording of a scoring by the nearest edf.toml that names it; None if none does.

    Raises
    ------
    DataError
        If an edf.toml on the way is invalid.
    """
    file = scoring.absolute()
    for folder in file.parents:
        if not (folder / SETTINGS).is_file():
            continue
        settings = load_settings(folder / SETTINGS)
        for source in find(folder):
            signals, *scored, _ = source.files
            if file in scored and not source.problem:
                return RecordingBeside(signals, file, settings)
    return None
