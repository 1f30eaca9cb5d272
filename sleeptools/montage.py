"""What a channel is: its modality by label, its unit in microvolts, and the montage of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sleeptools.errors import DataError
from sleeptools.recording import Recording, Signal

MICROVOLTS: Final[Mapping[str, float]] = {
    "uV": 1.0,
    "\u00b5V": 1.0,  # micro sign
    "\u03bcV": 1.0,  # Greek letter mu
    "mV": 1e3,
    "V": 1e6,
    "nV": 1e-3,
}
"""Factor from a unit as files write it to microvolts."""

ELECTRODES: Final = ("eeg", "eog", "emg", "ecg")
"""Modalities that are voltages; their unit must be known."""

PATTERNS: Final = (
    ("eog", r"\b(eog|loc|roc|e1|e2)\b"),
    ("emg", r"\b(emg|chin|submental|tib|leg)"),
    ("ecg", r"\b(ecg|ekg|ecg[12]?)\b"),
    ("resp", r"\b(resp|flow|thor|abdo|nasal|snore|airflow|pressure)"),
    ("temp", r"\btemp"),
    ("oximetry", r"\b(spo2|sao2|pleth|pulse|h\.?r\.?)"),
    ("event", r"\b(event|marker|status|annotation)"),
    ("eeg", r"\b(eeg|fp[z12]|a?f[z3478]|f[cpt]?[z1-9]|c[pz]?[z1-6]|p[oz]?[z3478]|t[3-8]|o[z12])\b"),
)


def modality(label: str) -> str:
    """Tell a channel's modality from its label.

    Returns
    -------
    modality
        "eeg", "eog", "emg", "ecg", "resp", "temp", "oximetry", "event" or "other".
    """
    text = label.lower().replace("-", " ").replace("_", " ")
    return next((name for name, pattern in PATTERNS if re.search(pattern, text)), "other")


def pick(recording: Recording, montage: Sequence[str]) -> list[Signal]:
    """Find a montage's signals in a recording, in the montage's order.

    Raises
    ------
    DataError
        If a signal is missing, or a voltage's unit is not known; the hint lists what is there.
    """
    signals = []
    for label in montage:
        signal = recording.signal(label)
        if signal.modality in ELECTRODES and signal.unit != "uV":
            raise DataError(
                f"{recording.id}: signal {label!r} has unit {signal.unit!r}; expected a voltage",
                hint=f"known units: {', '.join(MICROVOLTS)}",
            )
        signals.append(signal)
    return signals
