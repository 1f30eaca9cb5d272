"""What can be asked for when recordings are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sleeptools.commands.score.lights import LightsTime
from sleeptools.native import Precision


@dataclass(frozen=True)
class ScoreOptions:
    """What can be asked for when recordings are scored.

    Parameters
    ----------
    only
        Kinds of files to write of each night, among `files.KINDS`; all of them if empty.
    channels
        Signals to take for channels of the model's montage: by the channel's name a label, a name
        or a pair of electrodes to be subtracted.
    match_channels_by_order
        For a channel that a recording has not, take its first signal of that modality that no other
        channel takes.
    ignore_channels
        Labels of signals to leave out; listed in the manifest.
    assume_unit
        Unit of voltages for which the file gives none; the preset's if left out.
    lights_off, lights_on
        When the lights went off and on; None for what annotations or the data set say.
    precision, threads, calibrated, without
        As in `Engine.load`.
    """

    only: Sequence[str] = ()
    channels: Mapping[str, str] = field(default_factory=dict)
    match_channels_by_order: bool = False
    ignore_channels: Sequence[str] = ()
    assume_unit: str | None = None
    lights_off: LightsTime | None = None
    lights_on: LightsTime | None = None
    precision: Precision = "fp32"
    threads: int | None = None
    calibrated: bool = True
    without: Sequence[str] = ()

    def called(self, names: Mapping[str, str]) -> ScoreOptions:
        """Return the options for signals that have new names, by their labels in the file."""
        channels = {name: names.get(source, source) for name, source in self.channels.items()}
        return replace(self, channels=channels)

    def night_facts(self) -> list[str]:
        """List what the score of a night depends on beside its file and the model."""
        chosen = [f"{name}={source}" for name, source in self.channels.items()]
        order = ["by order"] if self.match_channels_by_order else []
        ignored = [f"ignore {label}" for label in self.ignore_channels]
        return [*ignored, *chosen, *order, f"{self.lights_off}", f"{self.lights_on}"]
