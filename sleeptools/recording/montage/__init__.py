"""What a channel is: its modality and canonical name, its unit, and the montage of a model."""

from sleeptools.recording.montage.channels import Channel, Match, match, pick
from sleeptools.recording.montage.names import MODALITIES, canonical, canonical_names, modality
from sleeptools.recording.montage.units import ELECTRODES, MICROVOLTS, in_microvolts, suspicion

__all__ = [
    "ELECTRODES",
    "MICROVOLTS",
    "MODALITIES",
    "Channel",
    "Match",
    "canonical",
    "canonical_names",
    "in_microvolts",
    "match",
    "modality",
    "pick",
    "suspicion",
]
