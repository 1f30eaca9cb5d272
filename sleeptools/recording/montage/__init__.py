"""Channels of a recording: canonical names, modalities and units, and the montage of a model."""

from sleeptools.recording.montage.channels import Match, MontageChannel, match, pick
from sleeptools.recording.montage.names import (
    MODALITIES,
    canonical,
    canonical_names,
    electrodes,
    modality,
)
from sleeptools.recording.montage.units import (
    MICROVOLTS,
    VOLTAGE_MODALITIES,
    decoded_unit,
    in_microvolts,
    suspicion,
)

__all__ = [
    "MICROVOLTS",
    "MODALITIES",
    "VOLTAGE_MODALITIES",
    "Match",
    "MontageChannel",
    "canonical",
    "canonical_names",
    "decoded_unit",
    "electrodes",
    "in_microvolts",
    "match",
    "modality",
    "pick",
    "suspicion",
]
