"""What can be asked for when a page of review is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class ReviewOptions:
    """What can be asked for when a page of review is made.

    Parameters
    ----------
    scores
        Folder that `score` wrote, or a scoring of any known format; if left out, the scoring that
        edf.toml names, the recording's own, or none.
    edits
        Exported review to go on with.
    channels
        Signals to show, from the top: labels, names or pairs of electrodes to be subtracted; those
        of the scores and the EOG and EMG if empty.
    gains
        What half a lane stands for, by the name of a channel or of a modality.
    scorer
        Name of who will correct.
    species
        "human" or "mouse": the stage list where no scoring has one; that of edf.toml, or the human
        one, if left out.
    epoch_seconds
        Length of an epoch where no scoring says it, s; that of edf.toml, 30 s of people or 4 s of
        mice if left out.
    scheme
        What the labels of a scoring mean, as in `formats.read_hypnogram`; as edf.toml says of a
        scoring that it names if left out.
    assume_unit
        Unit of voltages for which the file gives none.
    force
        Replace a page that this command did not write, or wrote of another recording.
    """

    scores: Path | None = None
    edits: Path | None = None
    channels: Sequence[str] = ()
    gains: Mapping[str, float] = field(default_factory=dict)
    scorer: str = ""
    species: str | None = None
    epoch_seconds: float | None = None
    scheme: str | None = None
    assume_unit: str | None = None
    force: bool = False

    def called(self, names: Mapping[str, str]) -> ReviewOptions:
        """Return the options for signals that have new names, by their labels in the file."""
        channels = [names.get(channel, channel) for channel in self.channels]
        gains = {names.get(channel, channel): gain for channel, gain in self.gains.items()}
        return replace(self, channels=channels, gains=gains)
